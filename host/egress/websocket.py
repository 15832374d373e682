"""The client's side of a WebSocket (RFC 6455), over the same road as requests; the frames are wsproto's.

No extension is offered: what arrives is as large as it was on the wire. Pings are answered here, and sent where the
other side is silent. Nothing here waits but `turn`, so that one thread serves both directions.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from wsproto.connection import CLIENT, ConnectionState
from wsproto.connection import Connection as Frames
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError

from host.core.conversation import ABNORMAL, GOING_AWAY, TOO_BIG, Closed, SocketMessage, size_of
from host.core.headers import TOKEN, spelled
from host.core.limits import Limits
from host.egress import failures
from host.egress.connection import Connection
from host.egress.failures import ConnectionLostError, EgressError
from host.egress.headers import Fields, RawFields, incoming_fields
from host.egress.socket import Deadline

MAX_SUBPROTOCOLS: Final = 20

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_PING_S: Final = 20.0  # of silence, after which the other side is asked whether it is there
_CLOSE_S: Final = 5.0  # for the other side's answer to a close frame
_READ_BYTES: Final = 16 * 1024  # between two looks at the clock: in the smallest frames, a tenth of a second
_READS_A_TURN: Final = 8
_AHEAD: Final = 64  # messages that may wait to be taken; then no more is read


def handshake_fields(fields: RawFields, subprotocols: Sequence[str]) -> tuple[RawFields, bytes]:
    """The fields of an opening handshake and the answer's key that they ask for: `fields` of a GET, without the guest's
    own of a WebSocket and its Origin, which speaks for a browser. Raises EgressError (http_error) for a subprotocol
    that is no token, is given twice, or is one too many."""
    if len(subprotocols) > MAX_SUBPROTOCOLS or len(set(subprotocols)) < len(subprotocols):
        raise EgressError("http_error", f"subprotocols are at most {MAX_SUBPROTOCOLS}, each of them once")
    if not all(TOKEN.match(one) for one in subprotocols):
        raise EgressError("http_error", "a subprotocol has letters, digits and a few signs, and no others")
    key = base64.b64encode(secrets.token_bytes(16))
    kept = [(name, value) for name, value in fields if not _is_ours(spelled(name.decode("ascii")))]
    kept += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    kept += [(b"Sec-WebSocket-Version", b"13"), (b"Sec-WebSocket-Key", key)]
    if subprotocols:
        kept.append((b"Sec-WebSocket-Protocol", ", ".join(subprotocols).encode("ascii")))
    return kept, base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def _is_ours(name: str) -> bool:
    return name == "origin" or name.startswith("sec-websocket-")


def accepted(
    raw: Sequence[tuple[bytes, bytes]], subprotocols: Sequence[str], accept: bytes, at: str
) -> tuple[Fields, str]:
    """The fields of a 101 for the guest, and the subprotocol that it chose, "" for none. Raises EgressError
    (http_error) where it does not open what was asked for (RFC 6455, 4.1)."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in raw:
        found.setdefault(name, []).append(value.strip())
    connection = {token.strip() for token in b",".join(found.get(b"connection", [])).lower().split(b",")}
    chosen = [value.decode("latin-1") for value in found.get(b"sec-websocket-protocol", [])]
    if [value.lower() for value in found.get(b"upgrade", [])] != [b"websocket"] or b"upgrade" not in connection:
        problem = "it switched to another protocol"
    elif found.get(b"sec-websocket-accept") != [accept]:
        problem = "its Sec-WebSocket-Accept is wrong"
    elif b"sec-websocket-extensions" in found:
        problem = "it uses an extension that was not offered"
    elif len(chosen) > 1 or not set(chosen) <= set(subprotocols):
        problem = "it chose a subprotocol that was not offered"
    else:
        fields = incoming_fields([(name, value) for name, value in raw if name != b"sec-websocket-accept"])
        return fields, next(iter(chosen), "")
    raise EgressError("http_error", f"{{}} did not open a WebSocket: {problem}", at)


class WebSocket:
    """One that is open. `status` and `headers` are of the answer that opened it. `sent` and `received` count messages,
    `sent_bytes` what they hold, `received_bytes` all that came. Belongs to one thread; to be closed."""

    def __init__(
        self, connection: Connection, headers: Fields, subprotocol: str, limits: Limits, take_back: Callable[..., None]
    ) -> None:
        self.status = 101  # Switching Protocols
        self.headers = headers
        self.subprotocol = subprotocol
        self.sent = self.received = self.sent_bytes = self.received_bytes = 0
        self.end: Closed | None = None  # how it ended, also where messages from before it wait to be taken
        self._connection: Connection | None = connection
        self._limits = limits
        self._take_back = take_back
        self._frames = Frames(CLIENT)
        self._unsent = bytearray()
        self._pong: Pong | None = None  # to be sent: the other side needs an answer to its last ping alone
        self._begun = bytearray()  # of a message that is not whole; a text as UTF-8: pieces may be one character each
        self._waiting: deque[SocketMessage] = deque()
        self._waiting_bytes = 0
        self._failure: EgressError | None = None
        self._closing: Closed | None = None  # what was sent
        self._close_by = 0.0
        self._heard = self._left = time.monotonic()
        self._pinged = self._asked = 0.0  # the last ping, and the first since something was heard
        if behind := connection.behind:
            self._take_in(behind)

    @property
    def ended(self) -> bool:
        """Whether no more will come, and none can be sent."""
        return self.end is not None or self._failure is not None

    @property
    def closing(self) -> bool:
        return self._closing is not None or self.ended

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return len(self._unsent)

    @property
    def has_room(self) -> bool:
        """Whether more may be read before what has come is taken."""
        return len(self._waiting) < _AHEAD and self._waiting_bytes < self._limits.max_message_bytes

    def put(self, message: SocketMessage) -> None:
        """Add a message to what is to be sent; to nothing, where the connection is closing."""
        if self.closing:
            return
        self.sent += 1
        self.sent_bytes += size_of(message)
        whole = TextMessage(data=message) if isinstance(message, str) else BytesMessage(data=message)
        self._unsent += self._frames.send(whole)

    def take(self) -> SocketMessage | None:
        """The next message that has come; None where there is none. Raises EgressError, behind the last message, where
        the connection failed: but where it broke off, that is its `end`, ABNORMAL."""
        if self._waiting:
            message = self._waiting.popleft()
            self._waiting_bytes -= size_of(message)
            return message
        if self._failure is not None:
            raise self._failure
        return None

    def begin_close(self, close: Closed) -> None:
        """Send a close frame behind all that is unsent. What comes until the other side's can still be taken."""
        if not self.closing:
            self._closing, self._close_by = close, time.monotonic() + _CLOSE_S
            frame = close.to_send()
            self._unsent += self._frames.send(CloseConnection(code=frame.code, reason=frame.reason))

    def turn(self, clock: Deadline, seconds: float, *, reading: bool = True, wake: int | None = None) -> None:
        """Send what is unsent and read what has come, once, after a wait of at most `seconds` until one of these is
        possible or the descriptor `wake` can be read. Without `wake` it ends as soon as all is sent that was unsent.
        Without `reading` nothing is read, and the other side's silence does not count. Raises EgressError where the run
        is over, and for an other side that is silent for too long."""
        connection = self._connection
        if connection is None or self.ended:
            return
        wire, now = connection.wire, time.monotonic()
        self._heard = now if not reading else self._heard + (now - self._left)  # the time without a look
        try:
            with wire.interruptible(clock):
                wire.check(clock)
                sends = wake is None and bool(self._unsent)
                read = self._move(connection, clock, reading=reading)
                if not (read or self.ended or (sends and not self._unsent)):
                    wait_s = min(seconds, self._until_due(time.monotonic()))
                    wire.wait(clock, wait_s, reading=reading, writing=bool(self._unsent), wake=wake)
                    self._move(connection, clock, reading=reading)
            if not self.ended:
                self._keep_alive(time.monotonic(), wire.at)
        except ConnectionLostError:
            self.end = self.end or self._closing or Closed(ABNORMAL)
        except EgressError as error:
            self._failure = error
            raise
        finally:
            self._left = time.monotonic()

    def close(self) -> None:
        """End it at once; a close frame is sent if that needs no wait. Any number of times."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if not self.closing:
            self.begin_close(Closed(GOING_AWAY))
        with suppress(EgressError):
            if connection.wire.usable:
                self._write(connection)
        self.end = self.end or self._closing or Closed(ABNORMAL)
        self._take_back(connection, usable=False)

    def _move(self, connection: Connection, clock: Deadline, *, reading: bool) -> bool:
        """Write and read what goes without waiting. Returns whether anything was read. What the other side said before
        it hung up is read also where it takes no more. Raises EgressError where the run is over meanwhile."""
        try:
            self._write(connection)
        except ConnectionLostError:
            while not self.ended and (data := connection.wire.read_now(_READ_BYTES)):
                self._take_in(data)
                connection.wire.check(clock)
            raise
        read = False
        for _ in range(_READS_A_TURN if reading else 0):
            if (data := connection.wire.read_now(_READ_BYTES)) is None:
                break
            read = True
            if data:
                self._take_in(data)
                connection.wire.check(clock)
            else:
                self.end = self._closing or Closed(ABNORMAL)
            if self.ended or not self.has_room:
                break
        if read:
            self._write(connection)
        return read

    def _write(self, connection: Connection) -> None:
        if self._pong is not None and not self._unsent:
            with suppress(LocalProtocolError):  # the close frame was sent: no more is
                self._unsent += self._frames.send(self._pong)
            self._pong = None
        while self._unsent and (written := connection.wire.write_now(self._unsent)):
            del self._unsent[:written]

    def _until_due(self, now: float) -> float:
        """Seconds until a ping is due, or the other side has been silent for too long."""
        if self._closing is not None:
            return max(0.0, self._close_by - now)
        return max(0.0, max(self._heard, self._pinged) + self._ping_after - now)

    @property
    def _ping_after(self) -> float:
        return min(_PING_S, self._limits.idle_timeout_s / 3)

    def _keep_alive(self, now: float, at: str) -> None:
        if self._closing is not None:
            if now >= self._close_by:
                self.end = self._closing
        elif now - self._heard >= (idle_s := self._limits.idle_timeout_s) and self._had_time_to_answer(now):
            words = f"{{}} sent nothing for {idle_s:g} s, and answered no ping"
            raise EgressError("timeout", words, at, limit="idle_timeout", waited_s=idle_s)
        elif now - max(self._heard, self._pinged) >= self._ping_after:
            self._pinged = now
            if self._asked <= self._heard:
                self._asked = now
            self._unsent += self._frames.send(Ping())

    def _had_time_to_answer(self, now: float) -> bool:
        """Whether a ping since something was heard is old enough. None was sent where this process stood still for as
        long as the other side may be silent."""
        return self._heard < self._asked <= now - self._ping_after

    def _take_in(self, data: bytes) -> None:
        self._heard = time.monotonic()
        self.received_bytes += len(data)
        if self.received_bytes > (most := self._limits.max_connection_bytes):
            self._fail(TOO_BIG, failures.too_much(most, "max_connection_size"))
            return
        self._frames.receive_data(data)
        for event in self._frames.events():
            match event:
                case TextMessage() | BytesMessage():
                    self._add(event)
                case Ping():
                    self._pong = event.response()
                case CloseConnection():
                    self._close_came(event)
            if self.ended:
                return

    def _add(self, event: TextMessage | BytesMessage) -> None:
        whole: SocketMessage = event.data if isinstance(event.data, str) else bytes(event.data)
        size = len(self._begun) + size_of(whole)
        if size > (most := self._limits.max_message_bytes):
            self._fail(TOO_BIG, failures.too_much(most, "max_message_size"))
            return
        if self._begun or not event.message_finished:
            self._begun += whole.encode() if isinstance(whole, str) else whole
            if not event.message_finished:
                return
            whole = self._begun.decode() if isinstance(whole, str) else bytes(self._begun)
            self._begun = bytearray()
        self._waiting.append(whole)
        self._waiting_bytes += size
        self.received += 1

    def _close_came(self, event: CloseConnection) -> None:
        """A close frame; or what wsproto says in place of one, of a frame that breaks the protocol."""
        assert self._connection is not None
        code = int(event.code)
        if self._frames.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            broken = "a text that is not UTF-8" if code == 1007 else "a frame that is not acceptable"
            self._fail(code, EgressError("http_error", f"{{}} sent {broken}", self._connection.wire.at))
            return
        self.end = Closed(code, event.reason or "")
        if self._frames.state is ConnectionState.REMOTE_CLOSING:
            self._unsent += self._frames.send(event.response())

    def _fail(self, code: int, error: EgressError) -> None:
        if self._frames.state is ConnectionState.OPEN:
            self._unsent += self._frames.send(CloseConnection(code=code))
        self._failure, self._begun = error, bytearray()
