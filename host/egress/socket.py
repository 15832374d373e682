"""One connection's socket: connected to a checked address, bounded by the run's time, woken when the run is
cancelled."""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Final, Protocol

from host.core.names import Domain
from host.egress import failures
from host.egress.dns import Lookups
from host.egress.failures import Doing, EgressError, timed_out
from host.egress.tls import Contexts
from host.policy.addresses import Address, Network, allowed
from host.policy.urls import Origin

_WRITE_BYTES: Final = 256 * 1024  # at once; the deadline is checked between two writes

_LOOKUP_S: Final = 5.0  # for a name: the system's own resolver waits longer for a server that does not answer
_LOOK_S: Final = 0.05  # how often one that is not read is looked at, whose other side has gone
_NOT_NOW: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_LONGEST_WAIT_S: Final = 3_600.0  # sockets refuse to wait for infinity


class Deadline(Protocol):
    """The time left of a run. Implemented by `host.run.Run`."""

    def remaining(self) -> float:
        """Seconds left of the run; 0 or less when it is over or was cancelled."""

    def interruptible(self, abort: Callable[[], None]) -> AbstractContextManager[None]:
        """Inside, `abort` is called once, from another thread, when the run is cancelled (at once if it already is)."""


_QUICK_ACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)  # Linux has it


def left(clock: Deadline, at: str, doing: Doing = "answer") -> float:
    """Seconds for which a wait on `at` may last, always more than 0. Raises EgressError (timeout)."""
    remaining = clock.remaining()
    if remaining <= 0:
        raise timed_out(at, doing)
    return min(remaining, _LONGEST_WAIT_S)


class Wait:
    """The time left of a run for one wait in it, which may take `seconds` at most. A Deadline."""

    __slots__ = ("_clock", "_until")

    def __init__(self, clock: Deadline, seconds: float) -> None:
        self._clock = clock
        self._until = time.monotonic() + seconds

    def remaining(self) -> float:
        return min(self._clock.remaining(), self._until - time.monotonic())

    def interruptible(self, abort: Callable[[], None]) -> AbstractContextManager[None]:
        return self._clock.interruptible(abort)


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Where a catalyst's connections may lead besides public addresses: into the `private` networks, and anywhere for
    the `mapped` origins (as `str(Origin)`), which the operator named as upstreams."""

    private: tuple[Network, ...] = ()
    mapped: frozenset[str] = frozenset()

    def accepts(self, origin: Origin, address: Address) -> bool:
        return allowed(address, self.private) or str(origin) in self.mapped


class Socket:
    """Made before there is a socket, so that a cancellation finds something to act on while a name is looked up.

    One thread uses it at a time; `abort` may be called from any. Every method raises EgressError and nothing else.
    `doing` is for its words: whoever reads and writes sets it.
    """

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.at = origin.endpoint
        self.doing: Doing = "connect"
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._wake: Callable[[], object] | None = None  # ends the wait that is under way
        self._aborted = False
        self._lease: object = None

    @property
    def usable(self) -> bool:
        return self._socket is not None and not self._aborted

    @property
    def quiet(self) -> bool:
        """Whether nothing has arrived unasked. Bytes on an idle connection are its end, or the answer to no request."""
        if self._socket is None or (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
            return False
        return not _ready(self._socket, select.POLLIN, 0)

    @contextmanager
    def interruptible(self, clock: Deadline) -> Iterator[None]:
        """Inside, a cancellation of the run ends this socket. A cancellation still under way when the block is left
        does nothing: by then the socket may serve another run."""
        lease = object()

        def abort() -> None:
            with self._lock:
                if self._lease is lease:
                    self._end_wait()

        with self._lock:
            self._lease = lease
        try:
            with clock.interruptible(abort):
                yield
        finally:
            with self._lock:
                self._lease = None

    def abort(self) -> None:
        """End it for good; a thread that waits on it wakes."""
        with self._lock:
            self._end_wait()

    def close(self) -> None:
        with self._lock:
            self._wake = None
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def open(self, reach: AddressPolicy, lookups: Lookups, tls: Contexts, clock: Deadline) -> None:
        """Resolve once, check every answer, connect to one of them, and verify the certificate for the name."""
        try:
            with self._translating():
                addresses = self._resolve(lookups, clock)
                if not all(reach.accepts(self.origin, address) for address in addresses):
                    raise failures.not_public(self.at)
                self._dial(addresses, clock)
                if self.origin.scheme == "https":
                    self.doing = "tls"
                    self._start_tls(tls(self.origin), clock)
        except EgressError as error:
            raise error.outside_a_proxy(self.at) from None

    def check(self, clock: Deadline) -> float:
        """Seconds that an operation may take now. Raises EgressError (cancelled, timeout)."""
        if self._aborted:
            raise failures.cancelled()
        return left(clock, self.at, self.doing)

    def read(self, size: int, clock: Deadline) -> bytes:
        """Up to `size` bytes as soon as there are any; empty when the other side has ended the connection."""
        with self._translating():
            wire = self._within(clock)
            if _QUICK_ACK is not None:
                # A server that writes head and body apart, and leaves Nagle's algorithm on, sends the body when the
                # head is acknowledged: 40 ms later, if the system waits to do so. It forgets this at every turn.
                wire.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
            read = wire.recv(size)
        if self._aborted:
            raise failures.cancelled()
        return read

    def write(self, data: bytes, clock: Deadline) -> None:
        """All of `data`."""
        unsent = memoryview(data)
        with self._translating():
            while unsent:
                unsent = unsent[self._within(clock).send(unsent[:_WRITE_BYTES]) :]

    def read_now(self, size: int) -> bytes | None:
        """Up to `size` bytes that are there; None where there are none, empty at the end of the connection."""
        with self._translating():
            try:
                read = self._now().recv(size)
            except _NOT_NOW:
                return None
        if self._aborted:
            raise failures.cancelled()
        return read

    def write_now(self, data: bytearray) -> int:
        """How many bytes at the beginning of `data` the system takes without waiting. After 0 the next call is to begin
        with the same bytes: TLS may have encrypted them already."""
        with self._translating(), memoryview(data) as view:
            try:
                return self._now().send(view[:_WRITE_BYTES])
            except _NOT_NOW:
                return 0

    def wait(self, clock: Deadline, seconds: float, *, reading: bool, writing: bool, wake: int | None = None) -> None:
        """Wait until it can be read or written, where that is wanted, or the descriptor `wake` can be read; at most for
        so many seconds."""
        with self._translating():
            waited = self._now()
            seconds = min(seconds, self.check(clock))
            if reading and isinstance(waited, ssl.SSLSocket) and waited.pending():
                return
            poll = select.poll()
            if wake is not None:
                poll.register(wake, select.POLLIN)
            poll.register(waited, (select.POLLIN if reading else 0) | (select.POLLOUT if writing else 0))
            found = dict(poll.poll(math.ceil(seconds * 1_000)))
            if not reading and found.keys() == {waited.fileno()} and not found[waited.fileno()] & select.POLLOUT:
                poll.unregister(waited)  # the other side has gone, which shows at the next read
                poll.poll(math.ceil(min(seconds, _LOOK_S) * 1_000))

    def _resolve(self, lookups: Lookups, clock: Deadline) -> tuple[Address, ...]:
        if not isinstance(self.origin.host, Domain):
            return (self.origin.host,)
        lookup = lookups.start(self.origin.host)
        with self._lock:
            self._wait_with(lookup.done.set)
        if not lookup.done.wait(min(_LOOKUP_S, left(clock, self.at, self.doing))):
            lookup.done.set()
            left(clock, self.at, self.doing)  # raises where the run's own time is over
            raise EgressError("dns_error", f"{{host}} does not resolve within {_LOOKUP_S:g} s", self.at)
        if self._aborted:
            raise failures.cancelled()
        if not lookup.addresses:
            raise EgressError("dns_error", "{host} does not resolve", self.at)
        return lookup.addresses

    def _dial(self, addresses: tuple[Address, ...], clock: Deadline) -> None:
        """Each address in turn gets its share of the time that is left, so that a silent one does not take it all."""
        for more, address in zip(reversed(range(len(addresses))), addresses, strict=True):
            try:
                self._connect(address, left(clock, self.at, self.doing) / (more + 1))
            except OSError:
                if self._aborted or not more:
                    raise
            else:
                return

    def _connect(self, address: Address, timeout_s: float) -> None:
        family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
        self.close()
        self._socket = dialling = socket.socket(family, socket.SOCK_STREAM)
        dialling.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        dialling.setblocking(False)
        with self._lock:  # begun under the lock, because shutting down a socket that is not yet connecting does nothing
            self._wait_with(self._shut_down)
            begun = dialling.connect_ex((str(address), self.origin.port))
        if begun == errno.EINPROGRESS:
            if not _ready(dialling, select.POLLOUT, timeout_s):
                raise TimeoutError
            begun = dialling.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if begun:
            raise OSError(begun, os.strerror(begun))
        peer, port = dialling.getpeername()[:2]
        if (ip_address(peer), port) != (address, self.origin.port):
            raise failures.not_public(self.at)

    def _start_tls(self, tls: ssl.SSLContext, clock: Deadline) -> None:
        with self._lock:
            if self._socket is None:
                raise failures.cancelled()
            # A ragged end would pass for the end of a body that has no length: it must be an error.
            self._socket = wrapped = tls.wrap_socket(
                self._socket,
                server_hostname=str(self.origin.host),
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,
            )
        wrapped.settimeout(left(clock, self.at, self.doing))
        wrapped.do_handshake()

    def _now(self) -> socket.socket:
        """The socket, for operations that do not wait."""
        if self._socket is None or self._aborted:
            raise failures.cancelled()
        self._socket.settimeout(0.0)
        return self._socket

    def _within(self, clock: Deadline) -> socket.socket:
        """The socket, for one operation that ends with the run's time."""
        timeout_s = self.check(clock)
        if self._socket is None:
            raise failures.cancelled()
        self._socket.settimeout(timeout_s)
        return self._socket

    def _wait_with(self, wake: Callable[[], object]) -> None:
        """From now on, `wake` ends the wait that follows. The lock is held."""
        if self._aborted:
            raise failures.cancelled()
        self._wake = wake

    def _end_wait(self) -> None:
        """The lock is held."""
        self._aborted = True
        if self._wake is not None:
            self._wake()

    def _shut_down(self) -> None:
        """Wakes every operation on the socket, connecting too. The lock is held. Not SSLSocket's own method, which
        takes TLS off the socket that the other thread is using."""
        if self._socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001  the map is total: whatever a socket raises becomes an EgressError
            raise (failures.cancelled() if self._aborted else failures.translated(error, self.at, self.doing)) from None


def takes_connections(host: str, port: int, within_s: float) -> bool:
    """Whether the address, which the operator names, takes a connection within so many seconds."""
    try:
        socket.create_connection((host, port), within_s).close()
    except (OSError, OverflowError):
        return False
    return True


def _ready(waited: socket.socket, event: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(waited, event)
    return bool(poll.poll(math.ceil(timeout_s * 1_000)))
