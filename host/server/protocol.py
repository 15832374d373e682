"""HTTP/1.1 as uvicorn speaks it, with bounds for what somebody may send before it is known who he is: uvicorn's own
server of it takes a request's line and headers of any size, and waits for them for any time.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES: Final = 64 * 1024  # of a request's line, of its headers, and of what comes after a body in chunks
HEAD_S: Final = 30.0  # for a request's headers to be there, once the one before is answered


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: asyncio.TimerHandle | None = None
        self._unread = 0  # bytes since the parser last made something of any
        self._fields = 0  # bytes of this request's headers

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._waiting is None and (self.cycle is None or self.cycle.response_complete):
            self._wait()  # also for the rest of a body that nobody reads any more
        self._unread += len(data)
        super().data_received(data)
        if self._unread > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's headers are too large.")

    def on_message_begin(self) -> None:
        self._fields = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        _bounded(len(self.url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._unread = 0
        self._fields += len(name) + len(value)
        _bounded(self._fields)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unread = 0
        self._wait_no_more()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(HEAD_S, self._too_late)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_late(self) -> None:
        self._waiting = None
        self.transport.close()


def _bounded(size: int) -> None:
    """Raises ValueError: the parser ends, and the connection with it."""
    if size > HEAD_BYTES:
        raise ValueError(size)
