"""What `host mcp` makes of its standard input: every message gets an answer, and its bounds are those of a request."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.server.lowlevel import Server
from mcp_types import CallToolResult, TextContent

from host.server.mcp import stdio

PATIENCE_S = 60
HELLO = {
    "jsonrpc": "2.0", "id": "hello", "method": "initialize",
    "params": {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}  # fmt: skip


def call(ident: Any, name: str = "echo", **arguments: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": params}


class Tools:
    """A server with the tools `echo`, and `wait`, which answers once `release` is set."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.waiting = threading.Event()
        self.cancelled = False
        self.server: Server[Any] = Server("test", on_call_tool=self._called)

    async def _called(self, ctx: Any, params: Any) -> CallToolResult:
        if params.name == "wait":
            self.waiting.set()
            try:
                while not self.release.is_set():  # noqa: ASYNC110 - another thread sets it
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        return CallToolResult(content=[TextContent(text=json.dumps(params.arguments))])


@pytest.fixture
def tools() -> Iterator[Tools]:
    one = Tools()
    yield one
    one.release.set()


def told(tools: Tools, written: bytes, folder: Path) -> list[Any]:
    """Every line of the output, where that is all of the input."""
    (folder / "in").write_bytes(written)
    with (folder / "in").open("rb") as given, (folder / "out").open("wb") as out:
        asyncio.run(asyncio.wait_for(stdio.converse(tools.server, given, out), PATIENCE_S))
    return [json.loads(line) for line in (folder / "out").read_bytes().splitlines()]


@pytest.fixture
def answered(tools: Tools, tmp_path: Path) -> Callable[..., list[Any]]:
    """`answered(…)`: the answers to lines, each bytes or a message, after that to the greeting."""

    def answers(*lines: Any, ending: bytes = b"\n") -> list[Any]:
        written = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in (HELLO, *lines)]
        found = told(tools, ending.join([*written, b""]), tmp_path)
        rest = [one for one in found if isinstance(one, list) or one["id"] != "hello"]
        assert len(rest) == len(found) - 1
        return rest

    return answers


def test_everything_that_was_read_is_answered_before_the_end(tools: Tools, answered: Callable[..., list[Any]]) -> None:
    threading.Thread(target=lambda: tools.waiting.wait(PATIENCE_S) and tools.release.set()).start()
    found = answered(call(1, "wait"), call(2, "wait"), call("three"), {"jsonrpc": "2.0", "id": 4, "method": "ping"})
    assert {one["id"] for one in found} == {1, 2, "three", 4}
    assert all("result" in one for one in found)


def test_a_last_line_without_its_end_is_a_message(tools: Tools, tmp_path: Path) -> None:
    written = json.dumps(HELLO).encode() + b"\n" + json.dumps(call(5)).encode()
    assert [one["id"] for one in told(tools, written, tmp_path)] == ["hello", 5]


@pytest.mark.parametrize(
    ("line", "ident"),
    [
        pytest.param(b'{"jsonrpc":"2.0","id":1.0,"method":"ping"}', 1, id="1.0"),
        pytest.param(b'{"jsonrpc":"2.0","id":1e2,"method":"ping"}', 100, id="1e2"),
        pytest.param(b'{"jsonrpc":"2.0","id":-7,"method":"ping"}', -7, id="below zero"),
        pytest.param(b'{"jsonrpc":"2.0","id":0,"method":"ping"}', 0, id="zero"),
        pytest.param(b'{"jsonrpc":"2.0","id":12345678901234567890,"method":"ping"}', 12345678901234567890, id="large"),
        pytest.param(b'{"jsonrpc":"2.0","id":"","method":"ping"}', "", id="an empty text"),
        pytest.param(b'{"jsonrpc":"2.0","id":"1","method":"ping"}', "1", id="a number as text"),
        pytest.param(b'{"jsonrpc":"2.0","id":"\\u00fc","method":"ping"}', "ü", id="another letter"),
        pytest.param(b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping"}', 1, id="behind a byte order mark"),
        pytest.param(b'  {"jsonrpc":"2.0","id":1,"method":"ping"}\r', 1, id="between blanks"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"ping","params":null}', 1, id="no parameters, as null"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"ping","more":true}', 1, id="a field too many"),
    ],
)  # fmt: skip
def test_a_request_is_answered_under_its_id(answered: Callable[..., list[Any]], line: bytes, ident: Any) -> None:
    [answer] = answered(line)
    assert answer == {"jsonrpc": "2.0", "id": ident, "result": {}}
    assert type(answer["id"]) is type(ident)


@pytest.mark.parametrize(
    ("line", "code", "ident", "said"),
    [
        pytest.param(b"this is no JSON", -32700, None, "not JSON", id="no JSON"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"pi\xff"}', -32700, None, "not UTF-8", id="no UTF-8"),
        pytest.param('{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-16"), -32700, None, "not UTF-8", id="UTF-16"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":NaN}}', -32700, None, "not JSON", id="NaN"),
        pytest.param(b'{"a":' * 50_000, -32700, None, "nested too deeply", id="depth"),
        pytest.param(b"[" + b"{}," * 1_000_000 + b"{}]", -32700, None, "values", id="values without end"),
        pytest.param(b"a" * 2_000, -32600, None, "more than 1500 bytes", id="a long line"),
        pytest.param(b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, None, "id is a JSON null", id="the id null"),
        pytest.param(b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, None, "id is a JSON number", id="the id 1.5"),
        pytest.param(b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600, None, "id is a JSON boolean", id="the id true"),
        pytest.param(b'{"jsonrpc":"2.0","id":[1],"method":"ping"}', -32600, None, "id is a JSON array", id="a list as id"),
        pytest.param(b'{"id":3,"method":"ping"}', -32600, 3, "jsonrpc", id="no version"),
        pytest.param(b'{"jsonrpc":"1.0","id":3,"method":"ping"}', -32600, 3, "jsonrpc", id="another version"),
        pytest.param(b'{"jsonrpc":"2.0","id":3}', -32600, 3, "method is missing", id="no method"),
        pytest.param(b'{"jsonrpc":"2.0","id":3,"method":4}', -32600, 3, "method", id="a number as method"),
        pytest.param(b'{"jsonrpc":"2.0","id":3,"method":"ping","params":[1]}', -32602, 3, "params is a JSON array", id="params in a list"),
        pytest.param(b'{"jsonrpc":"2.0","id":3,"method":"no/such"}', -32601, 3, "ethod not found", id="an unknown method"),
        pytest.param(b"[]", -32600, None, "array", id="an empty batch"),
        pytest.param(b'"text"', -32600, None, "string, not an object", id="a text"),
        pytest.param(b"null", -32600, None, "null, not an object", id="null"),
    ],
)  # fmt: skip
def test_what_is_no_request_gets_an_error_that_says_why_and_the_next_is_read(
    answered: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch, line: bytes, code: int, ident: Any, said: str
) -> None:
    if len(line) == 2_000:
        monkeypatch.setattr(stdio, "LONGEST_LINE", 1_500)
    first, then = sorted(
        answered(line.replace(b"\n", b""), {"jsonrpc": "2.0", "id": 9, "method": "ping"}),
        key=lambda one: "result" in one,
    )
    assert (first["jsonrpc"], first["id"], first["error"]["code"]) == ("2.0", ident, code)
    assert said in first["error"]["message"]
    assert then == {"jsonrpc": "2.0", "id": 9, "result": {}}


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\n\n", b"\n \t\n"])
def test_lines_may_end_as_they_do_on_any_system(answered: Callable[..., list[Any]], ending: bytes) -> None:
    assert [one["id"] for one in answered(call(1), call(2), ending=ending)] == [1, 2]


@pytest.mark.parametrize("size", [1_001, 2_000, 2_002, 5_000])
def test_a_line_without_end_is_not_held(
    answered: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(stdio, "LONGEST_LINE", 1_000)
    first, then = answered(b"a" * size, call(1))
    assert first["error"]["message"] == "the message has more than 1000 bytes"
    assert then["id"] == 1


def test_a_batch_is_answered_as_one(answered: Callable[..., list[Any]]) -> None:
    noted = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    [batch] = answered([call(1, text="a"), noted, call("two"), 5, {"jsonrpc": "2.0", "id": 3}])
    by_id = {one["id"]: one for one in batch}
    assert by_id.keys() == {1, "two", None, 3}
    assert json.loads(by_id[1]["result"]["content"][0]["text"]) == {"text": "a"}
    assert [by_id[ident]["error"]["code"] for ident in (None, 3)] == [-32600, -32600]


def test_a_batch_of_notifications_has_no_answer(answered: Callable[..., list[Any]]) -> None:
    assert answered([{"jsonrpc": "2.0", "method": "notifications/initialized"}]) == []


def test_a_request_that_is_cancelled_is_not_waited_for(tools: Tools, answered: Callable[..., list[Any]]) -> None:
    for ident, named in ((1, 1), (2.0, 2), ("a", "a")):
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": named}}
        assert [one["id"] for one in answered(call(ident, "wait"), cancel, call(5))] == [5]
    assert not tools.release.is_set()


def test_a_client_that_has_gone_is_not_answered_for_long(tools: Tools) -> None:
    given, written = os.pipe()
    reader, out = os.pipe()
    os.write(written, json.dumps(HELLO).encode() + b"\n" + json.dumps(call(1, "wait")).encode() + b"\n")
    os.close(written)

    def leave() -> None:
        tools.waiting.wait(PATIENCE_S)
        os.close(reader)

    threading.Thread(target=leave).start()
    with os.fdopen(given, "rb") as file, os.fdopen(out, "wb", buffering=0) as answers:
        asyncio.run(asyncio.wait_for(stdio.converse(tools.server, file, answers), PATIENCE_S / 2))
    assert tools.cancelled
