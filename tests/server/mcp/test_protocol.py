"""The transport: every version of the protocol, what is refused, and that nothing has to come before a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from mcp import MCPError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, KNOWN_PROTOCOL_VERSIONS

from host.server import ServerSettings
from host.server.mcp.operation_tools import Operations
from tests.server.conftest import Server
from tests.server.mcp.conftest import asked, called, posted

LIST = {"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {}}


def test_the_official_client_negotiates_the_newest_version_of_each_era(server: Server, era: str) -> None:
    async def negotiated(client: Any) -> tuple[str, str]:
        return client.protocol_version, client.server_info.name

    newest = KNOWN_PROTOCOL_VERSIONS[-1] if era != "legacy" else HANDSHAKE_PROTOCOL_VERSIONS[-1]
    expected = (newest, "catalyst-host")
    if era == "2026-07-28":  # which was agreed on beforehand, so that there was nobody to introduce himself yet
        expected = (newest, asked(server, negotiated, mode="auto")[1])
        assert asked(server, negotiated, mode="auto") == expected
    else:
        assert asked(server, negotiated, mode=era) == expected


@pytest.mark.parametrize("version", HANDSHAKE_PROTOCOL_VERSIONS)
def test_every_version_with_a_handshake_is_served_as_it_was_asked_for(server: Server, version: str) -> None:
    hello = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    said = posted(server, "initialize", hello, **{"mcp-protocol-version": version}).json()["result"]
    assert said["protocolVersion"] == version
    assert said["serverInfo"]["name"] == "catalyst-host"
    assert "tools" in said["capabilities"]
    names = {
        one["name"]
        for one in posted(server, "tools/list", {}, **{"mcp-protocol-version": version}).json()["result"]["tools"]
    }
    assert "openai_models_list" in names
    arguments = {"name": "openai_models_list", "arguments": {}}
    answer = posted(server, "tools/call", arguments, **{"mcp-protocol-version": version})
    assert answer.headers["content-type"] == "application/json"
    assert "mcp-session-id" not in answer.headers
    assert answer.json()["result"]["content"][0]["text"].startswith('{"object"')


def test_a_version_that_nobody_knows_is_refused_with_those_there_are(server: Server) -> None:
    answer = posted(server, "tools/list", {}, **{"mcp-protocol-version": "1999-12-31"})
    assert answer.status_code == 400
    assert "error" in answer.json()


def test_a_client_that_says_nothing_of_versions_or_of_what_it_accepts_is_answered(server: Server) -> None:
    request = httpx2.Request("POST", f"{server.url}/mcp", json=LIST)
    assert "accept" not in request.headers
    with httpx2.Client(trust_env=False) as client:
        answer = client.send(request)
    assert answer.status_code == 200
    assert answer.json()["id"] == 7


@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
def test_mcp_is_there_without_a_redirect(server: Server, path: str) -> None:
    answer = server.post(path, json=LIST, headers={"accept": "*/*"})
    assert (answer.status_code, answer.json()["id"]) == (200, 7)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_there_are_no_sessions_to_listen_to_or_to_end(server: Server, method: str) -> None:
    answer = server.request(method, "/mcp", headers={"accept": "text/event-stream"})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"{", 400, id="no JSON"),
        pytest.param(b"\xff", 400, id="no UTF-8"),
        pytest.param(b"[]", 400, id="a batch"),
        pytest.param(b'{"jsonrpc": "2.0", "id": 1}', 400, id="no method"),
        pytest.param(b"[" * 100_000, 400, id="nested too deeply"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":NaN}}', 400, id="NaN"),
    ],
)
def test_what_is_no_message_is_refused(server: Server, body: bytes, status: int) -> None:
    answer = server.post("/mcp", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.json()["error"]["code"] < 0
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("body", "status", "ident"),
    [
        pytest.param(b'{"jsonrpc":"2.0","id":1.0,"method":"ping"}', 200, 1, id="1.0"),
        pytest.param(b'{"jsonrpc":"2.0","id":"a","method":"ping"}', 200, "a", id="a text"),
        pytest.param(b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping"}', 200, 1, id="a byte order mark"),
        pytest.param(b'\r\n{"jsonrpc":"2.0","id":1,"method":"ping"}\r\n', 200, 1, id="blank lines"),
        pytest.param(b'{"jsonrpc":"2.0","id":null,"method":"ping"}', 400, None, id="null"),
        pytest.param(b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', 400, None, id="1.5"),
        pytest.param(b'{"id":3,"method":"ping"}', 400, 3, id="no version"),
        pytest.param(b'{"jsonrpc":"2.0","id":3,"method":"ping","params":[1]}', 400, 3, id="parameters in a list"),
        pytest.param(b'[{"jsonrpc":"2.0","id":3,"method":"ping"}]', 400, None, id="a batch"),
    ],
)
@pytest.mark.parametrize("version", ["2025-03-26", "2025-11-25"])
def test_an_id_is_answered_or_it_is_said_what_is_wrong(
    server: Server, body: bytes, status: int, ident: object, version: str
) -> None:
    headers = {"content-type": "application/json", "mcp-protocol-version": version, "accept": "*/*"}
    answer = server.post("/mcp", content=body, headers=headers)
    said = answer.json()
    assert (answer.status_code, said["id"]) == (status, ident)
    assert type(said["id"]) is type(ident)
    assert ("result" in said) == (status == 200)
    if body.startswith(b"["):
        assert said["error"]["message"] == "batches are not answered here: send each message in a request of its own"


def test_a_lone_surrogate_goes_no_further(server: Server) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"openai_embeddings_create","arguments":{"model":"m","input":"\\ud800"}}}'
    for version in ("2025-11-25", None):
        headers = {"content-type": "application/json", **({"mcp-protocol-version": version} if version else {})}
        answer = server.post("/mcp", content=body, headers=headers)
        assert answer.status_code == 200
        assert not answer.json()["result"]["isError"], answer.text


def test_a_body_that_is_too_large_is_not_read_to_its_end(serving: Callable[..., Server]) -> None:
    server = serving(ServerSettings(max_body_bytes=1000))
    assert posted(server, "tools/list", {"x": "y" * 2000}).status_code == 413


def test_without_a_key_there_is_no_tool(server: Server, key: Callable[..., str]) -> None:
    key()
    answer = posted(server, "tools/list", {})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["error"]["data"]["type"] == "unauthenticated"


def test_a_key_that_is_none_is_told_no_more_than_one_that_was_revoked(
    server: Server, key: Callable[..., str], workspace: Any
) -> None:
    bearer = key("gone")
    key("other")
    workspace.api_keys.revoke("gone")
    answers = [posted(server, "tools/list", {}, text) for text in (bearer, "host_sk_nothing", "x")]
    assert {one.status_code for one in answers} == {401}
    assert len({one.text for one in answers}) == 1


def test_a_page_of_another_site_cannot_call_tools(server: Server) -> None:
    assert posted(server, "tools/list", {}, origin="https://evil.example").status_code == 403


def test_a_name_that_was_rebound_to_this_server_does_not_reach_it(server: Server) -> None:
    assert posted(server, "tools/list", {}, host="evil.example").status_code == 421


def test_the_pages_and_names_that_the_operator_named_are_let_in(serving: Callable[..., Server]) -> None:
    server = serving(ServerSettings(allowed_hosts=("mcp.example.com",), cors_origins=("https://app.example.com",)))
    for headers in (
        {"host": "mcp.example.com"},
        {"host": f"mcp.example.com:{server.port}"},
        {"origin": "https://app.example.com"},
        {"host": "mcp.example.com", "origin": "https://mcp.example.com"},
    ):
        assert posted(server, "tools/list", {}, **headers).status_code == 200


def test_any_name_is_let_in_where_the_operator_said_so(serving: Callable[..., Server]) -> None:
    server = serving(ServerSettings(allowed_hosts=("*",)))
    assert posted(server, "tools/list", {}, host="whatever.example").status_code == 200
    assert posted(server, "tools/list", {}, origin="https://evil.example").status_code == 403


def test_what_fails_in_the_server_stays_in_its_log(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, era: str
) -> None:
    def fails(self: Any, name: str) -> None:
        raise RuntimeError("words with /a/path in them")

    monkeypatch.setattr(Operations, "find", fails)
    with pytest.raises(MCPError) as raised:
        called(server, "openai_models_list", {}, mode=era)
    assert raised.value.error.message == "the server failed"
    assert "/a/path" in caplog.text
