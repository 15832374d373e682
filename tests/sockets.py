"""Servers of WebSockets that do what a test says, by wsproto, over the scripted servers of tests/egress."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wsproto import ConnectionType
from wsproto.connection import Connection, ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from tests.egress.conftest import Peer, Server
from tests.probing import serving

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def switched(request: bytes, *headers: str, accept: bytes | None = None) -> bytes:
    """The head that opens what `request` asks for."""
    [key] = [line[18:].strip() for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:")]
    accept = accept or base64.b64encode(hashlib.sha1(key + GUID).digest())
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Accept: {accept.decode()}", *headers, "", ""]
    return "\r\n".join(lines).encode()


class SocketPeer:
    """The server's end of an open WebSocket. `request` is the handshake."""

    def __init__(self, peer: Peer, request: bytes) -> None:
        self.peer = peer
        self.request = request
        self.frames = Connection(ConnectionType.SERVER)
        self._waiting: list[Event] = []

    def send(self, message: str | bytes) -> None:
        """To nobody, where the client's close frame has come."""
        if self.frames.state is not ConnectionState.OPEN:
            return
        event = TextMessage(data=message) if isinstance(message, str) else BytesMessage(data=message)
        self.peer.send(self.frames.send(event))

    def ping(self, payload: bytes = b"") -> None:
        self.peer.send(self.frames.send(Ping(payload=payload)))

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.peer.send(self.frames.send(CloseConnection(code=code, reason=reason)))

    def event(self) -> Event | None:
        """The next event, a message as a whole; None when the client has hung up."""
        pieces: list[str | bytes] = []
        while True:
            while self._waiting:
                event = self._waiting.pop(0)
                if isinstance(event, TextMessage | BytesMessage):
                    pieces.append(event.data if isinstance(event.data, str) else bytes(event.data))
                    if not event.message_finished:
                        continue
                    return type(event)(data=pieces[0][:0].join(pieces))
                return event
            if not (data := self.peer.socket.recv(65_536)):
                return None
            self.frames.receive_data(data)
            self._waiting += self.frames.events()

    def receive(self) -> str | bytes | CloseConnection | None:
        """The next message, or the end. Pings are answered, pongs passed over; a close frame is answered."""
        while True:
            match event := self.event():
                case TextMessage() | BytesMessage():
                    return event.data
                case Ping():
                    self.peer.send(self.frames.send(event.response()))
                case CloseConnection():
                    with_code = event
                    if self.frames.state is ConnectionState.REMOTE_CLOSING:
                        self.peer.send(self.frames.send(event.response()))
                    return with_code
                case None:
                    return None
                case Pong():
                    continue


Behave = Callable[[SocketPeer], None]


def opening(behave: Behave, *headers: str) -> Callable[[Peer], None]:
    """For `serving`: opens what is asked for and goes on with `behave`."""

    def serve(peer: Peer) -> None:
        if request := peer.request():
            peer.send(switched(request, *headers))
            behave(SocketPeer(peer, request))

    return serve


@contextmanager
def socket_serving(behave: Behave, *headers: str) -> Iterator[Server]:
    with serving(opening(behave, *headers)) as server:
        yield server


def echo(socket: SocketPeer) -> None:
    """Sends every message back."""
    while isinstance(message := socket.receive(), str | bytes):
        socket.send(message)
