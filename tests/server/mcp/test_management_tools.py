"""The tools `component`, `secret`, `policy` and `audit`, and that nobody reaches the last three who may only run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from mcp import MCPError

from host.core.names import Reference
from host.runtime.workspace import Workspace
from host.server.mcp import management_tools as management
from host.store.audit_log.records import Wanted, newest_records
from tests.conftest import KEY
from tests.server.conftest import OPENAI, Server
from tests.server.mcp.conftest import ERAS, asked, called, posted

VALUE = "sk-test-0000-a-value-that-is-told-to-nobody"
EVERY = [
    ("secret", {"action": "list"}),
    ("secret", {"action": "set", "name": "OPENAI_API_KEY", "value": VALUE}),
    ("secret", {"action": "delete", "name": "OPENAI_API_KEY"}),
    ("secret", {"action": "grant", "name": "OPENAI_API_KEY", "reference": "c:local.openai", "reveal": True}),
    ("secret", {"action": "revoke", "name": "OPENAI_API_KEY", "reference": "c:local.openai"}),
    ("policy", {"action": "show", "reference": "c:local.openai"}),
    ("policy", {"action": "set", "reference": "c:local.openai", "field": "timeout", "value": "1s"}),
    ("policy", {"action": "reset", "reference": "c:local.openai"}),
    ("policy", {"action": "check", "reference": "c:local.openai", "url": "https://api.openai.com/v1/models"}),
    ("audit", {"action": "list"}),
    ("audit", {"action": "verify"}),
]
NAMES = [f"{name} {arguments['action']}" for name, arguments in EVERY]


@pytest.fixture
def admin(key: Callable[..., str]) -> str:
    return key("boss", type="admin")


def listed(server: Server, bearer: str) -> set[str]:
    async def ask(client: Any) -> set[str]:
        return {one.name for one in (await client.list_tools()).tools}

    return asked(server, ask, bearer)


def test_management_is_listed_for_whoever_manages_alone(server: Server, admin: str, key: Callable[..., str]) -> None:
    tools = {"secret", "policy", "audit"}
    assert tools <= listed(server, admin)
    assert not tools & listed(server, key("runner"))
    assert not tools & listed(server, key("page", type="public"))


def test_every_action_of_management_is_attacked_below() -> None:
    actions = {
        name: set(schema["properties"]["action"]["enum"])
        for name, schema in (
            ("secret", management._SECRET),
            ("policy", management._POLICY),
            ("audit", management._AUDIT),
        )
    }
    assert {(name, action) for name, found in actions.items() for action in found} == {
        (name, arguments["action"]) for name, arguments in EVERY
    }


@pytest.mark.parametrize("kind", ["public", "secret", "anonymous"])
@pytest.mark.parametrize(("name", "arguments"), EVERY, ids=NAMES)
def test_a_key_that_may_run_cannot_manage(
    server: Server, workspace: Workspace, key: Callable[..., str], kind: str, name: str, arguments: dict[str, Any]
) -> None:
    bearer = "" if kind == "anonymous" else key(type=kind)
    before = workspace.stamp()
    answer = posted(server, "tools/call", {"name": name, "arguments": arguments}, bearer)
    result = answer.json()["result"]
    assert result["isError"]
    assert result["structuredContent"]["error"]["type"] == "forbidden"
    assert workspace.stamp() == before
    assert VALUE not in answer.text
    [record] = newest_records(workspace.database, 10, Wanted(kind="request.refused"))
    assert record.decision == "deny"


@pytest.mark.parametrize(("name", "arguments"), EVERY, ids=NAMES)
def test_an_admin_can_and_no_value_comes_out(server: Server, admin: str, name: str, arguments: dict[str, Any]) -> None:
    answer = posted(server, "tools/call", {"name": name, "arguments": arguments}, admin)
    result = answer.json()["result"]
    assert not result["isError"], result
    assert VALUE not in answer.text
    assert KEY not in answer.text


def test_a_secret_is_kept_granted_and_taken_back(server: Server, admin: str, workspace: Workspace) -> None:
    def secret(**arguments: Any) -> Any:
        result = called(server, "secret", arguments, admin)
        assert not result.is_error, result
        return result.structured_content

    secret(action="set", name="TOKEN", value=VALUE)
    secret(action="grant", name="TOKEN", reference="c:local.openai", domains=["api.openai.com"], places=["url"])
    [token] = [one for one in secret(action="list")["secrets"] if one["name"] == "TOKEN"]
    assert token["kept_since"]
    assert token["used_by"] == ["c:local.openai"]
    [grant] = [one for one in workspace.grants.all() if str(one.secret) == "TOKEN"]
    assert grant.grant is not None
    assert grant.grant.places == frozenset({"url"})
    assert not secret(action="revoke", name="TOKEN", reference="c:local.openai")["granted"]
    secret(action="delete", name="TOKEN")
    assert "TOKEN" not in {one["name"] for one in secret(action="list")["secrets"]}


def test_a_secret_that_can_be_guessed_is_refused_unless_that_is_known(server: Server, admin: str) -> None:
    given = {"action": "set", "name": "PIN", "value": "48213907"}
    refused = called(server, "secret", given, admin)
    assert refused.is_error
    assert "it is weak" in str(refused)
    assert "48213907" not in str(refused)
    assert not called(server, "secret", {**given, "weak": True}, admin).is_error
    called(server, "secret", {"action": "delete", "name": "PIN"}, admin)


def test_a_grant_names_a_header_and_no_place_that_is_none(server: Server, admin: str, workspace: Workspace) -> None:
    given = {"action": "grant", "name": "TOKEN", "reference": "c:local.openai", "domains": ["api.openai.com"]}
    assert not called(server, "secret", {**given, "places": ["header:X-Own"]}, admin).is_error
    [grant] = [one for one in workspace.grants.all() if str(one.secret) == "TOKEN"]
    assert grant.grant is not None
    assert grant.grant.places == {"header", "header:x-own"}
    for place in ("header:Host", "header:a b", "header:X-Forwarded-For"):
        assert called(server, "secret", {**given, "places": [place]}, admin).is_error, place
    for place in ("cookie", "header:", ""):
        with pytest.raises(MCPError, match="places"):
            called(server, "secret", {**given, "places": [place]}, admin)
    called(server, "secret", {"action": "revoke", "name": "TOKEN", "reference": "c:local.openai"}, admin)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"action": "set", "name": VALUE + "!", "value": VALUE}, id="as the name"),
        pytest.param({"action": "set", "name": "TOKEN", "value": VALUE + "\n\n"}, id="with line breaks"),
        pytest.param({"action": "set", "name": "TOKEN", "value": [VALUE]}, id="in a list"),
        pytest.param({"action": VALUE, "name": "TOKEN"}, id="as the action"),
        pytest.param({"action": "set", "name": "TOKEN", "value": VALUE, "more": VALUE}, id="in another argument"),
    ],
)
def test_a_value_in_the_wrong_place_is_not_repeated(server: Server, admin: str, arguments: dict[str, Any]) -> None:
    answer = posted(server, "tools/call", {"name": "secret", "arguments": arguments}, admin)
    assert VALUE not in answer.text


def test_a_policy_is_set_field_by_field_and_holds_from_then_on(server: Server, admin: str) -> None:
    def policy(**arguments: Any) -> Any:
        result = called(server, "policy", {"reference": "c:local.openai", **arguments}, admin)
        assert not result.is_error, result
        return result.structured_content

    url = "https://other.example/x"
    assert not policy(action="check", url=url)["allowed"]
    shown = policy(action="set", field="allowed_domains", value=["api.openai.com", "other.example"])
    assert shown["set"]["allowed_domains"] == ["api.openai.com", "other.example"]
    assert shown["origins"]["allowed_domains"] == "c:local.openai"
    assert policy(action="reset", field="allowed_domains")["forgotten"] == ["allowed_domains"]
    assert "allowed_domains" not in policy(action="show")["set"]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"field": "allowed_domains", "value": "api.openai.com"}, id="no list"),
        pytest.param({"field": "allowed_domains", "value": ["*"]}, id="any domain"),
        pytest.param({"field": "timeout", "value": None}, id="no timeout"),
        pytest.param({"field": "timeout"}, id="no value"),
    ],
)
def test_a_policy_that_means_nothing_changes_nothing(
    server: Server, admin: str, workspace: Workspace, arguments: dict[str, Any]
) -> None:
    before = workspace.policies.document(OPENAI)
    result = called(server, "policy", {"action": "set", "reference": "c:local.openai", **arguments}, admin)
    assert result.is_error
    assert result.structured_content["error"]["param"]
    assert workspace.policies.document(OPENAI) == before


def test_a_field_that_no_policy_has_is_no_call(server: Server, admin: str) -> None:
    arguments = {"action": "set", "reference": "c:local.openai", "field": "unlimited", "value": True}
    with pytest.raises(MCPError) as raised:
        called(server, "policy", arguments, admin)
    assert raised.value.error.data["field"] == "field"


def test_the_record_is_told_and_verified(server: Server, admin: str) -> None:
    called(server, "policy", {"action": "set", "reference": "c:local.openai", "field": "timeout", "value": "9s"}, admin)
    found = called(server, "audit", {"action": "list", "kind": "policy.changed", "limit": 1}, admin).structured_content
    assert found["records"][0]["detail"]["set"] == {"timeout": "9s"}
    verified = called(server, "audit", {"action": "verify"}, admin).structured_content
    assert verified["whole"]
    assert verified["records"] > 0


def test_a_component_is_found_by_words_and_shown_with_its_authority(server: Server, key: Callable[..., str]) -> None:
    bearer = key()
    found = called(server, "component", {"action": "search", "query": "openai"}, bearer).structured_content
    assert [one["reference"] for one in found["components"]] == ["c:local.openai:0.1.0"]
    assert called(server, "component", {"action": "search", "query": "nope"}, bearer).structured_content == {
        "components": []
    }
    shown = called(server, "component", {"action": "inspect", "reference": "c:local.openai"}, bearer).structured_content
    rows = {one["authority"]: one for one in shown["authority"]}
    assert rows["HTTP requests"]["can"]
    assert rows["files"]["can"] is False
    assert shown["manifest"]["id"] == "catalyst:local.openai"
    assert shown["manifest"]["operation_kinds"]["models"] == 3
    some = {"action": "inspect", "reference": "c:local.openai", "operation": "models.*"}
    rows = called(server, "component", some, bearer).structured_content["manifest"]["operations"]
    assert "models.list" in {one["name"] for one in rows}
    assert "params" not in rows[0]


def test_an_operations_parameters_are_shown_where_one_asks(server: Server) -> None:
    arguments = {"action": "inspect", "reference": "c:local.openai", "operation": "models.get"}
    shown = called(server, "component", arguments).structured_content
    assert [one["name"] for one in shown["manifest"]["operations"] if "params" in one] == ["models.retrieve"]


def test_where_a_component_lies_on_the_host_is_not_told(server: Server, admin: str, workspace: Workspace) -> None:
    for arguments in ({"action": "inspect", "reference": "c:local.openai"}, {"action": "search", "query": ""}):
        result = called(server, "component", arguments, admin)
        assert not result.is_error
        assert "/tmp" not in result.content[0].text
        assert str(workspace.state_dir) not in result.content[0].text


@pytest.mark.parametrize("mode", ERAS)
def test_a_component_that_the_key_is_not_for_is_not_shown(server: Server, key: Callable[..., str], mode: str) -> None:
    bearer = key(catalysts=[Reference.parse("c:local.other")])
    assert called(server, "component", {"action": "search"}, bearer, mode).structured_content == {"components": []}
    result = called(server, "component", {"action": "inspect", "reference": "c:local.openai"}, bearer, mode)
    assert result.structured_content["error"]["type"] == "forbidden"
    assert "authority" not in json.dumps(result.structured_content)
