"""The grants of secrets to components."""

from __future__ import annotations

import json
from typing import Any

import pytest

from host.core.names import Reference, SecretName
from host.errors import NotFound, PolicyError, StateError
from host.policy.document import SecretGrant
from host.policy.urls import DomainPattern
from host.runtime.workspace import Workspace
from host.store.policies import SecretGrants
from host.store.sql import select, update
from host.store.tables import audit, secret_grants

NAME, OTHER = SecretName("OPENAI_API_KEY"), SecretName("OTHER_KEY")
ALL = Reference.parse("c:local.openai")
ONE, TWO = ALL.at("0.1.0"), ALL.at("0.2.0")


@pytest.fixture
def grants(workspace: Workspace) -> SecretGrants:
    return SecretGrants(workspace.audit_log)


def bound(*domains: str, places: frozenset[Any] = frozenset({"header"}), reveal: bool = False) -> SecretGrant:
    return SecretGrant(NAME, tuple(map(DomainPattern.parse, domains)), places, reveal)


def records(workspace: Workspace) -> list[tuple[str, dict[str, Any]]]:
    with workspace.database.reading() as connection:
        rows = connection.execute(select(audit.c.kind, audit.c.detail).order_by(audit.c.seq))
        return [(row.kind, json.loads(row.detail)) for row in rows]


def test_nothing_is_granted_to_begin_with(grants: SecretGrants) -> None:
    assert grants.of(ONE) == {}
    assert grants.all() == []


def test_without_domains_it_goes_where_the_policy_says(grants: SecretGrants) -> None:
    grants.grant(ALL, NAME)
    assert grants.of(ALL) == {NAME: None}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"domains": ["*.openai.com", "http://localhost:8080"]}, bound("*.openai.com", "http://localhost:8080"), id="domains"),
        pytest.param({"domains": []}, bound(), id="no domain at all"),
        pytest.param({"places": ["body", "url"]}, SecretGrant(NAME, None, frozenset({"body", "url"})), id="places"),
        pytest.param({"reveal": True}, SecretGrant(NAME, None, reveal=True), id="its value"),
    ],
)  # fmt: skip
def test_a_grant_comes_back_as_it_was_made(grants: SecretGrants, given: dict[str, Any], expected: SecretGrant) -> None:
    grants.grant(ONE, NAME, **given)
    assert grants.of(ONE) == {NAME: expected}


def test_a_later_grant_takes_the_place_of_the_one_before(grants: SecretGrants) -> None:
    grants.grant(ONE, NAME, domains=["a.example"], reveal=True)
    grants.grant(ONE, NAME, domains=["b.example"])
    assert grants.of(ONE) == {NAME: bound("b.example")}


def test_a_grant_without_a_version_is_for_all_of_them(grants: SecretGrants) -> None:
    grants.grant(ALL, NAME, domains=["a.example"])
    assert grants.of(ONE) == grants.of(TWO) == {NAME: bound("a.example")}


def test_a_grant_for_a_version_takes_the_place_of_the_one_for_all(grants: SecretGrants) -> None:
    grants.grant(ONE, NAME, domains=["one.example"])
    grants.grant(ALL, NAME, domains=["a.example"])
    grants.grant(ALL, OTHER)
    assert grants.of(ONE) == {NAME: bound("one.example"), OTHER: None}
    assert grants.of(TWO) == {NAME: bound("a.example"), OTHER: None}
    assert grants.of(ALL) == {NAME: bound("a.example"), OTHER: None}


@pytest.mark.parametrize("other", ["c:local.openai2", "c:acme.openai", "r:local.openai"])
def test_a_grant_is_for_that_component_alone(grants: SecretGrants, other: str) -> None:
    grants.grant(ALL, NAME)
    assert grants.of(Reference.parse(other)) == {}


def test_all_of_them_in_order(grants: SecretGrants) -> None:
    grants.grant(ONE, NAME)
    grants.grant(Reference.parse("c:acme.a"), OTHER, domains=["a.example"])
    grants.grant(ALL, OTHER)
    assert [(str(one.reference), str(one.secret)) for one in grants.all()] == [
        ("c:acme.a", "OTHER_KEY"),
        ("c:local.openai", "OTHER_KEY"),
        ("c:local.openai:0.1.0", "OPENAI_API_KEY"),
    ]


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"domains": ["*"]}, id="every domain there is"),
        pytest.param({"domains": ["https://a.example/path"]}, id="a URL for a domain"),
        pytest.param({"places": ["cookie"]}, id="a place that is none"),
        pytest.param({"places": []}, id="no place"),
    ],
)
def test_a_grant_that_cannot_be_meant_changes_nothing(
    grants: SecretGrants, workspace: Workspace, given: dict[str, Any]
) -> None:
    grants.grant(ONE, NAME, domains=["a.example"])
    with pytest.raises(PolicyError):
        grants.grant(ONE, NAME, **given)
    assert grants.of(ONE) == {NAME: bound("a.example")}
    assert [kind for kind, _ in records(workspace)] == ["secret.granted"]


def test_what_was_revoked_is_no_longer_granted(grants: SecretGrants) -> None:
    grants.grant(ONE, NAME)
    grants.grant(ONE, OTHER)
    grants.revoke(ONE, NAME)
    assert grants.of(ONE) == {OTHER: None}


def test_revoking_from_all_versions_leaves_none(grants: SecretGrants) -> None:
    for reference in (ALL, ONE, TWO):
        grants.grant(reference, NAME)
    grants.revoke(ALL, NAME)
    assert grants.all() == []


def test_revoking_from_a_version_leaves_the_others(grants: SecretGrants) -> None:
    grants.grant(ONE, NAME)
    grants.grant(TWO, NAME)
    grants.revoke(ONE, NAME)
    assert (grants.of(ONE), grants.of(TWO)) == ({}, {NAME: None})


def test_what_was_never_granted_cannot_be_revoked(grants: SecretGrants, workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="OPENAI_API_KEY is not granted to"):
        grants.revoke(ONE, NAME)
    assert records(workspace) == []


def test_nobody_believes_that_a_version_lost_what_all_versions_have(grants: SecretGrants) -> None:
    grants.grant(ALL, NAME)
    with pytest.raises(NotFound, match="is granted to all versions") as refused:
        grants.revoke(ONE, NAME)
    assert "host secret revoke c:local.openai OPENAI_API_KEY" in str(refused.value)


def test_every_grant_and_its_end_are_recorded(grants: SecretGrants, workspace: Workspace) -> None:
    grants.grant(ONE, NAME, domains=["a.example"], places=["url", "header"], reveal=True)
    grants.revoke(ONE, NAME)
    what = {"reference": "c:local.openai:0.1.0", "secret": "OPENAI_API_KEY"}
    assert records(workspace) == [
        ("secret.granted", {**what, "domains": ["a.example"], "in": ["header", "url"], "reveal": True}),
        ("secret.revoked", what),
    ]


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"domains": '["*"]'}, id="every domain there is"),
        pytest.param({"domains": "nonsense"}, id="no JSON"),
        pytest.param({"domains": '{"a": 1}'}, id="an object for a list"),
        pytest.param({"domains": "[1]"}, id="a number for a domain"),
        pytest.param({"places": '["everywhere"]'}, id="a place that is none"),
        pytest.param({"places": "null"}, id="nothing for places"),
        pytest.param({"secret": "no name"}, id="a name that is none"),
        pytest.param({"version": "not a version"}, id="a version that is none"),
    ],
)
def test_a_row_that_cannot_be_meant_grants_nothing(
    grants: SecretGrants, workspace: Workspace, columns: dict[str, str]
) -> None:
    grants.grant(ALL, NAME, domains=["a.example"])
    with workspace.database.writing() as connection:
        connection.execute(update(secret_grants).values(**columns))
    with pytest.raises(StateError, match="its row was changed"):
        grants.all()
