"""HTTP/1.1 connections, and the pool that keeps those of one catalyst; the grammar is h11's."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import h11

from host.core import forks
from host.core.slots import ALONE, Share, Slots
from host.egress import failures
from host.egress.failures import ConnectionLostError, EgressError
from host.egress.headers import MAX_HEAD_BYTES, RawFields
from host.egress.socket import Deadline, Socket, Wait
from host.errors import Busy
from host.policy.urls import Origin

KEEP_IDLE_S: Final = 15.0  # shorter than what servers commonly keep, so that they seldom hang up on a request
_READ_BYTES: Final = 64 * 1024
_FEW: Final = 8  # connections: a run may need several at once
_ONE_WRITE_BYTES: Final = 64 * 1024  # up to this size, head and body leave in one packet train
_INTERIM: Final = frozenset({100, *range(102, 200)})
_MAX_INTERIM_RESPONSES: Final = 10  # 1xx; a server that sends more means to keep us busy


class Connection:
    """One HTTP/1.1 connection. `reused`: an earlier exchange on it went well. `heard`: a byte of the current answer has
    come."""

    def __init__(self, wire: Socket) -> None:
        self.wire = wire
        self.reused = False
        self.heard = False
        self._idle_since = 0.0
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._ahead: object = None  # what follows the data that was received last: an event or an error

    def send(self, method: str, path_query: bytes, fields: RawFields, body: bytes, clock: Deadline) -> None:
        """Send the whole request. A server may answer and hang up before it has all of it. That is no failure: its
        answer may still be read."""
        self.wire.doing = "send"
        try:
            head = self._http.send(h11.Request(method=method, target=path_query, headers=fields))
            rest = self._http.send(h11.Data(data=body)) if body else b""
            self._http.send(h11.EndOfMessage())
        except h11.LocalProtocolError as error:
            raise failures.translated(error, self.wire.at) from None
        pieces = [head, rest] if len(body) > _ONE_WRITE_BYTES else [(head or b"") + (rest or b"")]
        with suppress(ConnectionLostError):
            for piece in pieces:
                self.wire.write(piece or b"", clock)

    def receive_head(self, clock: Deadline) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Status and fields (lower-case names, in order) of the final response. That is 101 too, which comes only where
        the request asked for another protocol."""
        self.wire.doing = "answer"
        for _ in range(_MAX_INTERIM_RESPONSES):
            event = self._next(clock)
            if isinstance(event, h11.Response | h11.InformationalResponse) and event.status_code not in _INTERIM:
                self.wire.doing = "body"
                return event.status_code, list(event.headers)
        raise EgressError("http_error", "{} sent too many interim responses", self.wire.at)

    def receive_data(self, clock: Deadline, idle_s: float) -> bytes:
        """The next bytes of the body as soon as there are some, with what else of it has come, and without its transfer
        coding; empty at the end. The other side may be silent for `idle_s` seconds."""
        while True:
            event = self._next(clock, idle_s)
            if isinstance(event, h11.EndOfMessage):
                return b""
            if isinstance(event, h11.Data) and event.data:
                return self._with_more(bytes(event.data))

    def _with_more(self, data: bytes) -> bytes:
        """`data` and the pieces behind it that have come with it: a stream's events are often a chunk each."""
        pieces, size = [data], len(data)
        while size < _READ_BYTES and self._http.their_state is h11.SEND_BODY:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self._ahead = error
                break
            if isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
                size += len(event.data)
            elif event is h11.NEED_DATA:
                break
            else:
                self._ahead = event
        return b"".join(pieces) if len(pieces) > 1 else data

    def _event(self) -> object:
        """The next event of what has come. Raises RemoteProtocolError."""
        ahead, self._ahead = self._ahead, None
        if isinstance(ahead, h11.RemoteProtocolError):
            raise ahead
        return self._http.next_event() if ahead is None else ahead

    @property
    def behind(self) -> bytes:
        """What has come behind the head of a 101: it is in the other protocol."""
        return self._http.trailing_data[0]

    def ends_here(self) -> bool:
        """Whether the rest of the body has already come: then the connection can be used again, with the body
        unread."""
        try:
            while self._http.their_state is h11.SEND_BODY:
                if self._http.next_event() is h11.NEED_DATA:
                    return False
        except h11.RemoteProtocolError:
            return False
        return True

    def recycle(self) -> bool:
        """Make ready for another exchange. Returns False unless this one ended cleanly and nothing came after it:
        leftover bytes would be taken for the answer to the next request."""
        states = (self._http.our_state, self._http.their_state)
        if states != (h11.DONE, h11.DONE) or self._http.trailing_data[0] or not self.wire.usable:
            return False
        self._http.start_next_cycle()
        self._ahead = None
        self.reused, self.heard, self._idle_since = True, False, time.monotonic()
        return True

    def fresh(self, longest_idle_s: float) -> bool:
        """Whether an idle connection may still be used: not for too long idle, and not ended by the other side."""
        return time.monotonic() - self._idle_since < longest_idle_s and self.wire.usable and self.wire.quiet

    def _next(self, clock: Deadline, idle_s: float | None = None) -> object:
        ended = False
        while True:
            try:
                event = self._event()
            except h11.RemoteProtocolError as error:
                if ended:  # where the body would have gone on
                    raise ConnectionLostError(self.wire.at, "body") from None
                raise failures.translated(error, self.wire.at, self.wire.doing) from None
            if event is not h11.NEED_DATA:
                return event
            data = self.wire.read(_READ_BYTES, clock if idle_s is None else Wait(clock, idle_s))
            ended = not data
            if ended and self._http.their_state is h11.SEND_RESPONSE:
                raise ConnectionLostError(self.wire.at, self.wire.doing)
            if not self.heard and data:
                self.heard, self.wire.doing = True, "head"
            self._http.receive_data(data)


class Pool:
    """At most `size` connections, lent or idle, over all origins. Where all are lent, requests wait: see `Slots` for
    who is next. A caller has at most half of them, and others wait for none of theirs. Who holds some and wants more
    may wait for others who do the same: their deadlines end that."""

    def __init__(self, size: int, on_close: Callable[[Pool], None]) -> None:
        self._size = size
        self._on_close = on_close
        self._places = Slots(size)
        self._most = size if size < _FEW else None  # of one caller: few connections are not shared out
        self._lock = threading.Lock()
        self._idle: list[Connection] = []  # the longest idle first
        self._lent: dict[Connection, Share] = {}
        self._closed = False
        self._generation = forks.generation

    def lend(self, origin: Origin, clock: Deadline, *, caller: str = "", unused: bool = False) -> Connection:
        """An idle connection to `origin`, the last used first, or one yet to be opened (always that if `unused`). The
        `caller` "" is nobody in particular, and may have all of them. Raises EgressError (http_error), of which nothing
        was sent, where there is none for as long as `clock` has time."""
        share = Share(caller, "", self._most, None, math.inf) if caller else ALONE
        try:
            self._places.take(clock, share)
        except Busy:
            raise self._none() from None
        with self._lock:
            if not self._closed:
                self._drop_stale()
                connection = None if unused else self._last_used(origin)
                if connection is None:
                    if len(self._lent) + len(self._idle) >= self._size:
                        self._idle.pop(0).wire.close()
                    connection = Connection(Socket(origin))
                self._lent[connection] = share
                return connection
        self._places.give_back(share)
        raise self._none()

    def _none(self) -> EgressError:
        said = f"this catalyst has {self._size} connections, and none is free for this request"
        said = f"{said} (raise max_upstream_connections in its policy)"
        error = EgressError("http_error", "the host has closed this catalyst's connections" if self._closed else said)
        error.sent = False
        return error

    def take_back(self, connection: Connection, *, usable: bool) -> None:
        """End a loan. An unusable connection is closed, as is any once the pool has been."""
        with self._lock:
            share = self._lent.pop(connection, None)
            kept = usable and not self._closed and connection.recycle()
            if kept:
                self._idle.append(connection)
        if not kept:
            connection.wire.close()
        if share is not None:
            self._places.give_back(share)

    def close(self) -> None:
        """Close the idle connections and end the lent ones; a thread that reads from one wakes. A child of a fork ends
        none of its parent's."""
        if self._generation != forks.generation:
            return
        with self._lock:
            self._closed = True
            for connection in self._idle:
                connection.wire.close()
            self._idle.clear()
            for connection in self._lent:
                connection.wire.abort()
        self._places.close()
        self._on_close(self)

    def _last_used(self, origin: Origin) -> Connection | None:
        for connection in reversed(self._idle):
            if connection.wire.origin == origin:
                self._idle.remove(connection)
                return connection
        return None

    def _drop_stale(self) -> None:
        for connection in [idle for idle in self._idle if not idle.fresh(KEEP_IDLE_S)]:
            self._idle.remove(connection)
            connection.wire.close()
