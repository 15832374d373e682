"""A stand-in for OpenAI that costs next to nothing, so that what is measured is what stands before it:
`python -m tests.benchmarks.gateway.upstream --port N [--pause S] [--delay S]`.

A chat completion is always the same JSON, `delay` seconds after it was asked for. A stream is EVENTS events, each written
on its own, and `[DONE]`: as fast as they can be, or for the user PACED `pause` seconds apart. `GET /counts` tells how many answers were begun, how many of those were
cut because whoever asked had left, how many go on, and how many connections there are beside the one that asks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import ClassVar

import httptools
import uvloop

EVENTS = 50
PAUSE = 0.001
MODEL = "gpt-4o-mini"
PACED = "paced"
PIECES = [f"word{number} " for number in range(EVENTS)]
TEXT = "".join(PIECES)

_SHARED = {"id": "chatcmpl-bench0123456789", "created": 1_700_000_000, "model": MODEL}
_USAGE = {"prompt_tokens": 12, "completion_tokens": EVENTS, "total_tokens": 12 + EVENTS}


def _json_answer(document: object) -> bytes:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(number: int) -> bytes:
    choice = {
        "index": 0,
        "delta": {"content": PIECES[number]},
        "finish_reason": None if number < EVENTS - 1 else "stop",
    }
    document = {**_SHARED, "object": "chat.completion.chunk", "choices": [choice]}
    return _chunk(b"data: %s\n\n" % json.dumps(document).encode())


COMPLETION = _json_answer(
    {
        **_SHARED,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": _USAGE,
    }
)
MODELS = _json_answer({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "bench"}]})
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)
STREAM = [*map(_event, range(EVENTS)), _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"]


class Answering(asyncio.Protocol):
    """One connection; what is counted is of all of them."""

    begun = 0
    cut = 0
    there: ClassVar[set[Answering]] = set()

    def __init__(self, loop: asyncio.AbstractEventLoop, pause: float, delay: float) -> None:
        self._loop, self._pause, self._delay = loop, pause, delay
        self._parser = httptools.HttpRequestParser(self)
        self._url = self._body = b""
        self._next: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        Answering.there.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        Answering.there.discard(self)
        if self._next is not None:
            self._next.cancel()
            Answering.cut += 1

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._url == b"/counts":
            self._transport.write(_json_answer(self._counts()))
            return
        Answering.begun += 1
        if self._parser.get_method() == b"GET":
            self._transport.write(MODELS)
        elif b'"stream":true' in self._body.replace(b" ", b""):
            self._transport.write(STREAM_HEAD)
            self._write(0, self._pause if b'"paced"' in self._body else 0)
        elif self._delay:
            self._next = self._loop.call_later(self._delay, self._complete)
        else:
            self._complete()

    def _counts(self) -> dict[str, int]:
        under_way = sum(one._next is not None for one in Answering.there)
        others = len(Answering.there) - 1
        return {"begun": Answering.begun, "cut": Answering.cut, "under_way": under_way, "connections": others}

    def _complete(self) -> None:
        self._next = None
        self._transport.write(COMPLETION)

    def _write(self, number: int, pause: float) -> None:
        self._transport.write(STREAM[number])
        if number == EVENTS:
            self._next = None
        elif pause:
            self._next = self._loop.call_later(pause, self._write, number + 1, pause)
        else:
            self._next = self._loop.call_soon(self._write, number + 1, pause)


async def serve(port: int, pause: float, delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(loop, pause, delay), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pause", type=float, default=PAUSE)
    parser.add_argument("--delay", type=float, default=0)
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.port, arguments.pause, arguments.delay))
