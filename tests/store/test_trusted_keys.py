"""The operator's trusted keys: storage, use in verification, and a record of each change."""

from __future__ import annotations

import json

import pytest

from host.errors import InputError, NotFound, StateError
from host.store.audit_log.log import AuditLog
from host.store.sql import select, update
from host.store.tables import audit, rules, trusted_keys
from host.store.trusted_keys import TrustStore, check_namespace
from host.trust.keys import SigningKey
from host.trust.verification import Rule, Trust, TrustedKey

KEY, OTHER = SigningKey.generate().public, SigningKey.generate("ed25519").public


@pytest.fixture
def store(audit_log: AuditLog) -> TrustStore:
    return TrustStore(audit_log)


def recorded(audit_log: AuditLog) -> list[tuple[str, dict[str, object]]]:
    with audit_log.database.reading() as connection:
        rows = connection.execute(select(audit.c.kind, audit.c.detail).order_by(audit.c.seq))
        return [(row.kind, json.loads(row.detail)) for row in rows]


def test_nobody_is_trusted_unasked(store: TrustStore) -> None:
    assert store.snapshot() == Trust([], {})
    assert store.snapshot().rule("acme") == Rule()


def test_a_key_is_trusted_for_the_namespaces_that_were_named(store: TrustStore) -> None:
    store.add(KEY, ["acme", "globex"], "Acme's release key")
    store.add(OTHER, ["acme"])
    assert store.snapshot().keys == [
        TrustedKey(KEY, frozenset({"acme", "globex"}), comment="Acme's release key"),
        TrustedKey(OTHER, frozenset({"acme"})),
    ]


def test_further_namespaces_join_those_before(store: TrustStore, audit_log: AuditLog) -> None:
    store.add(KEY, ["acme"], "Acme")
    kept = store.add(KEY, ["acme", "globex"])
    assert (kept.trusted.namespaces, kept.trusted.comment) == (frozenset({"acme", "globex"}), "Acme")
    assert recorded(audit_log)[-1] == ("trust.added", {"key": KEY.id, "namespaces": ["globex"], "comment": "Acme"})


def test_a_comment_takes_the_place_of_the_one_before(store: TrustStore) -> None:
    store.add(KEY, ["acme"], "Acme")
    assert store.add(KEY, ["acme"], "Acme, 2027").trusted.comment == "Acme, 2027"


def test_what_changes_nothing_is_not_recorded(store: TrustStore, audit_log: AuditLog) -> None:
    store.add(KEY, ["acme"], "Acme")
    store.require("acme", Rule(threshold=2))
    store.revoke(KEY.id)
    before = recorded(audit_log)
    store.require("acme", Rule(threshold=2))
    store.require("globex", None)
    store.revoke(KEY.id)
    assert recorded(audit_log) == before
    assert [kind for kind, _ in before] == ["trust.added", "trust.ruled", "trust.revoked"]


def test_adding_the_same_twice_is_recorded_once(store: TrustStore, audit_log: AuditLog) -> None:
    first = store.add(KEY, ["acme"])
    assert store.add(KEY, ["acme"]) == first
    assert len(recorded(audit_log)) == 1


def test_a_revoked_key_stays_and_is_never_trusted_again(store: TrustStore) -> None:
    store.add(KEY, ["acme", "globex"])
    assert store.revoke(KEY.id).revoked_at is not None
    (trusted,) = store.snapshot().keys
    assert trusted.revoked
    with pytest.raises(InputError, match="was revoked"):
        store.add(KEY, ["initech"])


@pytest.mark.parametrize("told", [lambda ident: ident, lambda ident: ident[:15], lambda ident: ident[7:]])
def test_a_key_is_found_by_the_beginning_of_its_id(store: TrustStore, told) -> None:
    store.add(KEY, ["acme"])
    assert store.key(told(KEY.id)).id == KEY.id


@pytest.mark.parametrize(
    "ident",
    [
        pytest.param("", id="nothing"),
        pytest.param("sha256:", id="the algorithm alone"),
        pytest.param("sha256:0", id="a digit"),
        pytest.param("0" * 64, id="another key"),
        pytest.param("%", id="a wildcard"),
        pytest.param(KEY.id[:14], id="too few digits"),
        pytest.param(KEY.id + "0", id="a digit too many"),
        pytest.param(KEY.id.upper(), id="capitals"),
    ],
)
def test_what_names_no_key_or_too_many(store: TrustStore, ident: str) -> None:
    store.add(KEY, ["acme"])
    with pytest.raises(NotFound):
        store.revoke(ident)


def test_a_namespaces_rule_comes_and_goes(store: TrustStore) -> None:
    store.require("local", Rule(threshold=2))
    store.require("acme", Rule(require_signature=False))
    assert (
        store.rules() == store.snapshot().rules == {"local": Rule(threshold=2), "acme": Rule(require_signature=False)}
    )
    store.require("local", None)
    assert store.rules() == {"acme": Rule(require_signature=False)}


@pytest.mark.parametrize(
    "text", ["", "Acme", "acme.tool", "a:b", "a@b", "acme ", "-a", "a/b", "*", "a" * 65, "ä", "a\n"]
)
def test_what_is_no_namespace(store: TrustStore, text: str) -> None:
    for refused in (lambda: store.add(KEY, [text]), lambda: store.require(text, Rule()), lambda: check_namespace(text)):
        with pytest.raises(InputError):
            refused()
    assert store.all() == []


def test_a_key_without_a_namespace_is_not_trusted(store: TrustStore) -> None:
    with pytest.raises(InputError, match="at least one namespace"):
        store.add(KEY, [])


def test_where_a_row_was_swapped_nobody_is_trusted(store: TrustStore, audit_log: AuditLog) -> None:
    store.add(KEY, ["acme"])
    with audit_log.database.writing() as connection:
        connection.execute(update(trusted_keys).values(pem=OTHER.pem))
    with pytest.raises(StateError, match="was changed"):
        store.snapshot()


def test_where_a_row_cannot_be_read_nobody_is_trusted(store: TrustStore, audit_log: AuditLog) -> None:
    store.add(KEY, ["acme"])
    with audit_log.database.writing() as connection:
        connection.execute(update(trusted_keys).values(pem="-----BEGIN"))
    with pytest.raises(StateError, match="was changed"):
        store.snapshot()


def test_one_row_that_is_revoked_revokes_the_key(store: TrustStore, audit_log: AuditLog) -> None:
    store.add(KEY, ["acme", "globex"])
    with audit_log.database.writing() as connection:
        connection.execute(update(trusted_keys).where(trusted_keys.c.namespace == "globex").values(revoked_at=1.0))
    assert store.snapshot().keys[0].revoked


def test_a_threshold_of_none_in_the_database_is_no_rule_but_an_error(store: TrustStore, audit_log: AuditLog) -> None:
    store.require("acme", Rule())
    with audit_log.database.writing() as connection:
        connection.execute(update(rules).values(threshold=0))
    with pytest.raises(StateError, match="was changed"):
        store.snapshot()
