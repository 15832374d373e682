"""API keys: shown once, stored as a hash, with an expiry."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host import Reference
from host.core.quantities import Quota
from host.errors import InputError, NotFound, StateError
from host.runtime.workspace import Workspace
from host.store.access import api_keys as module
from host.store.access.api_keys import AT_MOST, SCOPES, ApiKeys, KeyRing, network
from host.store.access.key_text import new_id, new_text
from host.store.audit_log.log import AuditLog
from host.store.audit_log.records import records
from host.store.database import Database

EVERYTHING: dict[str, Any] = {
    "name": "web front end",
    "type": "secret",
    "scopes": ["run", "metrics"],
    "rate_limit": Quota.parse("100/1m"),
    "request_budget": Quota.parse("10k/1d"),
    "token_budget": Quota.parse("2M/30d"),
    "ip_allowlist": [network("10.0.0.0/8"), network("2001:db8::1")],
    "models": ["gpt-*", "o3"],
    "catalysts": [Reference.parse("c:local.openai"), Reference.parse("c:local.other:1.0.0")],
    "expires_at": 9_999_999_999.0,
}


@pytest.fixture
def keys(audit_log: AuditLog) -> ApiKeys:  # in place of the data keys: these are what is tested here
    return ApiKeys(audit_log)


@pytest.fixture
def audit_log(workspace: Workspace) -> AuditLog:
    return workspace.audit_log


@pytest.fixture
def database(workspace: Workspace) -> Database:
    return workspace.database


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], float]:
    """`later(60.0)` moves the clock by a minute."""
    now = [time.time()]

    def forward(seconds: float) -> float:
        now[0] += seconds
        return now[0]

    monkeypatch.setattr(module.time, "time", lambda: now[0])
    return forward


def test_a_key_gets_in_by_its_text_alone(keys: ApiKeys) -> None:
    key, text = keys.create(name="ci", type="secret")
    ring = keys.snapshot()
    assert ring.authenticate(text, time.time()) == key
    for other in (key.id, key.name, text[:-1], text + " ", text.swapcase(), "", new_text("secret", key.id)):
        assert ring.authenticate(other, time.time()) is None


def test_all_that_it_may_is_kept(keys: ApiKeys) -> None:
    key, text = keys.create(**EVERYTHING)
    assert keys.all() == [key]
    assert keys.find("web front end") == keys.find(key.id) == key
    assert keys.snapshot().authenticate(text, time.time()) == key
    assert key.scopes == {"run", "metrics"}
    for name in ("rate_limit", "request_budget", "token_budget", "expires_at"):
        assert getattr(key, name) == EVERYTHING[name]
    for name in ("ip_allowlist", "models", "catalysts"):
        assert list(getattr(key, name)) == EVERYTHING[name]


def test_the_text_is_nowhere(keys: ApiKeys, audit_log: AuditLog, raw: Callable[..., Any], state_dir: Path) -> None:
    made, first = keys.create(**EVERYTHING)
    _, second = keys.rotate(made.id, 60.0)
    ring = keys.snapshot()
    seen = [repr(raw("SELECT * FROM api_keys")), repr(raw("SELECT * FROM audit")), repr(made), repr(ring), repr(keys)]
    seen += [json.dumps(keys.find(made.id).as_dict())]
    seen += [file.read_bytes().decode("latin-1") for file in state_dir.rglob("*") if file.is_file()]
    assert all(made.id in one for one in seen[:3])
    for text in (first, second):
        secret = text.rpartition("_")[2]
        assert len(secret) == 38
        assert not any(secret in one for one in seen)


def test_of_the_text_the_hash_alone_is_kept_and_the_record_has_neither(
    keys: ApiKeys, database: Database, raw: Callable[..., Any]
) -> None:
    key, text = keys.create(**EVERYTHING)
    ((kept,),) = raw("SELECT hash FROM api_keys")
    assert bytes(kept) == hashlib.sha256(text.encode()).digest()
    (made,) = [one for one in records(database) if one.kind == "api_key.created"]
    assert made.detail == {
        "id": key.id,
        "name": "web front end",
        "type": "secret",
        "scopes": ["run", "metrics"],
        "rate_limit": "100/1m",
        "request_budget": "10k/1d",
        "token_budget": "2M/30d",
        "ip_allowlist": ["10.0.0.0/8", "2001:db8::1/128"],
        "models": ["gpt-*", "o3"],
        "catalysts": ["c:local.openai", "c:local.other:1.0.0"],
    }


def test_its_operations_are_kept_and_a_row_without_any_is_as_it_was(keys: ApiKeys, raw: Callable[..., Any]) -> None:
    some, _ = keys.create(name="some", type="public", operations=["chat.*", "files.delete", "chat.*"])
    every, _ = keys.create(name="every", type="secret")
    assert some.operations == ("chat.*", "files.delete")
    assert keys.all() == [some, every]
    assert some.as_dict()["operations"] == ["chat.*", "files.delete"]
    assert "operations" not in every.as_dict()
    rows = dict(raw("SELECT name, scopes FROM api_keys"))
    assert json.loads(rows["every"]) == ["run", "runs", "components"]
    assert json.loads(rows["some"]) == ["run", "operation:chat.*", "operation:files.delete"]


@pytest.mark.parametrize("glob", ["", "chat completions", "chat.*,files.*", "a" * 201, "chat.\n", "\u017f"])
def test_what_names_no_operations_is_a_mistake(keys: ApiKeys, glob: str) -> None:
    with pytest.raises(InputError) as raised:
        keys.create(name="ci", type="secret", operations=[glob])
    assert raised.value.field == "operations"
    assert keys.all() == []


class TestAnUpdate:
    def test_changes_what_is_given_and_nothing_else(self, keys: ApiKeys, database: Database) -> None:
        key, text = keys.create(**EVERYTHING)
        changed = keys.update(key.id, operations=["chat.*"], models=[], token_budget=None)
        assert (changed.operations, changed.models, changed.token_budget) == (("chat.*",), (), None)
        assert keys.all() == [changed]
        assert keys.snapshot().authenticate(text, time.time()) == changed
        for name in ("id", "name", "scopes", "rate_limit", "request_budget", "ip_allowlist", "catalysts", "expires_at"):
            assert getattr(changed, name) == getattr(key, name)
        [record] = [one for one in records(database) if one.kind == "api_key.changed"]
        assert record.detail["changed"] == ["models", "operations", "token_budget"]
        assert record.detail["operations"] == ["chat.*"]

    def test_that_changes_nothing_is_not_recorded(self, keys: ApiKeys, database: Database) -> None:
        key, _ = keys.create(**EVERYTHING)
        assert keys.update(key.name, models=EVERYTHING["models"]) == key
        assert not [one for one in records(database) if one.kind == "api_key.changed"]

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            pytest.param({"type": "admin"}, "type", id="its type"),
            pytest.param({"id": "ab12cd34ef56"}, "id", id="its id"),
            pytest.param({"hash": b""}, "hash", id="its hash"),
            pytest.param({"scopes": ["manage"]}, "scopes", id="to a scope beyond its type"),
            pytest.param({"scopes": []}, "scopes", id="to no scope"),
            pytest.param({"models": ["a b"]}, "models", id="to a model that is none"),
            pytest.param({"operations": ["a b"]}, "operations", id="to operations that are none"),
            pytest.param({"expires_at": 1.0}, "expires_at", id="to an end that was"),
        ],
    )
    def test_is_refused(self, keys: ApiKeys, changes: Any, field: str) -> None:
        key, _ = keys.create(**EVERYTHING)
        with pytest.raises(InputError) as raised:
            keys.update(key.id, **changes)
        assert raised.value.field == field
        assert keys.all() == [key]

    def test_does_not_bring_a_revoked_key_back(self, keys: ApiKeys) -> None:
        key, _ = keys.create(**EVERYTHING)
        keys.revoke(key.id)
        with pytest.raises(InputError, match="was revoked"):
            keys.update(key.id, expires_at=None)


@pytest.mark.parametrize(
    ("kind", "most", "default"),
    [
        ("public", {"run"}, {"run"}),
        ("secret", {"run", "runs", "components", "metrics"}, {"run", "runs", "components"}),
        ("admin", set(SCOPES), set(SCOPES)),
    ],
)
def test_a_type_has_what_it_has_by_default_and_never_more_than_it_may(
    keys: ApiKeys, kind: Any, most: set[Any], default: set[Any]
) -> None:
    assert AT_MOST[kind] == most
    assert keys.create(name="default", type=kind)[0].scopes == default
    assert keys.create(name="most", type=kind, scopes=most)[0].scopes == most
    for beyond in set(SCOPES) - most:
        with pytest.raises(InputError, match=f"cannot have the scope {beyond}"):
            keys.create(name="beyond", type=kind, scopes=["run", beyond])


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        pytest.param({"name": ""}, "name", id="no name"),
        pytest.param({"name": "a\nb"}, "name", id="a name of two lines"),
        pytest.param({"name": "x" * 65}, "name", id="a long name"),
        pytest.param({"name": "ci "}, "name", id="a name that ends in a blank"),
        pytest.param({"name": new_text("secret", new_id())}, "name", id="a name that looks like a key"),
        pytest.param({"type": "root"}, "type", id="another type"),
        pytest.param({"scopes": ["everything"]}, "scopes", id="another scope"),
        pytest.param({"scopes": []}, "scopes", id="no scope"),
        pytest.param({"models": ["gpt 4"]}, "models", id="a model with a blank"),
        pytest.param({"models": [""]}, "models", id="no model's name"),
        pytest.param({"catalysts": [Reference.parse("f:local.flow")]}, "catalysts", id="a reference to a formula"),
        pytest.param({"expires_at": 1.0}, "expires_at", id="over before it began"),
        pytest.param({"expires_at": float("nan")}, "expires_at", id="never and always"),
        pytest.param({"expires_at": float("inf")}, "expires_at", id="a date without end"),
    ],
)
def test_what_no_key_can_be_is_a_mistake_that_names_the_field(keys: ApiKeys, wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        keys.create(**{"name": "ci", "type": "secret", **wrong})
    assert caught.value.field == field
    assert keys.all() == []


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0", "all", "::/129"])
def test_what_is_no_network_is_a_mistake(text: str) -> None:
    with pytest.raises(InputError):
        network(text)


def test_two_keys_have_two_names_unless_one_is_over(keys: ApiKeys) -> None:
    first, _ = keys.create(name="ci", type="secret")
    with pytest.raises(InputError, match="there is a key 'ci' already"):
        keys.create(name="ci", type="public")
    keys.revoke("ci")
    second, _ = keys.create(name="ci", type="public")
    assert keys.find("ci") == second
    assert keys.find(first.id).revoked_at is not None
    keys.revoke("ci")
    assert keys.find("ci").id == second.id  # the newest of the revoked keys


@pytest.mark.parametrize("do", [ApiKeys.find, ApiKeys.rotate, ApiKeys.revoke])
def test_there_is_no_such_key(keys: ApiKeys, do: Callable[[ApiKeys, str], object]) -> None:
    with pytest.raises(NotFound, match="no key is called 'other'") as caught:
        do(keys, "other")
    assert caught.value.hint == "host key list shows those there are"


def test_a_text_given_in_place_of_a_name_is_not_repeated(keys: ApiKeys) -> None:
    _, text = keys.create(name="ci", type="secret")
    for given in (text, text[:-1]):
        with pytest.raises(NotFound) as caught:
            keys.find(given)
        assert text[20:50] not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.as_dict())


def test_a_new_text_takes_the_place_of_the_old_one_at_once(keys: ApiKeys) -> None:
    key, old = keys.create(name="ci", type="secret")
    rotated, new = keys.rotate("ci")
    ring = keys.snapshot()
    assert ring.authenticate(old, time.time()) is None
    assert ring.authenticate(new, time.time()) == rotated
    assert (rotated.id, rotated.rotated_at is None, key.rotated_at) == (key.id, False, None)


def test_with_an_overlap_the_old_text_works_until_that_is_over(keys: ApiKeys, later: Callable[[float], float]) -> None:
    _, old = keys.create(name="ci", type="secret")
    rotated, new = keys.rotate("ci", 60.0)
    ring = keys.snapshot()
    assert ring.authenticate(old, later(59.0)) == ring.authenticate(new, later(0.0)) == rotated
    assert ring.authenticate(old, later(1.0)) is None
    assert ring.authenticate(new, later(0.0)) == rotated


def test_of_two_rotations_the_text_before_the_last_is_the_old_one(keys: ApiKeys) -> None:
    _, oldest = keys.create(name="ci", type="secret")
    _, old = keys.rotate("ci", 60.0)
    _, new = keys.rotate("ci", 60.0)
    ring, now = keys.snapshot(), time.time()
    assert [ring.authenticate(text, now) is not None for text in (oldest, old, new)] == [False, True, True]
    keys.rotate("ci")
    ring = keys.snapshot()
    assert [ring.authenticate(text, now) for text in (oldest, old, new)] == [None, None, None]


@pytest.mark.parametrize("overlap", [-1.0, float("nan"), float("inf"), 1e300])
def test_an_overlap_is_a_span_of_time(keys: ApiKeys, overlap: float) -> None:
    _, text = keys.create(name="ci", type="secret")
    with pytest.raises(InputError):
        keys.rotate("ci", overlap)
    assert keys.snapshot().authenticate(text, time.time()) is not None


def test_a_key_that_was_revoked_is_over_with_both_its_texts(keys: ApiKeys) -> None:
    _, old = keys.create(name="ci", type="secret")
    _, new = keys.rotate("ci", 3600.0)
    revoked = keys.revoke("ci")
    ring = keys.snapshot()
    assert revoked.state(time.time()) == "revoked"
    assert [ring.authenticate(text, time.time()) for text in (old, new)] == [None, None]
    with pytest.raises(InputError, match="was revoked"):
        keys.rotate("ci")


def test_a_key_that_expired_is_over(keys: ApiKeys, later: Callable[[float], float]) -> None:
    key, text = keys.create(name="ci", type="secret", expires_at=later(0.0) + 60.0)
    ring = keys.snapshot()
    assert ring.authenticate(text, later(59.0)) == key
    assert ring.authenticate(text, later(1.0)) is None
    assert key.state(later(0.0)) == "expired"
    with pytest.raises(InputError, match="has expired"):
        keys.rotate("ci")


def test_a_server_whose_only_key_is_over_is_not_one_without_keys(
    keys: ApiKeys, later: Callable[[float], float]
) -> None:
    assert not keys.snapshot().any
    keys.create(name="ci", type="secret", expires_at=later(0.0) + 60.0)
    later(61.0)
    assert keys.snapshot().any
    keys.revoke("ci")
    assert keys.snapshot().any


def test_each_change_is_recorded_once(keys: ApiKeys, database: Database) -> None:
    keys.create(name="ci", type="secret")
    keys.rotate("ci", 60.0)
    keys.revoke("ci")
    keys.revoke("ci")
    with pytest.raises(InputError):
        keys.rotate("ci")
    kinds = [(one.kind, one.detail["name"]) for one in records(database)]
    assert kinds == [("api_key.created", "ci"), ("api_key.rotated", "ci"), ("api_key.revoked", "ci")]


def test_what_is_compared_is_as_long_for_nobody_as_for_anybody(keys: ApiKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same two comparisons of the same lengths for every key: known, unknown or rotated."""
    _, known = keys.create(name="ci", type="secret")
    _, rotated = keys.create(name="other", type="secret")
    keys.rotate("other", 60.0)
    ring = keys.snapshot()
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(module, "hmac", type("hmac", (), {"compare_digest": staticmethod(compare)}))
    for text in (known, rotated, new_text("secret", new_id()), "nothing like a key", ""):
        compared.clear()
        ring.authenticate(text, time.time())
        assert compared == [(32, 32), (32, 32)]


def test_two_processes_see_the_same_keys(keys: ApiKeys, state_dir: Path, database_url: str | None) -> None:
    key, text = keys.create(name="ci", type="secret")
    with Workspace.open(state_dir, database_url) as other:
        assert other.api_keys.snapshot().authenticate(text, time.time()) == key
        other.api_keys.revoke("ci")
    assert keys.snapshot().authenticate(text, time.time()) is None


def test_who_was_let_in_before_is_known_by_the_id_while_the_key_is_active(
    keys: ApiKeys, later: Callable[[float], float]
) -> None:
    key, _ = keys.create(name="ci", type="secret", expires_at=later(0.0) + 60.0)
    gone, _ = keys.create(name="gone", type="secret")
    keys.revoke("gone")
    ring = keys.snapshot()
    assert ring.active(key.id, later(0.0)) == key
    assert [ring.active(ident, later(0.0)) for ident in (gone.id, new_id(), "ci", "")] == [None] * 4
    assert ring.active(key.id, later(60.0)) is None


def test_nobody_is_in_an_empty_ring() -> None:
    ring = KeyRing([])
    assert not ring.any
    assert ring.authenticate(new_text("admin", new_id()), 0.0) is None


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("UPDATE api_keys SET type = 'root'", id="a type"),
        pytest.param("UPDATE api_keys SET scopes = '[\"manage\"]'", id="a scope beyond the type"),
        pytest.param("UPDATE api_keys SET scopes = '{'", id="scopes that are no JSON"),
        pytest.param("UPDATE api_keys SET rate_limit = 'unlimited'", id="a quota"),
        pytest.param("UPDATE api_keys SET ip_allowlist = '[\"everywhere\"]'", id="a network"),
        pytest.param("UPDATE api_keys SET models = '[7]'", id="a model"),
    ],
)
def test_a_row_that_says_what_no_key_can_is_no_key(keys: ApiKeys, raw: Callable[..., Any], statement: str) -> None:
    keys.create(name="ci", type="secret")
    raw(statement)
    for do in (keys.all, keys.snapshot, lambda: keys.find("ci")):
        with pytest.raises(StateError):
            do()
