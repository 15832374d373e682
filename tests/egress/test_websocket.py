"""WebSockets over the road out, against servers that keep RFC 6455 and servers that do not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from wsproto.events import Ping

from host.core.conversation import Closed, SocketMessage
from host.core.limits import Limits
from host.egress import AddressPolicy, Answer, Egress, EgressClient, EgressError, Outgoing
from host.egress.failures import ConnectionLostError
from host.egress.websocket import WebSocket
from host.policy.urls import Target
from tests.egress.conftest import Peer, Server, StopClock
from tests.sockets import SocketPeer, echo, opening, switched

LIMITS = Limits()


@pytest.fixture
def connect(client: EgressClient, clock: StopClock) -> Iterator[Callable[..., Any]]:
    """connect(server, subprotocols, limits, within=clock) -> the WebSocket, or the answer in place of one"""
    made: list[WebSocket | Answer] = []

    def begin(
        server: Server,
        *subprotocols: str,
        limits: Limits = LIMITS,
        using: EgressClient = client,
        within: StopClock = clock,
        **where: str,
    ) -> WebSocket | Answer:
        target = Target.parse(server.url("/socket", **where))
        made.append(using.connect(Outgoing("GET", target, (), b"", 1_000_000, limits), subprotocols, within))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def received(socket: WebSocket, clock: StopClock) -> SocketMessage | Closed:
    """The next message, or the end. Raises EgressError."""
    while True:
        if (message := socket.take()) is not None:
            return message
        if socket.end is not None:
            return socket.end
        socket.turn(clock, 10.0)


def sent(socket: WebSocket, clock: StopClock, message: SocketMessage) -> None:
    socket.put(message)
    while socket.unsent and not socket.ended:
        socket.turn(clock, 10.0, reading=socket.has_room)


@pytest.mark.parametrize("message", ["", "hello", "ünïcödé 🙂", b"", b"\x00\xff", "x" * 70_000, b"y" * 200_000])
def test_what_is_sent_comes_back(serve: Any, connect: Any, clock: StopClock, message: SocketMessage) -> None:
    socket = connect(serve(opening(echo)))
    sent(socket, clock, message)
    assert received(socket, clock) == message
    assert (socket.sent, socket.received) == (1, 1)


def test_the_handshake_is_the_one_of_the_standard(serve: Any, connect: Any) -> None:
    server = serve(opening(echo, "Sec-WebSocket-Protocol: chat"))
    socket = connect(server, "chat", "talk")
    head = server.requests[0].decode().split("\r\n")
    assert head[0] == "GET /socket HTTP/1.1"
    assert {"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"} <= set(head)
    assert "Sec-WebSocket-Protocol: chat, talk" in head
    assert not any(line.lower().startswith("sec-websocket-extensions") for line in head)
    assert socket.subprotocol == "chat"


def test_what_comes_with_the_answer_is_not_lost(serve: Any, connect: Any, clock: StopClock) -> None:
    def behave(peer: Peer) -> None:
        request = peer.request()
        peer.send(switched(request) + b"\x81\x02hi")
        peer.hang()

    assert received(connect(serve(behave)), clock) == "hi"


def head(*lines: str, accept: bytes | None = None) -> Callable[[Peer], None]:
    def behave(peer: Peer) -> None:
        request = peer.request()
        whole = switched(request, accept=accept)
        for line in lines:
            name = line.partition(":")[0].encode()
            kept = [one for one in whole.split(b"\r\n") if not one.startswith(name)]
            whole = b"\r\n".join([*kept[:-2], line.encode(), b"", b""])
        peer.send(whole)
        peer.hang()

    return behave


@pytest.mark.parametrize(
    ("behave", "problem"),
    [
        pytest.param(head(accept=b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="), "Accept is wrong", id="a bad accept key"),
        pytest.param(head("Upgrade: h2c"), "another protocol", id="another protocol"),
        pytest.param(head("Connection: close"), "another protocol", id="no upgrade of the connection"),
        pytest.param(head("Sec-WebSocket-Protocol: evil"), "subprotocol", id="a subprotocol that nobody offered"),
        pytest.param(head("Sec-WebSocket-Extensions: permessage-deflate"), "extension", id="a compression"),
    ],
)
def test_an_answer_that_opens_something_else_opens_nothing(serve: Any, connect: Any, behave: Any, problem: str) -> None:
    server = serve(behave)
    with pytest.raises(EgressError, match=problem) as raised:
        connect(server)
    assert raised.value.kind == "http_error"
    assert server.hung_up.wait(10)


@pytest.mark.parametrize("status", [200, 302, 401, 404, 426, 500])
def test_an_answer_in_place_of_a_connection_is_returned_whole(
    answering: Any, connect: Any, clock: StopClock, status: int
) -> None:
    lines = f"HTTP/1.1 {status} X\r\nContent-Length: 4\r\nLocation: http://other.test/\r\n\r\nbody"
    server = answering(lines.encode())
    answer = connect(server)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.read_all(clock)) == (status, b"body")
    assert server.connections == 1


def frame(first: int, payload: bytes = b"", *, masked: bool = False, length: int | None = None) -> bytes:
    """A frame as a server may write it, or may not."""
    size = len(payload) if length is None else length
    if size < 126:
        sized = bytes([first, size | (0x80 if masked else 0)])
    elif size < 65_536:
        sized = bytes([first, 126 | (0x80 if masked else 0)]) + size.to_bytes(2, "big")
    else:
        sized = bytes([first, 127 | (0x80 if masked else 0)]) + size.to_bytes(8, "big")
    return sized + (b"\x00" * 4 if masked else b"") + payload


def sending(*frames: bytes, hang: bool = True) -> Callable[[Peer], None]:
    def behave(socket: SocketPeer) -> None:
        for one in frames:
            socket.peer.send(one)
        if hang:
            socket.peer.hang()

    return opening(behave)


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([frame(0x81, b"hi", masked=True)], id="masked by the server"),
        pytest.param([frame(0x89, b"x" * 126)], id="a ping of more than 125 bytes"),
        pytest.param([frame(0x09, b"x")], id="a ping in fragments"),
        pytest.param([frame(0xC1, b"x")], id="a reserved bit: compressed"),
        pytest.param([frame(0x83, b"x")], id="an unknown opcode"),
        pytest.param([frame(0x80, b"x")], id="a continuation of nothing"),
        pytest.param([frame(0x01, b"x"), frame(0x81, b"y")], id="a text within a text"),
        pytest.param([frame(0x81, b"\xff\xfe")], id="a text that is not UTF-8"),
        pytest.param([frame(0x01, b"\xc3"), frame(0x80, b"x")], id="a text whose fragments are not UTF-8"),
        pytest.param([frame(0x81, b"\xc3")], id="a text that ends within a character"),
        pytest.param([frame(0x88, b"\x03")], id="a close frame with half a code"),
        pytest.param([frame(0x88, b"\x03\xee")], id="a close frame with a code that none may have"),
        pytest.param([frame(0x88, b"\x03\xe8\xff")], id="a close frame whose reason is not UTF-8"),
        pytest.param([b"\x81\x7e\x00\x05hello"], id="a length that is longer than it need be"),
    ],
)
def test_a_frame_that_breaks_the_protocol_ends_the_connection_as_an_error(
    serve: Any, connect: Any, clock: StopClock, frames: list[bytes]
) -> None:
    server = serve(sending(*frames))
    socket = connect(server)
    with pytest.raises(EgressError, match="sent a") as raised:
        received(socket, clock)
    assert raised.value.kind == "http_error"
    assert socket.ended
    socket.close()
    assert server.hung_up.wait(10)


def test_messages_before_the_failure_are_not_lost(serve: Any, connect: Any, clock: StopClock) -> None:
    socket = connect(serve(sending(frame(0x81, b"one") + frame(0x83, b"x"))))
    assert received(socket, clock) == "one"
    with pytest.raises(EgressError):
        received(socket, clock)


def test_fragments_are_one_message_whatever_they_cut(serve: Any, connect: Any, clock: StopClock) -> None:
    text = "aü🙂".encode()
    cut = [frame(0x01, text[:2]), frame(0x89, b"ping"), *(frame(0x00, text[at : at + 1]) for at in range(2, 6))]
    server = serve(sending(*cut, frame(0x80, text[6:]), frame(0x02, b"\x00"), frame(0x80, b"\x01")))
    socket = connect(server)
    assert [received(socket, clock), received(socket, clock)] == ["aü🙂", b"\x00\x01"]


@pytest.mark.parametrize(
    ("frames", "end"),
    [
        pytest.param([frame(0x88, b"\x03\xe8bye")], Closed(1000, "bye"), id="with code and reason"),
        pytest.param([frame(0x88)], Closed(1005), id="without a code"),
        pytest.param([frame(0x88, b"\x0f\xa1")], Closed(4001), id="with a code of the application"),
        pytest.param([], Closed(1006), id="without a close frame"),
        pytest.param([b"\x81\x05he"], Closed(1006), id="within a message"),
    ],
)
def test_the_end_has_its_code(serve: Any, connect: Any, clock: StopClock, frames: list[bytes], end: Closed) -> None:
    socket = connect(serve(sending(*frames, hang=False)))
    assert received(socket, clock) == end
    socket.put("late")  # to nobody
    assert (socket.sent, socket.end) == (0, end)


def test_what_was_said_counts_though_the_other_side_takes_no_more(
    serve: Any, connect: Any, clock: StopClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(sending(frame(0x81, b"1") + frame(0x88, b"\x03\xe8"), hang=False))
    socket = connect(server)
    assert server.hung_up.wait(10)

    def gone(data: bytearray) -> int:
        raise ConnectionLostError(server.url())

    monkeypatch.setattr(socket._connection.wire, "write_now", gone)
    socket.put("x")
    assert [received(socket, clock), received(socket, clock)] == ["1", Closed(1000)]


def test_our_end_is_answered_and_what_comes_before_that_is_kept(serve: Any, connect: Any, clock: StopClock) -> None:
    def behave(socket: SocketPeer) -> None:
        assert socket.receive() == "last"
        socket.peer.send(frame(0x81, b"answer"))
        got.append(socket.receive())

    got: list[Any] = []
    server = serve(opening(behave))
    socket = connect(server)
    socket.put("last")
    socket.begin_close(Closed(4002, "done"))
    assert received(socket, clock) == "answer"
    assert received(socket, clock) == Closed(4002, "done")
    assert server.hung_up.wait(60)
    assert (got[0].code, got[0].reason) == (4002, "done")


def test_one_that_answers_no_close_frame_is_waited_for_only_so_long(
    serve: Any, connect: Any, clock: StopClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("host.egress.websocket._CLOSE_S", 0.1)
    socket = connect(serve(opening(lambda one: one.peer.hang())))
    socket.begin_close(Closed(1000))
    assert received(socket, clock) == Closed(1000), "before the run is over"


class TestBounds:
    @pytest.mark.parametrize(
        "frames",
        [
            pytest.param([frame(0x81, b"x" * 101)], id="one frame"),
            pytest.param([frame(0x82, length=2**40)], id="by its length, of which nothing came but the first bytes"),
            pytest.param([frame(0x01, b"x" * 60), frame(0x80, b"x" * 60)], id="in fragments"),
        ],
    )
    def test_a_message_over_its_size_ends_the_connection(
        self, serve: Any, connect: Any, clock: StopClock, frames: list[bytes]
    ) -> None:
        def behave(socket: SocketPeer) -> None:
            for one in frames:
                socket.peer.send(one)
            socket.peer.send(b"x" * 200)
            socket.peer.hang()

        socket = connect(serve(opening(behave)), limits=replace(LIMITS, max_message_bytes=100))
        with pytest.raises(EgressError) as raised:
            received(socket, clock)
        assert (raised.value.kind, raised.value.limit) == ("response_too_large", "max_message_size")

    @pytest.mark.parametrize(
        "flood",
        [
            pytest.param(frame(0x81, b"x"), id="messages"),
            pytest.param(frame(0x89, b"x"), id="pings"),
            pytest.param(frame(0x01) + frame(0x00) * 3 + frame(0x80), id="empty fragments"),
        ],
    )
    def test_a_flood_ends_with_the_bytes_of_the_connection(
        self, serve: Any, connect: Any, clock: StopClock, flood: bytes
    ) -> None:
        def behave(socket: SocketPeer) -> None:
            while True:
                socket.peer.send(flood * 100)

        socket = connect(serve(opening(behave)), limits=replace(LIMITS, max_connection_bytes=50_000))
        with pytest.raises(EgressError) as raised:
            list(iter(lambda: received(socket, clock), Closed(1006)))
        assert (raised.value.kind, raised.value.limit) == ("response_too_large", "max_connection_size")

    def test_endless_pings_end_with_the_run(self, serve: Any, client: EgressClient, short_clock: Any) -> None:
        server = serve(opening(lambda socket: socket.peer.drip(frame(0x89, b"x"))))
        outgoing = Outgoing("GET", Target.parse(server.url()), (), b"", 1_000, LIMITS)
        with closing(client.connect(outgoing, (), StopClock())) as socket:
            with pytest.raises(EgressError) as raised:
                received(socket, short_clock())
            assert raised.value.kind == "timeout"

    def test_pings_that_nobody_reads_the_answers_of_take_no_memory(
        self, serve: Any, connect: Any, clock: StopClock
    ) -> None:
        socket = connect(serve(sending(frame(0x89, b"x" * 125) * 2_000)))
        for _ in range(200):
            socket.turn(clock, 0.001)
            assert socket.unsent <= 200

    def test_no_more_is_read_than_there_is_room_for(self, serve: Any, connect: Any, clock: StopClock) -> None:
        def behave(socket: SocketPeer) -> None:
            for _ in range(10_000):
                socket.peer.send(frame(0x81, b"x" * 1_000))

        socket = connect(serve(opening(behave)), limits=replace(LIMITS, max_message_bytes=20_000))
        for _ in range(50):
            socket.turn(clock, 0.01, reading=socket.has_room)
        assert socket.received_bytes < 20_000 + 3 * 64 * 1024


def test_what_has_come_can_be_taken_from_one_that_was_closed(serve: Any, connect: Any, clock: StopClock) -> None:
    socket = connect(serve(sending(frame(0x81, b"1") + frame(0x81, b"2") + frame(0x88, b"\x03\xe8"), hang=False)))
    while not socket.ended:
        socket.turn(clock, 10.0)
    socket.close()
    assert [socket.take(), socket.take(), socket.take(), socket.end] == ["1", "2", None, Closed(1000)]


class TestTime:
    def limits(self, idle_s: float) -> Limits:
        return replace(LIMITS, idle_timeout_s=idle_s)

    def test_a_silent_other_side_is_asked_and_then_given_up(self, serve: Any, connect: Any, clock: StopClock) -> None:
        pings: list[Any] = []

        def behave(socket: SocketPeer) -> None:
            while (event := socket.event()) is not None:
                pings.append(event)

        server = serve(opening(behave))
        socket = connect(server, limits=self.limits(0.3))
        with pytest.raises(EgressError, match="answered no ping") as raised:
            received(socket, clock)
        assert (raised.value.kind, raised.value.limit) == ("timeout", "idle_timeout")
        socket.close()
        assert server.hung_up.wait(60)
        assert isinstance(pings[0], Ping)

    def test_what_is_not_read_is_not_silent(self, serve: Any, connect: Any, clock: StopClock) -> None:
        socket = connect(serve(opening(lambda one: one.peer.hang())), limits=self.limits(0.1))
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            socket.turn(clock, 0.02, reading=False)
        assert not socket.ended

    def test_a_server_that_never_answers_ends_with_the_first_byte_timeout(self, serve: Any, connect: Any) -> None:
        limits = replace(LIMITS, first_byte_timeout_s=0.2)
        with pytest.raises(EgressError) as raised:
            connect(serve(lambda peer: (peer.request(), peer.hang())), limits=limits)
        assert (raised.value.kind, raised.value.limit) == ("timeout", "first_byte_timeout")

    def test_a_head_that_drips_ends_with_it_too(self, serve: Any, connect: Any) -> None:
        def behave(peer: Peer) -> None:
            peer.request()
            peer.send(b"HTTP/1.1 101 Switching Protocols\r\nX: ")
            peer.drip(b"x")

        limits = replace(LIMITS, first_byte_timeout_s=0.3)
        with pytest.raises(EgressError) as raised:
            connect(serve(behave), limits=limits)
        assert raised.value.limit == "first_byte_timeout"

    def test_a_cancellation_wakes_a_wait(self, serve: Any, connect: Any, clock: StopClock) -> None:
        import threading

        socket = connect(serve(opening(lambda one: one.peer.hang())))
        timer = threading.Timer(0.05, clock.cancel)
        timer.start()
        with pytest.raises(EgressError) as raised:
            socket.turn(clock, 60.0)
        timer.join()
        assert raised.value.kind == "cancelled"
        assert clock.remaining() > 0, "it did not wait for its end"


class TestTheRoadOut:
    def test_a_private_address_is_refused_before_it_is_connected_to(
        self, serve: Any, connect: Any, egress: Callable[..., Egress]
    ) -> None:
        server = serve(opening(echo))
        with pytest.raises(EgressError) as raised:
            connect(server, using=egress().client(AddressPolicy()), host="rebound.test")
        assert raised.value.kind == "private_ip_blocked"
        assert server.connections == 0

    def test_a_name_is_looked_up_once_for_each_connection(
        self, serve: Any, connect: Any, egress: Callable[..., Egress], loopback: AddressPolicy
    ) -> None:
        looked: list[str] = []

        def resolver(name: Any) -> tuple[IPv4Address, ...]:
            looked.append(str(name))
            return (IPv4Address("127.0.0.1"),)

        client = egress(resolver=resolver).client(loopback)
        connect(serve(opening(echo)), using=client, host="api.test")
        assert looked == ["api.test"]

    def test_tls_is_verified_for_the_name(
        self, serve: Any, connect: Any, clock: StopClock, egress: Any, loopback: AddressPolicy, certificates: Any
    ) -> None:
        client = egress(ssl_context=certificates.trusting()).client(loopback)
        other = serve(opening(echo), tls=certificates.server("other.test"))
        with pytest.raises(EgressError, match="another name"):
            connect(other, using=client, host="api.test")
        socket = connect(serve(opening(echo), tls=certificates.server("api.test")), using=client, host="api.test")
        for message in ("hello", "x" * 300_000, b"y" * 300_000):
            sent(socket, clock, message)
            assert received(socket, clock) == message

    def test_an_open_one_counts_towards_the_pool_and_ends_with_it(
        self,
        serve: Any,
        connect: Any,
        clock: StopClock,
        short_clock: Callable[[], StopClock],
        egress: Any,
        loopback: AddressPolicy,
    ) -> None:
        client = egress().client(loopback, max_connections=1)
        server = serve(opening(echo))
        socket = connect(server, using=client)
        with pytest.raises(EgressError, match="none is free"):
            connect(server, using=client, within=short_clock())
        client.close()
        with pytest.raises(EgressError):
            received(socket, clock)
        assert server.hung_up.wait(10)

    def test_a_closed_one_says_so_to_the_other_side(self, serve: Any, connect: Any) -> None:
        got: list[Any] = []
        server = serve(opening(lambda socket: got.append(socket.receive())))
        connect(server).close()
        assert server.hung_up.wait(10)
        assert got[0].code == 1001
