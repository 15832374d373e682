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
    from wsproto.events import BytesMessage, Ping, Pong, Request, TextMessage

MESSAGE_BYTES: Final = 24 * 1024 * 1024  # OpenAI's API takes 15 MiB of sound, in base64
FRAMES_A_SECOND: Final = 5_000  # of one client: some take six bytes, and all of them the event loop
PING_S: Final = 20.0  # between two pings; a client has as long again to answer

_REFUSED: Final = 1008
_AT_ONCE: Final = 8 * 1024  # bytes, behind which the frames are counted: a hundredth of a second of the smallest ones

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
        self._second, self._frames = 0, 0  # that came within it
        self._known: Callable[[], None] = lambda: None
        self._left: Callable[[], None] = lambda: None

    def taken_over(self, stuck: StuckReader, known: Callable[[], None], left: Callable[[], None]) -> None:
        """`known` is to be called once its client is, `left` at its end."""
        self._stuck, self._known, self._left = stuck, known, left

    def handle_connect(self, event: Request) -> None:
        self.transport.pause_reading()
        super().handle_connect(event)

    def data_received(self, data: bytes) -> None:
        """A client of many tiny frames is hung up on, before they have held up the others."""
        if not self.handshake_complete:
            super().data_received(data)
            return
        for at in range(0, len(data), _AT_ONCE):
            if self.transport.is_closing():
                return
            super().data_received(data[at : at + _AT_ONCE])
            if self._frames > FRAMES_A_SECOND and not self.transport.is_closing():
                self._hang_up(_REFUSED, "too many frames")

    def handle_events(self) -> None:
        """Once it is closed by us, only the other side's close counts: but all that is before that takes time."""
        if not self.close_sent:
            super().handle_events()
            return
        for event in self.conn.events():
            self._count_frame()
            if isinstance(event, CloseConnection):
                self.handle_close(event)

    def _hang_up(self, code: int, reason: str) -> None:
        if not self.close_sent:
            self.close_sent = True
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
            self.transport.write(self.conn.send(CloseConnection(code, reason)))
        self.transport.close()

    def _count_frame(self) -> None:
        if (second := int(self.loop.time())) != self._second:
            self._second, self._frames = second, 0
        self._frames += 1

    def handle_message(self, event: TextMessage | BytesMessage) -> None:
        if event.frame_finished:
            self._count_frame()
        super().handle_message(event)

    def handle_pong(self, event: Pong) -> None:
        self._count_frame()
        super().handle_pong(event)

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
        self._count_frame()
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
