"""Stored policies: the policy of a version, its origin, and that no mistake widens it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.cli.output.policy_text import EXAMPLES, read_value
from host.core.names import Reference
from host.errors import HostError, PolicyError, StateError
from host.policy.document import METHODS, Policy, Terms
from host.runtime.workspace import Workspace
from host.store.audit_log.log import AuditLog
from host.store.policies import FIELDS, Policies
from host.store.sql import update
from host.store.tables import settings

ALL = Reference.parse("c:local.openai")
ONE = ALL.at("0.1.0")


@pytest.fixture
def policies(audit_log: AuditLog) -> Policies:
    return Policies(audit_log)


def test_without_a_word_everything_is_denied_by_default(policies: Policies) -> None:
    effective = policies.effective(ONE)
    assert effective.policy == Policy()
    assert effective.origins == dict.fromkeys(FIELDS, "default")


def test_each_field_says_where_it_comes_from(policies: Policies) -> None:
    policies.set(ALL, "allowed_domains", ["a.test"])
    policies.set(ALL, "timeout", "30s")
    policies.set(ONE, "allowed_domains", ["b.test"])
    effective = policies.effective(ONE)
    assert effective.policy == Policy(allowed_domains=["b.test"], timeout="30s")
    assert {field: origin for field, origin in effective.origins.items() if origin != "default"} == {
        "allowed_domains": "c:local.openai:0.1.0",
        "timeout": "c:local.openai",
    }


def test_lists_are_replaced_and_never_joined(policies: Policies) -> None:
    policies.set(ALL, "allowed_domains", ["a.test", "b.test"])
    policies.set(ONE, "allowed_domains", [])
    assert policies.effective(ONE).policy.allowed_domains == []


def test_what_is_written_is_what_is_kept(policies: Policies) -> None:
    document = {"timeout": "90s", "max_request_size": "64MB", "secrets": {"KEY": {"in": "url", "reveal": True}}}
    policies.replace(ONE, document)
    assert policies.document(ONE) == document
    terms = policies.effective(ONE).policy.terms()
    assert (terms.limits.timeout_s, terms.limits.max_request_bytes) == (90.0, 64_000_000)
    [secret] = terms.secrets.values()
    assert (secret.places, secret.reveal) == (frozenset({"url"}), True)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        pytest.param("allowed_domain", ["a.test"], "unknown field 'allowed_domain'", id="a field that there is not"),
        pytest.param("allowed_domains", "a.test", "allowed_domains", id="a text for a list"),
        pytest.param("allowed_domains", ["*"], "unsafe_any_domain", id="every domain, without its long name"),
        pytest.param("timeout", "forever", "is not a duration", id="a duration that is none"),
        pytest.param("timeout", None, "timeout", id="nothing for a duration"),
        pytest.param("max_streams", True, "max_streams", id="true for a number"),
        pytest.param("max_response_size", -1, "max_response_size", id="a negative size"),
        pytest.param("secrets", {"KEY": {"domain": ["a.test"]}}, "secrets.KEY.domain", id="a misspelt field inside"),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(policies: Policies, field: str, value: Any, said: str) -> None:
    policies.set(ALL, "timeout", "5s")
    with pytest.raises(PolicyError) as error:
        policies.set(ALL, field, value)
    assert said in str(error.value)
    assert policies.all() == {ALL: {"timeout": "5s"}}


def damage(audit_log: AuditLog, **columns: str) -> None:
    with audit_log.database.writing() as connection:
        connection.execute(update(settings).values(**columns))


class TestEditedByHand:
    """An invalid row in the database denies; it never means "unlimited"."""

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param("", id="nothing"),
            pytest.param("{", id="no JSON"),
            pytest.param("null", id="null"),
            pytest.param('"*"', id="a word"),
            pytest.param('["*"]', id="every domain"),
            pytest.param("[1]", id="a number for a domain"),
            pytest.param('{"a.test": true}', id="an object for a list"),
            pytest.param('["a.test"]]', id="something behind it"),
        ],
    )
    def test_a_value_that_is_none(self, policies: Policies, audit_log: AuditLog, value: str) -> None:
        policies.set(ALL, "allowed_domains", ["a.test"])
        damage(audit_log, value=value)
        with pytest.raises((StateError, PolicyError)):
            policies.effective(ONE)

    def test_a_field_that_there_is_not(self, policies: Policies, audit_log: AuditLog) -> None:
        policies.set(ALL, "allowed_domains", ["a.test"])
        damage(audit_log, field="allow_everything")
        with pytest.raises(PolicyError, match=r"policy of c:local\.openai:0\.1\.0: unknown field"):
            policies.effective(ONE)

    def test_it_is_not_built_on(self, policies: Policies, audit_log: AuditLog) -> None:
        policies.set(ALL, "timeout", "5s")
        damage(audit_log, value='"forever"')
        with pytest.raises(StateError, match="host audit accept"):
            policies.set(ONE, "allowed_domains", ["a.test"])
        audit_log.accept()
        with pytest.raises(PolicyError, match="timeout"):
            policies.set(ONE, "allowed_domains", ["a.test"])
        policies.reset(ALL, "timeout")
        policies.set(ONE, "allowed_domains", ["a.test"])

    def test_a_document_that_is_right_takes_its_place(self, policies: Policies, audit_log: AuditLog) -> None:
        policies.set(ALL, "timeout", "5s")
        damage(audit_log, value='"forever"')
        audit_log.accept()
        policies.replace(ALL, {"timeout": "6s"})
        assert policies.document(ALL) == {"timeout": "6s"}


def test_another_process_sees_a_change_at_once(policies: Policies, state_dir: Path, database_url: str | None) -> None:
    with Workspace.open(state_dir, database_url) as other:
        policies.set(ALL, "max_streams", 1)
        assert other.policies.effective(ALL).policy.max_streams == 1


# A malformed edit never widens a policy.

WORDS = st.sampled_from(["a.test", "*.a.test", "*", "unsafe_any_domain", "GET", "10.0.0.0/8", "30s", "64MB", "KEY", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | WORDS, inner, max_size=3),
    max_leaves=8,
)
VALID = st.fixed_dictionaries(
    {},
    optional={
        "allowed_domains": st.lists(st.sampled_from(["a.test", "*.b.test", "http://[::1]:8080"]), max_size=3),
        "allowed_methods": st.lists(st.sampled_from(METHODS), max_size=3),
        "allowed_private": st.lists(st.sampled_from(["10.0.0.0/8", "127.0.0.1", "fd00::/8"]), max_size=2),
        "upstreams": st.dictionaries(st.just("https://a.test"), st.just("http://127.0.0.1:1"), max_size=1),
        "secrets": st.dictionaries(
            st.just("KEY"), st.fixed_dictionaries({}, optional={"reveal": st.booleans()}), max_size=1
        ),
        "rate_limit": st.none() | st.fixed_dictionaries({"requests": st.integers(0, 99), "window": st.just("1m")}),
        "timeout": st.sampled_from(["5s", "1m", 30, 0.5]),
        "max_response_size": st.sampled_from(["1MB", 0, "64MiB"]),
        "max_streams": st.integers(0, 9),
    },
)
FIELD = st.sampled_from(FIELDS) | st.text(max_size=20) | st.sampled_from(["allowed_domain", "Timeout", "secrets.KEY"])
TEXTS = (
    st.text()
    | JSON.map(json.dumps)
    | JSON.map(json.dumps).map(lambda text: text[:-1])
    | st.sampled_from([json.dumps(example) for example in EXAMPLES.values()])
    | WORDS
)
_fresh = itertools.count()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Policies]:
    with Workspace.open(tmp_path_factory.mktemp("kept")) as workspace:
        yield workspace.policies


def edited(kept: Policies, start: dict[str, Any], field: str, edit: Any) -> None:
    """Compares the effect of `edit` with its allowed effect. `start` applies to all versions, the edit to one."""
    one = Reference.parse(f"c:local.x{next(_fresh)}").at("1.0.0")
    kept.replace(one.any_version, start)
    before = kept.effective(one).policy
    try:
        edit(one)
    except HostError:
        assert terms_of(kept, one) == before.terms()
        assert kept.document(one) == {}
        return
    [(changed, value)] = kept.document(one).items()
    assert changed == field
    after = kept.effective(one).policy
    assert getattr(after, field) == getattr(Policy.from_document({field: value}), field)
    assert others(after, field) == others(before, field)


def terms_of(kept: Policies, reference: Reference) -> Terms:
    return kept.effective(reference).policy.terms()


def others(policy: Policy, field: str) -> dict[str, Any]:
    return {name: value for name, value in asdict(policy).items() if name != field}


@given(start=VALID, field=FIELD, value=JSON)
def test_any_edit_is_exactly_its_field_and_valid_or_changes_nothing(
    kept: Policies, start: dict[str, Any], field: str, value: Any
) -> None:
    edited(kept, start, field, lambda one: kept.set(one, field, value))


@given(start=VALID, field=FIELD, text=TEXTS)
def test_any_text_typed_is_exactly_its_field_and_valid_or_changes_nothing(
    kept: Policies, start: dict[str, Any], field: str, text: str
) -> None:
    edited(kept, start, field, lambda one: kept.set(one, field, read_value(one, field, text)))


@given(start=VALID, document=JSON | st.dictionaries(FIELD, JSON, max_size=3))
def test_any_document_is_taken_whole_or_not_at_all(kept: Policies, start: dict[str, Any], document: Any) -> None:
    one = Reference.parse(f"c:local.x{next(_fresh)}")
    kept.replace(one, start)
    try:
        kept.replace(one, document)
    except HostError:
        assert kept.document(one) == start
    else:
        assert kept.effective(one).policy == Policy.from_document(kept.document(one))
