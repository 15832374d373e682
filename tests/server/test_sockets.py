"""WebSockets of clients that mean no good: what they may send before and after they are known, and what they may hold."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_websocket

from host.server import serving, sockets
from host.server.asgi import context_of, send_whole
from host.server.connections import Connections
from host.server.serving import Protocol
from host.service.principal import OPERATOR
from tests.conftest import late
from tests.server.conftest import PATIENCE_S, until
from tests.server.prompt import PromptServer

HEAD = (
    b"GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%s\r\n"
)
MESSAGE = 100_000


class Site:
    """An ASGI application: `/echo` answers each message, `/talk` says much and hears nothing, `/deaf` takes no message,
    `/late` accepts when it may, `/over` closes at once, anything else refuses."""

    def __init__(self) -> None:
        self.may_accept = threading.Event()
        self.received = 0
        self.ends: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
            return
        await receive()
        if scope["path"] == "/refused":
            await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
            await send({"type": "websocket.http.response.body", "body": b"no"})
            return
        context_of(scope).principal = OPERATOR
        while scope["path"] == "/late" and not self.may_accept.is_set():
            await _sleep(0.01)
        await send({"type": "websocket.accept"})
        await getattr(self, "_" + scope["path"][1:])(receive, send)

    async def _http(self, scope: Any, receive: Any, send: Any) -> None:
        while scope["path"] == "/late" and not self.may_accept.is_set():
            await _sleep(0.01)
        await send_whole(send, 200, b"{}")

    async def _echo(self, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            self.received += 1
            await send({"type": "websocket.send", "text": message.get("text") or "bytes"})
        self.ends.append(message["code"])

    _late = _echo

    async def _talk(self, receive: Any, send: Any) -> None:
        del receive
        for _ in range(2_000):
            await send({"type": "websocket.send", "text": "x" * MESSAGE})
            self.received += 1

    async def _over(self, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close", "code": 1000, "reason": ""})
        self.ends.append((await receive())["code"])

    async def _deaf(self, receive: Any, send: Any) -> None:
        del receive, send
        while not self.may_accept.is_set():
            await _sleep(0.01)


async def _sleep(seconds: float) -> None:
    import asyncio

    await asyncio.sleep(seconds)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def listening(site: Site) -> Iterator[Callable[..., tuple[int, uvicorn.Server]]]:
    """`listening(connections)` is the port of a server with them, and the server."""
    with ExitStack() as stack:

        def start(all_: Connections | None = None, **more: Any) -> tuple[int, uvicorn.Server]:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=2_048))
            config = uvicorn.Config(
                site, http=partial(Protocol, connections=all_ or Connections()), lifespan="off", log_config=None,
                access_log=False, timeout_graceful_shutdown=1, **{**sockets.OPTIONS, **more},
            )  # type: ignore[arg-type]  # fmt: skip
            server = PromptServer(config)

            def stop() -> None:
                site.may_accept.set()
                server.should_exit = True
                thread.join(PATIENCE_S)

            thread = server.begin(listener, PATIENCE_S)
            stack.callback(stop)
            return listener.getsockname()[1], server

        yield start


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as one:
        yield one


def raw(stack: ExitStack, port: int, data: bytes = b"") -> socket.socket:
    client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S))
    client.sendall(data)
    return client


def upgraded(stack: ExitStack, port: int, path: bytes, more: bytes = b"") -> socket.socket:
    client = raw(stack, port, HEAD % (path, more))
    assert client.recv(65_536).startswith(b"HTTP/1.1 101")
    return client


def dialled(stack: ExitStack, port: int, path: str) -> ClientConnection:
    line = connect_websocket(f"ws://127.0.0.1:{port}{path}", proxy=None, compression=None, max_size=None)
    return stack.enter_context(line)


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True, rsv1: bool = False, length: int | None = None) -> bytes:
    """A frame of a client (RFC 6455, section 5.2), with a mask of zeros. `length`: what it claims to be."""
    size = len(payload) if length is None else length
    first = opcode | 0x80 * fin | 0x40 * rsv1
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65_536:
        head = struct.pack(">BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack(">BBQ", first, 0x80 | 127, size)
    return head + bytes(4) + payload


def closing(client: socket.socket) -> int:
    """The code that the server closes with; 1006 where it breaks off."""
    received = b""
    with suppress(OSError):
        while part := client.recv(65_536):
            received += part
    at = received.rfind(b"\x88")
    return int.from_bytes(received[at + 2 : at + 4], "big") if at >= 0 and len(received) >= at + 4 else 1006


def pause_reading(client: socket.socket, data: bytes) -> int:
    """How many bytes the server takes before it takes no more."""
    client.setblocking(False)
    sent, still = 0, time.monotonic()
    while time.monotonic() - still < 0.5:
        try:
            sent += client.send(data[sent % len(data) :])
            still = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
    return sent


class TestBeforeItIsAccepted:
    def test_a_thousand_half_open_handshakes_hold_no_more_than_the_bound(
        self, listening: Any, stack: ExitStack
    ) -> None:
        port, server = listening(Connections(200, 40, 40))
        clients = [raw(stack, port, (HEAD % (b"/echo", b""))[:-2]) for _ in range(1_000)]
        until(lambda: len(server.server_state.connections) <= 40)
        line = dialled(stack, port, "/echo")
        line.send("hello")
        assert line.recv(timeout=PATIENCE_S) == "hello"
        assert len(clients) == 1_000

    def test_nothing_of_a_flood_is_read_before_the_answer(self, listening: Any, stack: ExitStack, site: Site) -> None:
        port, _ = listening()
        client = raw(stack, port, HEAD % (b"/late", b""))
        taken = pause_reading(client, frame(b"x" * 65_000))
        assert taken < 32_000_000  # what both systems buffer, and no byte of it in the server
        site.may_accept.set()

    def test_one_that_is_refused_is_closed_and_leaves_its_place(self, listening: Any, stack: ExitStack) -> None:
        all_ = Connections(100, 4, 4)
        port, server = listening(all_)
        for _ in range(20):
            client = raw(stack, port, HEAD % (b"/refused", b""))
            received = b""
            while part := client.recv(65_536):
                received += part
            assert received.startswith(b"HTTP/1.1 401")
        until(lambda: not server.server_state.connections and not all_._unknown and not all_._of_address)

    @pytest.mark.parametrize(
        ("wrong", "right"),
        [
            (b"GET /echo", b"POST /echo"),
            (b"Version: 13", b"Version: 8"),
            (b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", b""),
            (b"Host: localhost", b"Host: \xff\xfe"),
        ],
    )
    def test_a_malformed_one_is_refused_and_leaves_its_place(
        self, listening: Any, stack: ExitStack, wrong: bytes, right: bytes
    ) -> None:
        all_ = Connections()
        port, server = listening(all_)
        client = raw(stack, port, (HEAD % (b"/echo", b"")).replace(wrong, right))
        assert client.recv(65_536).split(b" ")[1] in (b"400", b"426")
        until(lambda: not server.server_state.connections and not all_._unknown)

    def test_an_upgrade_behind_a_request_under_way_is_no_way_to_smuggle_one(
        self, listening: Any, stack: ExitStack, site: Site
    ) -> None:
        """Its answer would come in the middle of the frames, and frames in the middle of an answer."""
        port, _ = listening()
        client = raw(stack, port, b"GET /late HTTP/1.1\r\nHost: localhost\r\n\r\n" + HEAD % (b"/echo", b""))
        received = client.recv(65_536)
        site.may_accept.set()
        with suppress(OSError):
            while part := client.recv(65_536):
                received += part
        assert b"HTTP/1.1 400" in received
        assert b" 101 " not in received

    @pytest.mark.parametrize("method", [b"GET", b"POST"])
    def test_a_body_with_an_upgrade_is_no_way_either(self, listening: Any, stack: ExitStack, method: bytes) -> None:
        port, _ = listening()
        smuggled = b"GET /secret HTTP/1.1\r\nHost: localhost\r\n\r\n"
        head = (HEAD % (b"/echo", b"Content-Length: %d\r\n" % len(smuggled))).replace(b"GET", method)
        client = raw(stack, port, head + smuggled)
        received = client.recv(65_536)
        client.settimeout(1.0)  # for one more answer, if there were one
        with suppress(OSError):
            while part := client.recv(65_536):
                received += part
        assert received.count(b"HTTP/1.1 ") == 1

    def test_another_upgrade_is_passed_over(self, listening: Any, stack: ExitStack) -> None:
        port, _ = listening()
        client = raw(stack, port, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 200")


class TestMessages:
    def test_one_over_the_bound_closes_it(self, listening: Any, stack: ExitStack, site: Site) -> None:
        port, _ = listening(ws_max_size=100_000)
        client = upgraded(stack, port, b"/echo")
        client.sendall(frame(b"x" * 60_000, fin=False) + frame(b"x" * 60_000, 0, fin=False))
        assert closing(client) == 1009
        assert site.received == 0

    def test_a_compression_bomb_is_not_unpacked(self, listening: Any, stack: ExitStack, site: Site) -> None:
        port, _ = listening()
        client = raw(stack, port, HEAD % (b"/echo", b"Sec-WebSocket-Extensions: permessage-deflate\r\n"))
        assert b"permessage-deflate" not in client.recv(65_536)
        packer = zlib.compressobj(wbits=-15)
        bomb = packer.compress(bytes(100_000_000)) + packer.flush(zlib.Z_SYNC_FLUSH)
        client.sendall(frame(bomb[:-4], rsv1=True))
        assert closing(client) == 1002
        assert site.received == 0

    @pytest.mark.parametrize(
        ("sent", "code"),
        [
            pytest.param(frame(b"\xff\xfe"), 1007, id="no UTF-8"),
            pytest.param(frame(b"x", 0), 1002, id="a part of nothing"),
            pytest.param(frame(b"x" * 126, 9), 1002, id="a long ping"),
            pytest.param(frame(b"x", 9, fin=False), 1002, id="a ping in parts"),
            pytest.param(b"\x81\x01x", 1002, id="no mask"),
            pytest.param(frame(b"x", 3), 1002, id="an unknown opcode"),
            pytest.param(frame(struct.pack(">H", 1005), 8), 1002, id="a code that is none"),
        ],
    )
    def test_what_breaks_the_protocol_closes_it(self, listening: Any, stack: ExitStack, sent: bytes, code: int) -> None:
        port, server = listening()
        client = upgraded(stack, port, b"/echo")
        client.sendall(sent)
        assert closing(client) == code
        until(lambda: not server.server_state.connections)

    @pytest.mark.parametrize(
        ("first", "tiny"),
        [
            pytest.param(b"", frame(b"", 9), id="pings"),
            pytest.param(b"", frame(b"", 10), id="pongs"),
            pytest.param(frame(b"x", fin=False), frame(b"", 0, fin=False), id="empty parts of a message"),
            pytest.param(b"", frame(b""), id="empty messages"),
        ],
    )
    @pytest.mark.parametrize("path", [b"/echo", b"/over"])
    def test_a_flood_of_tiny_frames_is_cut_off_before_it_holds_up_the_others(
        self, listening: Any, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, path: bytes, first: bytes, tiny: bytes
    ) -> None:
        """Counted, where it is parsed: what is behind the bound of a second is not."""
        parsed = 0

        def counting(self: Any, data: bytes) -> None:
            nonlocal parsed
            parsed += len(data)
            original(self, data)

        original = sockets.WSProtocol.data_received
        monkeypatch.setattr(sockets.WSProtocol, "data_received", counting)
        monkeypatch.setattr(sockets, "FRAMES_A_SECOND", 2_000)
        port, server = listening()
        client = upgraded(stack, port, path)
        data, ends = first + tiny * 40_000, [1008, 1006]  # the flood behind it may break the connection off
        ends += [1000] if path == b"/over" else []
        with suppress(OSError):
            client.sendall(data)
        assert closing(client) in ends
        until(lambda: not server.server_state.connections)
        assert parsed < len(data) / 2

    def test_large_messages_are_no_flood_of_frames(
        self, listening: Any, stack: ExitStack, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sockets, "FRAMES_A_SECOND", 20)
        port, _ = listening()
        line = dialled(stack, port, "/echo")
        for _ in range(3):
            line.send("x" * 2_000_000)
            assert len(line.recv(timeout=PATIENCE_S)) == 2_000_000
        assert site.received == 3

    def test_a_client_that_floods_waits_until_its_messages_are_taken(self, listening: Any, stack: ExitStack) -> None:
        port, _ = listening()
        client = upgraded(stack, port, b"/deaf")
        assert pause_reading(client, frame(b"x" * 65_000)) < 32_000_000

    def test_a_client_that_never_reads_is_hung_up_on(
        self, listening: Any, stack: ExitStack, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(serving, "WRITE_S", 0.3)
        port, server = listening()
        upgraded(stack, port, b"/talk")
        began = time.monotonic()
        until(lambda: not server.server_state.connections and not server.server_state.tasks)
        assert time.monotonic() - began < late(5.0)

    def test_pings_of_a_client_that_never_reads_are_not_answered_without_end(
        self, listening: Any, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answered = 0

        def counting(self: Any, event: Any) -> None:
            nonlocal answered
            answered += self.writable.is_set()
            original(self, event)

        original = sockets.SocketProtocol.handle_ping
        monkeypatch.setattr(sockets.SocketProtocol, "handle_ping", counting)
        monkeypatch.setattr(serving, "WRITE_S", 0.5)
        port, server = listening()
        client = upgraded(stack, port, b"/echo")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        with suppress(OSError):
            for _ in range(200):
                client.sendall(frame(b"x" * 125, 9) * 2_000)
        until(lambda: not server.server_state.connections)
        assert answered < 200 * 2_000


class TestWhatItHolds:
    def test_it_counts_as_the_connection_that_it_was_and_becomes_known(self, listening: Any, stack: ExitStack) -> None:
        all_ = Connections(100, 4, 4)
        port, _ = listening(all_)
        lines = [dialled(stack, port, "/echo") for _ in range(10)]
        until(lambda: len(all_._known) == 10)
        assert not all_._unknown
        for line in lines:
            line.send("still there")
            assert line.recv(timeout=PATIENCE_S) == "still there"
            line.close()
        until(lambda: not all_._known)

    def test_many_come_and_go_without_a_descriptor_or_a_thread_left(self, listening: Any, stack: ExitStack) -> None:
        port, server = listening()

        def held() -> tuple[int, int]:
            return len(os.listdir("/proc/self/fd")), threading.active_count()

        def come_and_go() -> None:
            for number in range(20):
                with ExitStack() as own:
                    if number % 2:
                        line = dialled(own, port, "/echo")
                        line.send("x")
                        line.recv(timeout=PATIENCE_S)
                    else:
                        upgraded(own, port, b"/echo").sendall(frame(b"x"))
            until(lambda: not server.server_state.connections and not server.server_state.tasks)

        come_and_go()
        before = held()
        come_and_go()
        until(lambda: held() <= before)

    def test_the_end_of_the_server_leaves_it_its_grace(self, listening: Any, stack: ExitStack) -> None:
        port, server = listening()
        server.config.timeout_graceful_shutdown = 8
        line = dialled(stack, port, "/echo")
        server.should_exit = True
        line.send("still there")
        assert line.recv(timeout=PATIENCE_S) == "still there"
        with pytest.raises(ConnectionClosed):
            line.recv(timeout=PATIENCE_S)
