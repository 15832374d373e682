"""Descriptors: what somebody may hold who says nothing, and who reads nothing."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import uvicorn

from host.server import connections as module
from host.server import serving
from host.server.asgi import CONNECTION, context_of, send_whole
from host.server.connections import Connections
from host.server.serving import Protocol
from host.service.principal import OPERATOR
from tests.conftest import late, with_enough_time
from tests.server.conftest import PATIENCE_S, until
from tests.server.prompt import PromptServer


class Fake:
    """A connection that notes its end."""

    def __init__(self, address: str | None = "10.0.0.1") -> None:
        self.known = False
        self.idle = True
        self.ended = False
        self.address = None if address is None else ip_address(address)

    def end(self) -> None:
        self.ended = True


def arrived(all_: Connections, *addresses: str | None) -> list[Fake]:
    found = [Fake(address) for address in addresses]
    assert all(map(all_.arrived, found))
    return found


def test_the_oldest_idle_one_of_an_address_ends_for_a_new_one() -> None:
    all_ = Connections(100, 50, 3)
    found = arrived(all_, *["10.0.0.1"] * 5, "10.0.0.2")
    assert [one.ended for one in found] == [True, True, False, False, False, False]


def test_an_ipv6_subnet_is_one_address() -> None:
    all_ = Connections(100, 50, 2)
    found = arrived(all_, "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "2001:db8::3")
    assert [one.ended for one in found] == [True, False, False, False]


def test_clients_of_a_trusted_proxy_and_of_a_unix_socket_are_not_one_address() -> None:
    all_ = Connections(100, 50, 1, [ip_network("10.0.0.0/8")])
    assert not any(one.ended for one in arrived(all_, *["10.0.0.1"] * 5, *[None] * 5))


def test_many_addresses_have_so_many_together() -> None:
    all_ = Connections(100, 4, 2)
    found = arrived(all_, *(f"10.0.{number}.1" for number in range(10)))
    assert [one.ended for one in found] == [True] * 6 + [False] * 4


def test_a_known_one_gives_way_to_no_unknown_one_while_there_are_some() -> None:
    all_ = Connections(4, 3, 3)
    known = arrived(all_, "10.0.0.1")[0]
    known.known = True
    all_.answered(known)
    found = arrived(all_, *(f"10.0.1.{number}" for number in range(20)))
    assert not known.ended
    assert sum(not one.ended for one in found) == 3


def test_what_is_busy_is_not_ended_and_the_new_one_is_refused() -> None:
    all_ = Connections(3, 3, 3)
    for one in arrived(all_, *["10.0.0.1"] * 3):
        one.idle = False
    assert not all_.arrived(Fake("10.0.0.9"))
    assert not all_.arrived(Fake())


def test_the_known_have_a_bound_in_all() -> None:
    all_ = Connections(3, 3, 3)
    found = []
    for number in range(10):
        one = arrived(all_, f"10.0.0.{number}")[0]
        one.known = True
        all_.answered(one)
        found.append(one)
    assert [one.ended for one in found] == [True] * 7 + [False] * 3


def test_one_that_was_used_lately_is_not_the_oldest() -> None:
    all_ = Connections(100, 2, 2)
    one, other = arrived(all_, "10.0.0.1", "10.0.0.1")
    all_.answered(one)
    arrived(all_, "10.0.0.1")
    assert (one.ended, other.ended) == (False, True)


def test_those_that_left_leave_nothing_behind() -> None:
    all_ = Connections(100, 50, 3)
    for one in arrived(all_, *["10.0.0.1"] * 9, "2001:db8::1", None):
        one.known = one.address is None
        all_.answered(one)
        all_.left(one)
        all_.left(one)
    assert [all_._known, all_._unknown, all_._of_address] == [{}, {}, {}]


@pytest.mark.parametrize(("limit", "most"), [(1024, 619), (64, 8), (65_536, 63_424)])
def test_as_many_as_leave_descriptors_for_the_runs(monkeypatch: pytest.MonkeyPatch, limit: int, most: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert module.most_connections() == most


def test_the_soft_limit_of_descriptors_is_raised() -> None:
    program = (
        "import resource as r; from host.server.connections import raise_descriptors as up;"
        "hard = min(4096, r.getrlimit(r.RLIMIT_NOFILE)[1]); r.setrlimit(r.RLIMIT_NOFILE, (64, hard)); up();"
        "assert r.getrlimit(r.RLIMIT_NOFILE) == (hard, hard), r.getrlimit(r.RLIMIT_NOFILE)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/refused":
        scope[CONNECTION].turned_away(scope)
    if scope["path"] == "/held":
        scope[CONNECTION].recognized()
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    if scope["path"] != "/unknown":
        context_of(scope).principal = OPERATOR
    if scope["path"] == "/large":
        await send_whole(send, 200, b"a" * 30_000_000)
        return
    if scope["path"] == "/long":
        for _ in range(200):
            await send_part(send, scope)
    await send_whole(send, 200, b"hello")


async def send_part(send: Any, scope: Any) -> None:
    if "begun" not in scope:
        scope["begun"] = True
        await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a" * 1_000_000, "more_body": True})


@pytest.fixture
def listening() -> Iterator[Callable[[Connections], tuple[int, uvicorn.Server]]]:
    with ExitStack() as stack:

        def start(connections: Connections) -> tuple[int, uvicorn.Server]:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            made: Any = partial(Protocol, connections=connections)
            server = PromptServer(uvicorn.Config(app, http=made, ws="none", lifespan="off", log_config=None))
            thread = server.begin(listener, PATIENCE_S)
            stack.callback(thread.join, PATIENCE_S)
            stack.callback(setattr, server, "should_exit", True)
            return listener.getsockname()[1], server

        yield start


def opened(stack: ExitStack, port: int) -> socket.socket:
    return stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)))


def get(client: socket.socket, path: str, authorization: bytes = b"") -> bytes:
    more = b"authorization: %s\r\n" % authorization if authorization else b""
    client.sendall(b"GET %s HTTP/1.1\r\nhost: localhost\r\n%s\r\n" % (path.encode(), more))
    received = client.recv(65536)
    return received + client.recv(65536) if received.endswith(b"\r\n\r\n") else received  # the body may come later


def test_whoever_opens_connections_and_says_nothing_stops_nobody(listening: Any) -> None:
    port, server = listening(Connections(50, 20, 10))
    with ExitStack() as stack:
        known = opened(stack, port)
        assert b"hello" in get(known, "/known")
        silent = [opened(stack, port) for _ in range(200)]
        for _ in range(5):
            assert b"hello" in get(opened(stack, port), "/unknown")
        assert silent[0].recv(1) == b""
        assert b"hello" in get(known, "/known")
        until(lambda: len(server.server_state.connections) <= 11)


def test_one_is_known_while_its_first_request_is_still_under_way(listening: Any) -> None:
    """Those that wait for a slow upstream are not in the way of the next."""
    connections = Connections(50, 2, 2)
    port, _ = listening(connections)
    with ExitStack() as stack:
        held = []
        for number in range(10):
            held.append(opened(stack, port))
            held[-1].sendall(b"GET /held HTTP/1.1\r\nhost: localhost\r\n\r\n")
            until(lambda number=number: len(connections._known) == number + 1)
        for _ in range(5):
            assert b"hello" in get(opened(stack, port), "/unknown")
        for one in held:
            one.setblocking(False)
            with pytest.raises(BlockingIOError):
                one.recv(1)


def test_one_that_begins_its_head_and_does_not_go_on_is_idle_too(listening: Any) -> None:
    port, _ = listening(Connections(50, 20, 10))
    with ExitStack() as stack:
        slow = [opened(stack, port) for _ in range(30)]
        for one in slow[:10]:
            one.sendall(b"GET / HTTP/1.1\r\nx: ")
        assert b"hello" in get(opened(stack, port), "/unknown")
        assert slow[0].recv(1) == b""


def test_where_all_are_busy_a_new_one_is_told_when_to_come_again(listening: Any) -> None:
    port, server = listening(Connections(2, 2, 2))
    with ExitStack() as stack:
        for _ in range(2):
            opened(stack, port).sendall(b"GET /long HTTP/1.1\r\nhost: localhost\r\n\r\n")
        until(lambda: [one.idle for one in server.server_state.connections] == [False] * 2)
        answer = opened(stack, port).recv(65536)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in answer
        assert b'"type": "busy"' in answer


def test_a_client_that_does_not_read_its_answer_is_hung_up_on(listening: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "WRITE_S", 0.3)
    port, server = listening(Connections())
    with ExitStack() as stack:
        client = opened(stack, port)
        client.sendall(b"GET /long HTTP/1.1\r\nhost: localhost\r\n\r\n")
        began = time.monotonic()
        until(lambda: not server.server_state.connections and not server.server_state.tasks)
        assert time.monotonic() - began < late(5.0)


@pytest.mark.parametrize("path", ["/long", "/large"])
def test_a_client_that_reads_slowly_is_not(listening: Any, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    def attempt(seconds: float) -> None:
        monkeypatch.setattr(serving, "WRITE_S", seconds)
        port, _ = listening(Connections())
        with ExitStack() as stack:
            client = opened(stack, port)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.sendall(b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n" % path.encode())
            began, received = time.monotonic(), 0
            while time.monotonic() - began < 4 * seconds:
                time.sleep(seconds / 20)
                received += len(part := client.recv(200_000))
                assert part
            assert received > 1_000_000

    with_enough_time(attempt, 1.0)


class TestTurnedAway:
    """Whoever asks for more than a server can take costs it next to nothing."""

    def test_a_caller_is_refused_for_a_moment_and_others_are_not(self) -> None:
        now = [100.0]
        away = module.TurnedAway(lambda: now[0])
        away.note(b"Bearer greedy")
        assert away.has(b"Bearer greedy")
        assert not away.has(b"Bearer other")
        assert not away.has(b"")
        now[0] += 0.11
        assert not away.has(b"Bearer greedy")

    def test_however_many_there_are_few_are_remembered(self) -> None:
        now = [100.0]
        away = module.TurnedAway(lambda: now[0])
        for number in range(5_000):
            away.note(b"Bearer %d" % number)
        assert len(away._until) == 1_000
        now[0] += 1
        away.note(b"Bearer new")
        assert list(away._until) == [b"Bearer new"]

    def test_a_refused_request_never_reaches_the_application(self, listening: Any) -> None:
        connections = Connections()
        connections.turned_away = module.TurnedAway(lambda: 100.0)  # however late it comes
        port, _ = listening(connections)
        with ExitStack() as stack:
            client = opened(stack, port)
            connections.turned_away.note(b"Bearer greedy")
            answer = get(client, "/unknown", b"Bearer greedy")
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"retry-after: 1" in answer
            assert b'"code":"overloaded"' in answer
            assert b"hello" in get(client, "/health", b"Bearer greedy"), "those who watch the server are answered"
            assert b"hello" in get(client, "/unknown", b"Bearer other")
            connections.turned_away._until.clear()
            assert b"hello" in get(client, "/unknown", b"Bearer greedy"), "on the same connection"

    def test_attack_one_that_is_refused_does_not_shut_out_those_without_a_key(self, listening: Any) -> None:
        """The next request on its connection, which has no key, is read before it is refused."""
        connections = Connections()
        port, _ = listening(connections)
        with ExitStack() as stack:
            client = opened(stack, port)
            refused = b"GET /refused HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer greedy\r\n\r\n"
            client.sendall(refused + b"GET /unknown HTTP/1.1\r\nhost: localhost\r\n\r\n")
            until(lambda: bool(connections.turned_away._until))
            assert list(connections.turned_away._until) == [b"Bearer greedy"]
            assert b"hello" in get(opened(stack, port), "/unknown")
