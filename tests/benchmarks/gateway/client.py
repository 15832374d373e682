"""HTTP/1.1 as a client speaks it that costs next to nothing: kept-alive connections, one request at a time on each."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httptools

DONE = b"data: [DONE]"


@dataclass(slots=True)
class Answer:
    """What came back, and when: seconds since the request was sent. `first_s` is that of the first byte of the body."""

    status: int = 0
    body: bytes = b""
    content_type: bytes = b""
    retry_after: bytes = b""
    first_s: float = 0.0
    whole_s: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether it is a stream, and whole."""
        return self.body.rstrip().endswith(DONE)

    def text(self) -> str:
        """What the model said, put together from a stream's events."""
        if not self.content_type.startswith(b"text/event-stream"):
            return str(json.loads(self.body)["choices"][0]["message"]["content"])
        events = (line.removeprefix(b"data:") for line in self.body.splitlines() if line.startswith(b"data:"))
        choices = [json.loads(event)["choices"] for event in events if event.strip() != b"[DONE]"]
        return "".join(each[0]["delta"].get("content") or "" for each in choices if each)


class Connection(asyncio.Protocol):
    """`await Connection.open(port)`, then `await connection.ask(message)`, again and again while it is `usable`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._on_body: Callable[[bytes], None] | None = None
        self._keep = True
        self._lost = asyncio.Event()

    @classmethod
    async def open(cls, port: int) -> Connection:
        _, protocol = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return protocol

    @property
    def usable(self) -> bool:
        return self._keep and self._transport is not None and not self._transport.is_closing()

    async def ask(self, message: bytes, on_body: Callable[[bytes], None] | None = None) -> Answer:
        """Raises ConnectionError where the connection ends before the answer does. When it is cancelled, the connection
        is cut. `on_body` gets each piece of the body as it comes."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the connection is closed")
        self._parser = httptools.HttpResponseParser(self)
        self._answer, self._pieces, self._on_body = Answer(), [], on_body
        self._waiting = asyncio.get_running_loop().create_future()
        self._asked = time.perf_counter()
        self._transport.write(message)
        try:
            return await self._waiting
        except BaseException:
            self.cut()
            raise
        finally:
            self._waiting = None

    def cut(self) -> None:
        """Leaves at once, in whatever state it is."""
        if self._transport is not None:
            self._transport.abort()

    async def gone(self) -> None:
        """Cut, and nothing of it is left."""
        self.cut()
        await self._lost.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # of a stream

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"not HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self._fail(ConnectionError("the connection was closed before the answer was whole"))

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self._answer.content_type = value
        elif name.lower() == b"retry-after":
            self._answer.retry_after = value

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        self._keep = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if not self._pieces:
            self._answer.first_s = time.perf_counter() - self._asked
        self._pieces.append(body)
        if self._on_body is not None:
            self._on_body(body)

    def on_message_complete(self) -> None:
        self._answer.whole_s = time.perf_counter() - self._asked
        self._answer.body = b"".join(self._pieces)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(self._answer)


def request(method: str, path: str, document: Any = None, headers: Mapping[str, str] | None = None) -> bytes:
    """A request as it goes over the wire; `document` is its JSON body."""
    body = b"" if document is None else json.dumps(document).encode()
    fields = {"Host": "127.0.0.1", "Authorization": "Bearer sk-bench-client", **(headers or {})}
    if document is not None:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body
