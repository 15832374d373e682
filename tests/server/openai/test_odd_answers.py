"""Answers of an upstream as the gateway hands them on: the bytes that came, their headers, and errors in any shape."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from host.core.quantities import Quota
from host.errors import OperationFailed
from host.runtime.workspace import Workspace
from host.server import Application, ServerSettings
from host.service.limits import Budget
from host.service.principal import OPERATOR
from host.service.request import OperationRequest
from tests.egress.conftest import Peer
from tests.egress.conftest import Server as Scripted
from tests.probing import response
from tests.server.conftest import OPENAI, Server, send_to, until

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
USAGE = b'"usage": {"prompt_tokens": 3, "completion_tokens": 4}'


class Answering:
    """An upstream that gives its next answer whatever it is asked."""

    def __init__(self) -> None:
        self.next = response()
        self.server = Scripted(self._behave, None, "127.0.0.1")

    def _behave(self, peer: Peer) -> None:
        while peer.request():
            peer.send(self.next)

    def close(self) -> None:
        self.server.close()


@pytest.fixture
def upstream(workspace: Workspace) -> Iterator[Answering]:
    with closing(Answering()) as one:
        send_to(workspace, OPENAI, one.server.url(""))
        yield one


def test_json_passes_byte_for_byte_whatever_is_in_it(upstream: Answering, server: Server) -> None:
    """One server for all: starting one takes longer than the requests."""
    for body, kind in [
        (b'{"a": NaN, ' + USAGE + b"}", "application/json"),
        (b'{"a": [1e400, -Infinity, 1.10, -0, 1E+2]}', "application/json"),
        (b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}", "application/json"),
        (b"[" * 5_000 + b"]" * 5_000, "application/json"),
        ('{"a": "café"}'.encode("latin-1"), "application/json; charset=iso-8859-1"),
        (b'\xef\xbb\xbf{"a": 1, "a": 2}', "application/json; charset=utf-8"),
        (b'{"a": "\\ud800", "b": 123456789012345678901234567890}', "application/json"),
        (b' \r\n{ "a" :\t"\\u00e9" }\n\n', "application/vnd.x+json"),
        (b'{"a": "' + b"x" * 2_000_000 + b'"}', "application/json"),
        (b'{"data": [' + b"0.125, " * 400_000 + b"NaN]}", "application/json"),
    ]:
        upstream.next = response(body, "200 OK", f"Content-Type: {kind}", "x-request-id: r1", "openai-processing-ms: 5")
        answer = server.post("/v1/chat/completions", json=CHAT)
        assert (answer.status_code, answer.content == body) == (200, True), answer.text[:500]
        assert answer.headers["content-type"] == kind
        assert (answer.headers["x-request-id"], answer.headers["openai-processing-ms"]) == ("r1", "5")
    upstream.next = response(b'{"a": 1}', "200 OK", "Content-Type: text/plain")
    assert server.post("/v1/chat/completions", json=CHAT).headers["content-type"] == "application/json"


def test_what_is_no_json_is_a_502_that_says_so_and_an_error_keeps_its_shape(
    upstream: Answering, server: Server
) -> None:
    for body, said in [
        (b"<html><title>Login</title>", "<html><title>Login</title>"),
        (b'{"choices": [{"mess', "(text/html, 19 bytes) is not JSON"),
        (b"OK", "it begins with 'OK'"),
    ]:
        upstream.next = response(body, "200 OK", "Content-Type: text/html", "x-request-id: r2")
        answer = server.post("/v1/chat/completions", json=CHAT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "not_json")
        assert said in answer.json()["error"]["message"]
        assert (answer.headers["x-should-retry"], answer.headers["x-request-id"]) == ("false", "r2")
    whole = b'{ "error": {"message": "m", "limit": 1.10, "more": NaN}, "trace": "t" }'
    for body, shown in [
        (whole, whole),
        (
            b'[{"error": {"message": "m", "code": 400}}]',
            {"message": "m", "code": 400, "param": None, "type": "upstream_error"},
        ),
        (b'{"detail": "m"}', {"message": "m", "detail": "m", "param": None, "code": None, "type": "upstream_error"}),
        (b"", {"message": "the upstream answered 429", "param": None, "code": None, "type": "upstream_error"}),
    ]:
        upstream.next = response(body, "429 No", "Retry-After: 9", "x-ratelimit-limit-requests: 1")
        answer = server.post("/v1/chat/completions", json=CHAT)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "9")
        assert answer.headers["x-ratelimit-limit-requests"] == "1"
        assert answer.content == shown if isinstance(shown, bytes) else answer.json() == {"error": shown}
    for body, words in [
        ('{"error": {"message": "Schlüssel", "code": 429}}'.encode("latin-1"), "Schlüssel"),
        (b'\xef\xbb\xbf{"error": {"message": "m", "code": 429}}', "m"),
    ]:
        for status in ("200 OK", "429 No"):
            upstream.next = response(body, status, "Content-Type: application/json", "Retry-After: 9")
            answer = server.post("/v1/chat/completions", json={**CHAT, "stream": True})
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "9")
            assert json.loads(answer.content.decode("utf-8-sig"))["error"]["message"] == words


def test_no_content_has_neither_length_nor_type(upstream: Answering, server: Server) -> None:
    upstream.next = b"HTTP/1.1 204 No Content\r\n\r\n"
    answer = server.request("DELETE", "/v1/files/f")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers.keys().isdisjoint({"content-length", "content-type", "transfer-encoding"})


def test_a_tool_shows_such_a_document_as_text(upstream: Answering, server: Server) -> None:
    head = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
    call = {"name": "openai_chat_completions_create", "arguments": CHAT}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    for body in (b'{"a": NaN}', b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}", '{"a": "é"}'.encode("latin-1")):
        upstream.next = response(body, "200 OK", "Content-Type: application/json; charset=x")
        answer = server.post("/mcp", json=asked, headers=head)
        found = json.loads(answer.text.partition("data: ")[2] or answer.text)["result"]
        assert found["content"] == [{"type": "text", "text": body.decode("latin-1")}], found
        assert not found.get("structuredContent")


class WithoutCounts:
    """An upstream that refuses `stream_options`, by its `refusal`."""

    def __init__(self) -> None:
        self.refusal: dict[str, Any] = {"message": "no"}
        self.server = Scripted(self._behave, None, "127.0.0.1")

    def _behave(self, peer: Peer) -> None:
        event = b'data: {"choices": [{"index": 0, "delta": {"content": "hi"}}]}\n\ndata: [DONE]\n\n'
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        if b"stream_options" in peer.request():
            peer.send(response(json.dumps({"error": self.refusal}).encode(), "400 Bad Request"))
        else:
            peer.send(head + event)

    def close(self) -> None:
        self.server.close()


BUDGET = ServerSettings(budgets={OPENAI: Budget(tokens=Quota.parse("900k/1d"))})


@pytest.fixture
def without_counts(workspace: Workspace) -> Iterator[WithoutCounts]:
    with closing(WithoutCounts()) as one:
        send_to(workspace, OPENAI, one.server.url(""))
        yield one


def test_a_budget_breaks_no_request_of_an_upstream_that_knows_no_stream_options(
    without_counts: WithoutCounts, serving: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "host.server")
    server = serving(BUDGET)
    for asked, (error, status, sent) in enumerate(
        [
            ({"message": "no", "param": "stream_options"}, 200, 2),
            ({"message": "no", "param": "stream_options.include_usage"}, 200, 2),
            ({"message": "no"}, 200, 2),
            ({"message": "no", "param": "model"}, 400, 1),
        ],
        1,
    ):
        without_counts.refusal, before = error, len(without_counts.server.requests)
        answer = server.post("/v1/chat/completions", json={**CHAT, "stream": True})
        assert (answer.status_code, len(without_counts.server.requests) - before) == (status, sent)
        assert (b'"hi"' in answer.content) is (status == 200)
        until(lambda asked=asked: len(_logged(caplog)) == asked)
        assert _logged(caplog)[-1]["run"] == answer.headers["x-catalyst-run"]  # the run that answered


def _logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The facts that the log has of each request."""
    return [one.facts for one in caplog.records if hasattr(one, "facts")]


def test_nobody_is_asked_once_more_for_a_caller_who_has_left(
    without_counts: WithoutCounts, workspace: Workspace, state_dir: Path
) -> None:
    async def leaving() -> None:
        application = Application(BUDGET, state_dir=state_dir, workspace=workspace)
        try:
            async with application.alive():
                dispatch, view = application.dispatch, await application.catalog.current()
                asked = OperationRequest(OPERATOR, OPENAI, "chat.completions.create", CHAT, stream=True)
                async with await dispatch.start(dispatch.resolve(asked, view), view) as running:
                    await running._stream._arrived.wait()  # the refusal, which nobody has looked at yet
                    running.cancel()
                    with pytest.raises(OperationFailed):
                        await running.pieces()
        finally:
            application.close()

    asyncio.run(leaving())
    assert len(without_counts.server.requests) == 1
