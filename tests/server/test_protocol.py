"""What somebody may send before it is known who he is."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import uvicorn

from host.server import serving as protocol
from host.server.asgi import read_body, send_whole
from host.server.serving import HEAD_BYTES, Protocol
from tests.conftest import with_enough_time
from tests.server.conftest import PATIENCE_S
from tests.server.prompt import PromptServer

HEAD = b"POST / HTTP/1.1\r\nhost: localhost\r\n"

Hurry = Callable[[Callable[[socket.socket, float], None]], None]


async def counts_the_body(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/refuses":
        await send_whole(send, 401, b"no")
        return
    await send_whole(send, 200, b"%d bytes" % len(await read_body(scope, receive, 10_000_000)))


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(counts_the_body, http=Protocol, ws="none", lifespan="off", log_config=None)
        server = PromptServer(config)
        thread = server.begin(listener, PATIENCE_S)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(PATIENCE_S)


@pytest.fixture
def client(port: int) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)) as one:
        yield one


@pytest.fixture
def in_a_hurry(port: int, monkeypatch: pytest.MonkeyPatch) -> Hurry:
    """`in_a_hurry(test)` calls `test` with a connection, and the seconds that it has for the headers of a request."""

    def run(test: Callable[[socket.socket, float], None]) -> None:
        def attempt(seconds: float) -> None:
            monkeypatch.setattr(protocol, "HEAD_S", seconds)
            with closing(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)) as client:
                test(client, seconds)

        with_enough_time(attempt, 0.2)

    return run


def sent_until_cut_off(client: socket.socket, part: bytes) -> int:
    """How many bytes of `part`, again and again, were taken."""
    total = 0
    try:
        while total < 100_000_000:
            client.sendall(part)
            total += len(part)
    except OSError:
        return total
    raise AssertionError("it takes them all")


def rest(client: socket.socket) -> bytes:
    received = b""
    while part := client.recv(65536):
        received += part
    return received


@pytest.mark.parametrize(
    ("begin", "part"),
    [
        pytest.param(HEAD, b"x: %s\r\n" % (b"a" * 1000), id="headers without end"),
        pytest.param(HEAD + b"x: ", b"a" * 8192, id="one header without end"),
        pytest.param(HEAD, b"x" * 8192, id="a header's name without end"),
        pytest.param(b"GET /", b"a" * 8192, id="a URL without end"),
        pytest.param(
            HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x: %s\r\n" % (b"a" * 1000), id="trailers without end"
        ),
        pytest.param(
            HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\nx: ", b"a" * 8192, id="one trailer without end"
        ),
    ],
)  # fmt: skip
def test_what_never_ends_is_cut_off(client: socket.socket, begin: bytes, part: bytes) -> None:
    client.sendall(begin)
    assert sent_until_cut_off(client, part) < 50_000_000


@pytest.mark.parametrize(
    ("begun", "path"),
    [
        pytest.param(b"", "", id="nothing"),
        pytest.param(HEAD, "", id="half of the headers"),
        pytest.param(b"\r\n", "/", id="an empty line, after an answer"),
        pytest.param(HEAD, "/", id="half of the headers, after an answer"),
    ],
)
def test_whoever_does_not_go_on_is_hung_up_on(in_a_hurry: Hurry, begun: bytes, path: str) -> None:
    def stops(client: socket.socket, seconds: float) -> None:
        del seconds
        if path:
            client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            received = b""
            while b"0 bytes" not in received:
                received += (more := client.recv(65536))
                assert more
        client.sendall(begun)
        assert rest(client) == b""

    in_a_hurry(stops)


def test_a_body_that_is_sent_after_it_was_refused_ends(in_a_hurry: Hurry) -> None:
    def goes_on(client: socket.socket, seconds: float) -> None:
        del seconds
        client.sendall(b"POST /refuses HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 401")
        assert sent_until_cut_off(client, b"a") > 0

    in_a_hurry(goes_on)


def test_a_body_may_take_longer_than_headers_and_be_larger(in_a_hurry: Hurry) -> None:
    def takes_longer(client: socket.socket, seconds: float) -> None:
        size = HEAD_BYTES * 40
        client.sendall(HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % size)
        gone_by = threading.Event()
        threading.Timer(2.5 * seconds, gone_by.set).start()
        gone_by.wait()
        client.sendall(b"a" * size)
        assert b"%d bytes" % size in rest(client)

    in_a_hurry(takes_longer)


def test_many_requests_on_one_connection_are_counted_each_by_itself(client: socket.socket) -> None:
    one = HEAD + b"x: %s\r\ncontent-length: 3\r\n\r\nabc" % (b"a" * (HEAD_BYTES // 2))
    for _ in range(5):
        client.sendall(one)
        received = b""
        while b"3 bytes" not in received:
            received += client.recv(65536)
