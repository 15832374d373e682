"""Servers with scripted behaviour on loopback, and a deadline that a test can control."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv4Network

import pytest

from host.egress import AddressPolicy, Answer, Egress, EgressClient, Outgoing
from host.policy.urls import Target
from tests.tls import certificates as certificates  # noqa: PLC0414 - the fixture, for the tests here

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOOPBACK = AddressPolicy(private=(IPv4Network("127.0.0.0/8"),))


class Peer:
    """The server's end of one connection."""

    def __init__(
        self, connection: socket.socket, number: int, stopped: threading.Event, opened: list[socket.socket]
    ) -> None:
        self.socket = connection
        self.number = number  # 0 for the server's first connection
        self.stopped = stopped
        self._opened = opened

    def start_tls(self, context: ssl.SSLContext) -> None:
        """From now on it speaks TLS. The server's end ends that too."""
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self._opened.append(self.socket)

    def request(self) -> bytes:
        """Returns one request, head and body; b"" if the client has hung up."""
        received = b""
        while b"\r\n\r\n" not in received:
            if not (more := self.socket.recv(65_536)):
                return b""
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        while len(body) < length and (more := self.socket.recv(65_536)):
            body += more
        return head + b"\r\n\r\n" + body

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def hang(self) -> None:
        """Sends nothing more until the test ends or the client hangs up."""
        self.socket.settimeout(0.05)
        while not self.stopped.is_set():
            with suppress(TimeoutError):
                if not self.socket.recv(65_536):
                    return

    def drip(self, data: bytes) -> None:
        """Sends the same bytes fifty times per second."""
        while not self.stopped.wait(0.02):
            self.send(data)


class Server:
    """Runs `behave` on a thread for each connection. `requests` has the requests of all connections."""

    def __init__(self, behave: Callable[[Peer], None], tls: ssl.SSLContext | None, address: str) -> None:
        self._behave = behave
        self._tls = tls
        self._stopped = threading.Event()
        self._listener = socket.create_server((address, 0))
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self.asked = threading.Event()
        self.hung_up = threading.Event()
        self._start(self._accept)

    def url(self, path: str = "/", *, host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def close(self) -> None:
        self._stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            number = self.connections
            self.connections += 1
            self._start(lambda connection=connection, number=number: self._serve(connection, number))

    def _serve(self, connection: socket.socket, number: int) -> None:
        connection.settimeout(60)
        try:
            with suppress(OSError):
                self._open.append(connection)
                peer = Peer(connection, number, self._stopped, self._open)
                if self._tls:
                    peer.start_tls(self._tls)
                    connection = peer.socket
                peer.request = self._noting(peer.request)  # type: ignore[method-assign]  # to see what was asked
                self._behave(peer)
        finally:
            connection.close()
            self.hung_up.set()

    def _noting(self, request: Callable[[], bytes]) -> Callable[[], bytes]:
        def noted() -> bytes:
            asked = request()
            if asked:
                self.requests.append(asked)
                self.asked.set()
            return asked

        return noted


class StopClock:
    """A run of this many seconds, which a test can cancel."""

    def __init__(self, seconds: float = 30) -> None:
        self._deadline = time.monotonic() + seconds
        self._aborts: list[Callable[[], None]] = []
        self._cancelled = False
        self._lock = threading.Lock()
        self.all_aborts: list[Callable[[], None]] = []

    def remaining(self) -> float:
        return self._deadline - time.monotonic()

    def end_in(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def cancel(self) -> None:
        with self._lock:
            self._cancelled, aborts = True, list(self._aborts)
        for abort in aborts:
            abort()

    @contextmanager
    def interruptible(self, abort: Callable[[], None]) -> Iterator[None]:
        with self._lock:
            self._aborts.append(abort)
            self.all_aborts.append(abort)
            cancelled = self._cancelled
        if cancelled:
            abort()
        try:
            yield
        finally:
            with self._lock:
                self._aborts.remove(abort)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """serve(behave, tls=None, address="127.0.0.1") -> Server"""
    servers = []

    def start(behave: Callable[[Peer], None], tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> Server:
        servers.append(Server(behave, tls, address))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def answering(serve: Callable[..., Server]) -> Callable[..., Server]:
    """answering(response, …) -> a Server that answers every request with these bytes and keeps the connection."""

    def start(response: bytes = OK, **options: object) -> Server:
        def behave(peer: Peer) -> None:
            while peer.request():
                peer.send(response)

        return serve(behave, **options)

    return start


@pytest.fixture
def ending(serve: Callable[..., Server]) -> Callable[..., Server]:
    """ending(response) -> a Server that answers one request with these bytes and hangs up."""

    def start(response: bytes, **options: object) -> Server:
        def behave(peer: Peer) -> None:
            peer.request()
            peer.send(response)

        return serve(behave, **options)

    return start


@pytest.fixture
def egress() -> Iterator[Callable[..., Egress]]:
    """egress(**options) -> an Egress whose resolver returns 127.0.0.1 for every name by default."""
    made = []

    def make(**options: object) -> Egress:
        made.append(Egress(**{"resolver": lambda name: (IPv4Address("127.0.0.1"),), **options}))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def client(egress: Callable[..., Egress]) -> EgressClient:
    """A client that may reach loopback."""
    return egress().client(LOOPBACK)


@pytest.fixture
def clock() -> StopClock:
    return StopClock()


@pytest.fixture
def short_clock() -> Callable[[], StopClock]:
    """A run with a third of a second left."""
    return lambda: StopClock(0.3)


def outgoing(
    url: str,
    method: str = "GET",
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes = b"",
    limit: int = 1_000_000,
) -> Outgoing:
    return Outgoing(method, Target.parse(url), headers, body, limit)


@pytest.fixture
def ask(client: EgressClient, clock: StopClock) -> Callable[..., Answer]:
    """ask(url, method, headers, body, limit, using=client, within=clock) -> Answer"""

    def send(
        url: str, *args: object, using: EgressClient = client, within: StopClock = clock, **options: object
    ) -> Answer:
        return using.send(outgoing(url, *args, **options), within)

    return send


@pytest.fixture
def loopback() -> AddressPolicy:
    return LOOPBACK
