"""The server's side of a WebSocket (RFC 6455), for fakes: wsproto over the connection of `host.fakes.server`.

An application that takes an upgrade answers it with a FakeSocket. Its session says what the server sends, and when:
each method returns the messages that follow, which are sent one by one, with the pauses of the delivery. A message of
the client is handled as soon as it comes, also between two messages of an answer that is still being sent.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

import h11
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from host.core.conversation import NO_CODE
from host.fakes.messages import PROMPT, Delivery, FakeRequest

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
_READ_BYTES = 256 * 1024
_LINGER_S = 5.0  # the client gets this time to answer a close


@dataclass(frozen=True, slots=True)
class Close:
    """The end of the connection, by the server. `code` 1005: with a close frame that has no code, nor a reason. None:
    without a closing handshake (1006 for the client)."""

    code: int | None = 1000
    reason: str = ""


FakeMessage: TypeAlias = str | bytes | Close


class FakeSession(Protocol):
    """The other end of one connection. Both methods return at once; what they return is asked for message by message,
    as these are sent, so that a later message of the client can change the rest."""

    def opened(self) -> Iterable[FakeMessage]: ...

    def received(self, message: str | bytes) -> Iterable[FakeMessage]: ...


@dataclass(frozen=True, slots=True)
class FakeSocket:
    """An accepted upgrade. `headers` have lower-case names. `delivery.cut_after_events` counts messages: then the
    connection closes with `close_code` (see Close), or breaks off where that is None."""

    session: FakeSession
    subprotocol: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delivery: Delivery = PROMPT
    close_code: int | None = None


def is_upgrade(request: FakeRequest) -> bool:
    """Whether the request asks for a WebSocket (RFC 6455, section 4.1)."""
    wishes = {token.strip().lower() for token in request.headers.get("connection", "").split(",")}
    asked = request.headers.get("upgrade", "").strip().lower() == "websocket"
    return request.method == "GET" and asked and "upgrade" in wishes


class SocketConnection:
    """Runs `accepted` on `sock`, from the handshake to the end. `rest` are bytes that came behind the request."""

    def __init__(self, sock: socket.socket, request: FakeRequest, accepted: FakeSocket, rest: bytes) -> None:
        """Raises RemoteProtocolError for a request that is no proper upgrade, before anything is sent."""
        self._sock = sock
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._ws = WSConnection(ConnectionType.SERVER)
        fields = [(name.encode(), value.encode("latin-1")) for name, value in request.headers.items()]
        self._ws.initiate_upgrade_connection(fields, request.path)
        list(self._ws.events())  # the request, which is known
        self._rest = rest
        self._outbox: deque[Iterator[FakeMessage]] = deque()
        self._more = asyncio.Event()
        self._sent = 0

    async def run(self) -> None:
        """Returns once the connection has ended, whoever ended it."""
        delivery = self._accepted.delivery
        await asyncio.sleep(delivery.delay_s)
        if delivery.cut_before_headers:
            return
        fields = [(name.encode(), value.encode("latin-1")) for name, value in self._accepted.headers.items()]
        await self._write(self._ws.send(AcceptConnection(self._accepted.subprotocol, extra_headers=fields)))
        self._answer(self._accepted.session.opened())
        writing = self._loop.create_task(self._write_on())
        reading = self._loop.create_task(self._read_on())
        try:
            await asyncio.wait([writing, reading], return_when=asyncio.FIRST_COMPLETED)
            if writing.done() and not writing.exception() and self._ws.state is ConnectionState.LOCAL_CLOSING:
                await asyncio.wait([reading], timeout=_LINGER_S)  # for the client's part of the closing handshake
        finally:
            for task in (writing, reading):
                task.cancel()
            await asyncio.gather(writing, reading, return_exceptions=True)

    def _answer(self, messages: Iterable[FakeMessage]) -> None:
        self._outbox.append(iter(messages))
        self._more.set()

    async def _write_on(self) -> None:
        """Sends what the session answers, in its order. Returns at the end of the connection by the server."""
        delivery = self._accepted.delivery
        while True:
            while self._outbox:
                if self._cut(delivery):
                    await self._end(Close(self._accepted.close_code, "as the fault says"))
                    return
                message = next(self._outbox[0], None)
                if message is None:
                    self._outbox.popleft()
                    continue
                if isinstance(message, Close):
                    await self._end(message)
                    return
                await asyncio.sleep(delivery.event_delay_s)  # also for 0 s: the others have their turn
                await self._write(
                    self._ws.send(BytesMessage(message) if isinstance(message, bytes) else TextMessage(message))
                )
                self._sent += 1
            if self._cut(delivery):
                await self._end(Close(self._accepted.close_code, "as the fault says"))
                return
            self._more.clear()
            await self._more.wait()

    def _cut(self, delivery: Delivery) -> bool:
        return delivery.cut_after_events is not None and self._sent >= delivery.cut_after_events

    async def _end(self, how: Close) -> None:
        if how.code is not None:
            close = CloseConnection(how.code, how.reason)
            if how.code == NO_CODE:
                close = CloseConnection(CloseReason.NO_STATUS_RCVD)  # wsproto's word for none
            await self._write(self._ws.send(close))

    async def _read_on(self) -> None:
        """Hands the session what the client sends. Returns at the end of the connection by the client."""
        data = self._rest or await self._loop.sock_recv(self._sock, _READ_BYTES)
        parts: list[str] | list[bytes] = []
        size = 0
        while data:
            try:
                self._ws.receive_data(data)
                for event in self._ws.events():
                    match event:
                        case TextMessage() | BytesMessage():
                            parts.append(event.data)  # type: ignore[arg-type]  # all frames of a message have one type
                            size += len(event.data)
                            if size > MAX_MESSAGE_BYTES:
                                await self._end(Close(1009, "the message is too large"))
                                return
                            if event.message_finished:
                                empty = "" if isinstance(event, TextMessage) else b""
                                self._answer(self._accepted.session.received(empty.join(parts)))  # type: ignore[arg-type]
                                parts, size = [], 0
                        case Ping():
                            await self._write(self._ws.send(event.response()))
                        case CloseConnection():
                            if self._ws.state is ConnectionState.REMOTE_CLOSING:
                                await self._write(self._ws.send(event.response()))
                            return
            except RemoteProtocolError as error:
                with suppress(LocalProtocolError):
                    hint = error.event_hint
                    await self._end(Close(hint.code if isinstance(hint, CloseConnection) else 1002))
                return
            data = await self._loop.sock_recv(self._sock, _READ_BYTES)

    async def _write(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)


def rest_of(http: h11.Connection) -> bytes:
    """The bytes that came behind a request that proposes an upgrade."""
    return bytes(http.trailing_data[0])
