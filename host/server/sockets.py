"""One WebSocket of a client (RFC 6455): uvicorn's, with bounds for what comes before its sender is known, and for a
client that does not read.

Nothing is read between the request for an upgrade and its answer. Then one message is read at a time: the next when the
last was taken. Messages are not compressed: a few kilobytes would become any number.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection

from host.server.asgi import context_of

if TYPE_CHECKING:
    from wsproto.events import Ping, Request

MESSAGE_BYTES: Final = 24 * 1024 * 1024  # OpenAI's API takes 15 MiB of sound, in base64
PING_S: Final = 20.0  # between two pings; a client has as long again to answer

_log = logging.getLogger("host.server.sockets")
_log.setLevel(logging.WARNING)  # the library names each connection by its URL, whose query may hold anything


class StuckReader:
    """Breaks off a connection whose client reads nothing of what was written, for `patience_s` seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, patience_s: float) -> None:
        self._loop = loop
        self._transport = transport
        self._patience_s = patience_s
        self._timer: asyncio.TimerHandle | None = None

    def paused(self) -> None:
        """There is no more room for what is written."""
        if self._timer is None:
            self._look()

    def resumed(self) -> None:
        """There is room again, or the connection has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, before: int | None = None) -> None:
        left = self._transport.get_write_buffer_size()
        if before is not None and left >= before:
            self._transport.abort()
        else:
            self._timer = self._loop.call_later(self._patience_s, self._look, left)


class SocketProtocol(WSProtocol):
    """`taken_over` is called once by the HTTP connection that it follows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _log
        self._stuck: StuckReader | None = None
        self._waits = True  # for the answer to its request
        self._known: Callable[[], None] = lambda: None
        self._left: Callable[[], None] = lambda: None

    def taken_over(self, stuck: StuckReader, known: Callable[[], None], left: Callable[[], None]) -> None:
        """`known` is to be called once its client is, `left` at its end."""
        self._stuck, self._known, self._left = stuck, known, left

    def handle_connect(self, event: Request) -> None:
        self.transport.pause_reading()
        super().handle_connect(event)

    async def send(self, message: Any) -> None:
        """A client that has left gets nothing, and that is no error."""
        with suppress(ClientDisconnected):
            await super().send(message)
        if self._waits and self.handshake_complete:
            self._waits = False
            if message["type"] == "websocket.accept":
                if context_of(self.scope).principal is not None:  # type: ignore[arg-type]  # a TypedDict
                    self._known()
                if not self.transport.is_closing():
                    self.transport.resume_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stuck is not None:
            self._stuck.paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.resumed()

    def handle_ping(self, event: Ping) -> None:
        """A client that does not read gets no answer: else it could fill the memory with them."""
        if self.writable.is_set():
            super().handle_ping(event)

    def handle_close(self, event: CloseConnection) -> None:
        """The library takes what breaks the protocol for a close by the client: it is told why."""
        if not self.close_sent and self.conn.state is ConnectionState.OPEN:
            self.transport.write(self.conn.send(CloseConnection(event.code, event.reason)))
        super().handle_close(event)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stuck is not None:
            self._stuck.resumed()
        self._left()
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        """While nothing is read, its pong cannot be heard."""
        if self.read_paused or not self.writable.is_set():
            self.pong_timer = None
            self.pending_ping_payload = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()

    def shutdown(self) -> None:
        """The server begins to end: a connection that was accepted has the grace, like a stream."""
        if not self.handshake_complete:
            return  # its task answers, with 503
        if self.close_sent or self.disconnected:
            super().shutdown()


OPTIONS: Final[Mapping[str, Any]] = {
    "ws": SocketProtocol,
    "ws_max_size": MESSAGE_BYTES,
    "ws_per_message_deflate": False,
    "ws_ping_interval": PING_S,
    "ws_ping_timeout": PING_S,
}
"""For uvicorn."""
