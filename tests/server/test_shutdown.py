"""The end of a server: what new requests are told, and those that its grace cuts short."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from host.errors import HostError
from host.runtime.workspace import Workspace
from host.server.observability import readiness
from host.store.sql import select
from host.store.tables import cancellations
from tests.cli.conftest import PATIENCE_S, Upstream
from tests.conftest import late
from tests.server.conftest import OPENAI, Server, until
from tests.server.openai.test_gateway import CHAT, EVENT, STREAM_HEAD, Client

LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    b'{"id":"x","object":"chat.completion","choices":[]}'
)


@pytest.fixture
def upstream(workspace: Workspace) -> Iterator[Upstream]:
    with closing(Upstream()) as opened:
        workspace.policies.set(OPENAI, "upstreams", {"https://api.openai.com": opened.url})
        yield opened


def mcp_call(accept: str, **more: Any) -> bytes:
    params = {
        "name": "openai_chat_completions_create",
        "arguments": {"model": "gpt-4o-mini", "messages": CHAT["messages"]},
        **more,
    }
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).encode()
    head = f"POST /mcp HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("POST", "/v1/chat/completions", CHAT, id="a completion"),
        pytest.param("GET", "/v1/models", None, id="the models"),
        pytest.param("POST", "/mcp", LIST, id="MCP"),
        pytest.param("GET", "/", None, id="the console"),
        pytest.param("GET", "/nothing", None, id="what is nowhere"),
        pytest.param("GET", "/metrics", None, id="the metrics"),
        pytest.param("GET", "/ready", None, id="the probe"),
    ],
)
def test_a_request_after_the_signal_is_told_to_go_elsewhere_on_a_connection_that_was_kept(
    server: Server, method: str, path: str, body: Any
) -> None:
    assert server.get("/health").status_code == 200
    server.application.stop()
    answer = server.request(method, path, json=body)
    assert answer.status_code == 503
    assert answer.headers["connection"] == "close"
    assert int(answer.headers["retry-after"]) > 0
    error = answer.json()["error"]
    assert (error["type"], "shutting down" in error["message"]) == ("shutting_down", True)


def test_the_process_is_alive_until_it_ends(server: Server) -> None:
    server.application.stop()
    assert server.get("/health").json() == {"status": "ok"}


def test_what_was_under_way_at_the_signal_is_answered(upstream: Upstream, server: Server) -> None:
    with closing(Client(server, {**CHAT, "stream": True})) as client:
        upstream.send(STREAM_HEAD + EVENT % b"one")
        client.read_until(b'"one"')
        server.application.stop()
        upstream.send(EVENT % b"two" + b"data: [DONE]\n\n")
        upstream.close()
        client.read_until(b"data: [DONE]\n\n")


def ended(server: Server) -> None:
    server._server.config.timeout_graceful_shutdown = 1
    server.stop()


def test_a_stream_that_the_grace_cuts_short_ends_with_an_error_event(upstream: Upstream, server: Server) -> None:
    with closing(Client(server, {**CHAT, "stream": True})) as client:
        upstream.send(STREAM_HEAD + EVENT % b"one")
        client.read_until(b'"one"')
        ended(server)
        client.read_until(b"0\r\n\r\n")  # the answer is whole
        last = client.received.decode().rpartition("event: error\ndata: ")[2].partition("\n")[0]
    error = json.loads(last)["error"]
    assert (error["type"], error["code"], error["param"]) == ("shutting_down", "shutting_down", None)
    assert b"[DONE]" not in client.received


def test_a_request_that_the_grace_cuts_short_is_answered_with_a_typed_503(upstream: Upstream, server: Server) -> None:
    with closing(Client(server, CHAT)) as client:
        assert upstream.asked.wait(PATIENCE_S)
        ended(server)
        head, _, body = whole(client.socket).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: " in head.lower()
    assert json.loads(body)["error"]["code"] == "shutting_down"


@pytest.mark.parametrize("accept", ["application/json", "application/json, text/event-stream"])
def test_a_tool_that_the_grace_cuts_short_is_answered_in_json_rpc(
    upstream: Upstream, server: Server, accept: str
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
        client.sendall(mcp_call(accept))
        assert upstream.asked.wait(PATIENCE_S)
        ended(server)
        head, _, body = whole(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    answer = json.loads(body)
    assert (answer["jsonrpc"], answer["error"]["data"]["type"]) == ("2.0", "shutting_down")


def test_a_tool_whose_events_the_grace_cuts_short_ends_with_its_error(upstream: Upstream, server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
        client.sendall(mcp_call("application/json, text/event-stream", _meta={"progressToken": "p"}))
        upstream.send(STREAM_HEAD + EVENT % b"one")
        received = b""
        while b"notifications/progress" not in received:
            received += client.recv(65536)
        ended(server)
        received += whole(client)
    last = json.loads(received.decode().rpartition("data: ")[2].partition("\n")[0].strip())
    assert (last["id"], last["error"]["data"]["type"]) == (7, "shutting_down")


def whole(client: socket.socket) -> bytes:
    received = b""
    while more := client.recv(65536):
        received += more
    return received


# /ready


@pytest.mark.usefixtures("patient_probes")
def test_ready_says_so_while_the_log_cannot_be_written(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "FRESH_S", 0.0)
    assert server.get("/ready").status_code == 200
    head = server.application.workspace.audit_log.checkpoint_file
    path, head.path = head.path, head.path.parent
    answer = server.get("/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable", "code": "audit_unavailable"})
    head.path = path
    assert server.get("/ready").status_code == 200


def test_ready_answers_in_time_whatever_hangs_and_goes_on_once_it_does_not(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "FRESH_S", 0.0)
    goes_on, audit_log = threading.Event(), server.application.workspace.audit_log
    monkeypatch.setattr(audit_log, "check_writable", lambda: goes_on.wait(PATIENCE_S))
    for _ in range(3):
        began = time.monotonic()
        assert server.get("/ready").status_code == 503
        assert time.monotonic() - began < late(2.0)
    goes_on.set()
    until(lambda: server.get("/ready").status_code == 200)


@pytest.mark.usefixtures("patient_probes")
def test_ready_looks_at_most_once_a_second(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr(readiness, "FRESH_S", 60.0)
    monkeypatch.setattr(server.application.workspace.audit_log, "check_writable", lambda: looked.append(1))
    server.application.readiness._until = 0.0
    assert {server.get("/ready").status_code for _ in range(20)} == {200}
    assert looked == [1]


@pytest.mark.usefixtures("patient_probes")
def test_ready_says_so_while_nothing_can_be_counted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    class GoneError(HostError):
        code = "host_state"

    def gone() -> None:
        raise GoneError("gone")

    monkeypatch.setattr(readiness, "FRESH_S", 0.0)
    monkeypatch.setattr(server.application.limiter, "check", gone)
    assert server.get("/ready").json() == {"status": "unavailable", "code": "host_state"}


def test_a_check_leaves_nothing_behind(workspace: Workspace, serving: Callable[..., Server]) -> None:
    before = workspace.stamp()
    serving().get("/ready")
    with workspace.database.reading() as connection:
        assert connection.execute(select(cancellations)).all() == []
    assert workspace.stamp() == before
