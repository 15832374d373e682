"""Sends requests and reads answers: the public part of this package."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final, overload
from weakref import finalize

from host.core.limits import Limits
from host.core.repeating import IDEMPOTENT
from host.egress import failures
from host.egress.connection import Connection, Pool
from host.egress.decoding import Decoder, decoder
from host.egress.dns import Lookups, Resolver, system_resolver
from host.egress.failures import ConnectionLostError, EgressError
from host.egress.headers import Fields, RawFields, incoming_fields, outgoing_fields, without
from host.egress.socket import AddressPolicy, Deadline, Wait
from host.egress.tls import Contexts, TlsByOrigin, system_tls
from host.policy.urls import Target

if TYPE_CHECKING:
    from host.egress.websocket import WebSocket

_ERRORS: Final = 400
_SWITCHING: Final = 101  # the answer that opens a WebSocket


_WAITS: Final = Limits()
_SYSTEMS: Final = TlsByOrigin()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request. `headers` are the guest's, with secrets in place. `max_response_bytes` bounds the answer's body, both
    as it comes over the wire and decoded. `waits` are the limits whose connect, first byte and idle timeouts bound
    single waits: for a connection; for the head of the answer, with the sending before it; for a byte of its body. The
    `caller` is the API key that it is for, "" for none: connections are shared out by them."""

    method: str
    target: Target
    headers: Fields = field(repr=False)
    body: bytes = field(repr=False)
    max_response_bytes: int
    waits: Limits = _WAITS
    caller: str = ""


class Egress:
    """The outgoing network of one Host: a resolver and a TLS context, shared by the clients of all catalysts.

    Nothing comes from the environment but OpenSSL's own choice of trusted certificates.
    """

    def __init__(
        self,
        *,
        resolver: Resolver = system_resolver,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._resolver = resolver
        self._tls = cache(lambda: ssl_context or system_tls())
        self._pools: set[Pool] = set()

    def client(
        self,
        reach: AddressPolicy,
        tls: TlsByOrigin = _SYSTEMS,
        *,
        max_connections: int = _WAITS.max_upstream_connections,
    ) -> EgressClient:
        """A client for one catalyst; its connections, checked under its policy, serve no other. `tls` has the origins
        for which its policy wants another TLS. It has `max_connections` at most, idle ones included."""
        pool = Pool(max_connections, on_close=self._pools.discard)
        self._pools.add(pool)
        client = EgressClient(reach, Lookups(self._resolver), tls.contexts(self._tls), pool)
        finalize(client, pool.close)  # closes the connections of a catalyst that is no longer used
        return client

    def close(self) -> None:
        """Close every client; requests under way end with an EgressError (cancelled)."""
        for pool in list(self._pools):
            pool.close()


class EgressClient:
    """Sends requests for one catalyst. Made by `Egress.client`. Thread-safe."""

    def __init__(self, reach: AddressPolicy, lookups: Lookups, tls: Contexts, pool: Pool) -> None:
        self._reach = reach
        self._lookups = lookups
        self._tls = tls
        self._pool = pool

    def send(self, outgoing: Outgoing, clock: Deadline) -> Answer:
        """Send `outgoing`. Returns the answer once it has begun, with its body still to be read. Redirects are answers.

        A request is sent a second time, once and over a new connection, only if its method is idempotent (RFC 9110,
        9.2.2), the connection was a reused one, and it broke off before a byte of the answer: the server had hung up
        on an idle connection. A POST is never sent twice, so that nothing is paid for twice.

        Raises EgressError.
        """
        fields = outgoing_fields(outgoing.method, outgoing.target, outgoing.headers, outgoing.body)
        connection = self._pool.lend(outgoing.target.at, clock, caller=outgoing.caller)
        try:
            return self._exchange(connection, outgoing, fields, clock)
        except ConnectionLostError:
            if outgoing.method not in IDEMPOTENT or not connection.reused or connection.heard:
                raise
        connection = self._pool.lend(outgoing.target.at, clock, caller=outgoing.caller, unused=True)
        return self._exchange(connection, outgoing, fields, clock)

    def connect(self, outgoing: Outgoing, subprotocols: Sequence[str], clock: Deadline) -> WebSocket | Answer:
        """Open a WebSocket by `outgoing`, a GET without a body, over a connection of its own. Returns the answer where
        that is no 101. The request is sent once. Raises EgressError."""
        from host.egress import websocket  # noqa: PLC0415 - most catalysts open none, and it loads wsproto

        fields = outgoing_fields(outgoing.method, outgoing.target, outgoing.headers, outgoing.body)
        fields, accept = websocket.handshake_fields(fields, subprotocols)
        connection = self._pool.lend(outgoing.target.at, clock, caller=outgoing.caller, unused=True)

        def opened(raw: RawFields) -> WebSocket:
            headers, chosen = websocket.accepted(raw, subprotocols, accept, connection.wire.at)
            return websocket.WebSocket(connection, headers, chosen, outgoing.waits, self._take_back)

        return self._exchange(connection, outgoing, fields, clock, opened)

    def close(self) -> None:
        """Close all connections. Sending afterwards is an EgressError."""
        self._pool.close()

    @overload
    def _exchange(self, connection: Connection, outgoing: Outgoing, fields: RawFields, clock: Deadline) -> Answer: ...

    @overload
    def _exchange(
        self,
        connection: Connection,
        outgoing: Outgoing,
        fields: RawFields,
        clock: Deadline,
        opened: Callable[[RawFields], WebSocket],
    ) -> WebSocket | Answer: ...

    def _exchange(
        self,
        connection: Connection,
        outgoing: Outgoing,
        fields: RawFields,
        clock: Deadline,
        opened: Callable[[RawFields], WebSocket] | None = None,
    ) -> WebSocket | Answer:
        """`opened` makes a WebSocket of the fields of a 101, which no other request gets."""
        wire = connection.wire
        limit: failures.WaitLimit = "connect_timeout"
        seconds = outgoing.waits.connect_timeout_s
        try:
            with wire.interruptible(clock):
                if not wire.usable:
                    wire.open(self._reach, self._lookups, self._tls, Wait(clock, seconds))
                limit, seconds = "first_byte_timeout", outgoing.waits.first_byte_timeout_s
                wait = Wait(clock, seconds)
                connection.send(outgoing.method, outgoing.target.path_query, fields, outgoing.body, wait)
                status, raw = connection.receive_head(wait)
            if opened is not None and status == _SWITCHING:
                return opened(raw)
            bodiless = outgoing.method == "HEAD" or status in (204, 304)
            return Answer(
                status=status,
                raw=raw,
                bodiless=bodiless,
                max_bytes=outgoing.max_response_bytes,
                idle_s=outgoing.waits.idle_timeout_s,
                connection=connection,
                take_back=self._take_back,
            )
        except BaseException as error:
            self._pool.take_back(connection, usable=False)
            if isinstance(error, EgressError):
                error = failures.waited(error, clock.remaining(), limit, seconds, wire.at, wire.doing)
                error.sent = limit != "connect_timeout"
                raise error from None
            raise

    def _take_back(self, connection: Connection, *, usable: bool) -> None:
        """A method of the client, so that the client lives as long as its answers."""
        self._pool.take_back(connection, usable=usable)


class Answer:
    """A response that has begun. `headers` have lower-case names and Latin-1 values, without hop-by-hop fields. A
    decoded body has no content-encoding and content-length among them. Belongs to one thread; to be closed.

    A body that cannot be read makes no answer, unless its status is an error: that, and when to try again, is worth
    more than the body, whose reading then fails."""

    def __init__(
        self,
        *,
        status: int,
        raw: list[tuple[bytes, bytes]],
        bodiless: bool,
        max_bytes: int,
        idle_s: float,
        connection: Connection,
        take_back: Callable[..., None],
    ) -> None:
        self.status = status
        self.headers = incoming_fields(raw)
        self._decoder: Decoder | None = None  # of a body in a content coding
        self._plain = b""  # of one in none: what came and was not handed out
        self._max_bytes = max_bytes
        self._idle_s = idle_s
        self._received = 0
        self._decoded = 0
        self._connection: Connection | None = connection
        self._take_back = take_back
        self._unreadable: EgressError | None = None
        if not bodiless:
            try:
                self._prepare_body()
            except EgressError as error:
                if status < _ERRORS:
                    raise
                self._unreadable = error

    def read(self, clock: Deadline, max_bytes: int = 64 * 1024) -> bytes:
        """The next decoded bytes as soon as there are any, at most `max_bytes`; empty at the end, and after `close`.

        Raises EgressError, after which the answer is closed.
        """
        if self._connection is None:
            return b""
        try:
            piece = self._next_piece(self._connection, clock, max(1, max_bytes))
        except BaseException as error:
            at = self._connection.wire.at
            self._release(usable=False)
            if isinstance(error, EgressError):
                raise failures.waited(error, clock.remaining(), "idle_timeout", self._idle_s, at, "body") from None
            raise
        if not piece:
            self._release(usable=True)
        return piece

    def read_all(self, clock: Deadline) -> bytes:
        """The rest of the body. Raises EgressError."""
        return b"".join(iter(lambda: self.read(clock), b""))

    def close(self) -> None:
        """Give the connection back, or end it if the body has not ended. Any number of times."""
        if self._connection is not None:
            self._release(usable=self._connection.ends_here())

    def _prepare_body(self) -> None:
        codings = []
        for name, value in self.headers:
            if name == "content-length" and int(value) > self._max_bytes:
                raise failures.too_large(self._max_bytes)
            if name == "content-encoding":
                codings.append(value)
        self._decoder = decoder(codings, self._max_bytes) if codings else None
        if self._decoder is not None:
            self.headers = without(self.headers, ("content-encoding", "content-length"))
        elif codings:  # which are none
            self.headers = without(self.headers, ("content-encoding",))

    def _next_piece(self, connection: Connection, clock: Deadline, max_bytes: int) -> bytes:
        if self._unreadable is not None:
            raise self._unreadable
        with connection.wire.interruptible(clock):
            connection.wire.check(clock)  # after the end of the run, received bytes are not handed out either
            while True:
                if piece := self._take(min(max_bytes, self._max_bytes - self._decoded + 1)):
                    break
                data = connection.receive_data(clock, self._idle_s)
                self._received += len(data)
                self._feed(data)
                if not data:
                    return b""
        self._decoded += len(piece)
        if max(self._received, self._decoded) > self._max_bytes:
            raise failures.too_large(self._max_bytes)
        return piece

    def _take(self, size: int) -> bytes:
        if self._decoder is not None:
            return self._decoder.take(size)
        piece, self._plain = self._plain[:size], self._plain[size:]
        return piece

    def _feed(self, data: bytes) -> None:
        """More of the body as it came; nothing at its end."""
        if self._decoder is None:
            self._plain = data
        elif data:
            self._decoder.feed(data)
        else:
            self._decoder.finish()

    def _release(self, *, usable: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._take_back(connection, usable=usable)
