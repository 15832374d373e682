"""What `host mcp` reads from standard input: the bounds of a request hold there too."""

from __future__ import annotations

import asyncio
import io

import pytest

from host.server.mcp import stdio
from host.server.mcp.stdio import _Lines


def read(content: bytes) -> list[str]:
    async def within() -> list[str]:
        return [line async for line in _Lines(io.BytesIO(content))]

    return asyncio.run(asyncio.wait_for(within(), 60))


def test_lines_are_messages() -> None:
    assert read(b'{"a": 1}\n{"b": 2}\n{"c"') == ['{"a": 1}\n', '{"b": 2}\n', '{"c"']


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"[" + b"{}," * 1_000_000 + b"{}]", id="values without end"),
        pytest.param(b'{"a":' * 50_000, id="depth"),
    ],
)
def test_a_message_beyond_measure_is_passed_over_and_the_next_is_read(line: bytes) -> None:
    assert read(line + b"\n{}\n") == ["\n", "{}\n"]


@pytest.mark.parametrize("size", [1_001, 2_000, 2_002, 5_000])
def test_a_line_without_end_is_not_held(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(stdio, "LONGEST_LINE", 1_000)
    assert read(b"a" * size + b"\n{}\n") == ["\n", "{}\n"]
