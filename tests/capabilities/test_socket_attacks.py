"""Guests that do wrong with WebSockets, of a few lines each and with nothing between them and the host."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from host import Catalyst, Host, Policy, errors
from tests.conftest import late, wat, with_enough_time
from tests.probing import ORIGIN, origin_of
from tests.sockets import SocketPeer, echo, socket_serving

TIMEOUT_S = 1.0
LATE_S = 0.5


def hostile(host: Host, name: str, server: Any, **policy: Any) -> Catalyst:
    """A guest of tests/guests/hostile that may connect to `server`, by the name of api.test."""
    granted = {"allowed_domains": ["api.test"], "upstreams": {ORIGIN: origin_of(server)}, "timeout": 30.0, **policy}
    return host.load(wat(f"hostile/{name}"), policy=Policy(**granted))


def takes_all(socket: SocketPeer) -> None:
    while socket.receive() is not None:
        pass


def takes_nothing(socket: SocketPeer) -> None:
    socket.peer.hang()


def test_a_domain_that_nobody_granted_is_not_even_connected_to(host: Host) -> None:
    with socket_serving(echo) as server:
        with pytest.raises(errors.Denied, match=r"wss://evil\.test/x.*allow-domain evil\.test") as caught:
            hostile(host, "connects_elsewhere", server).run({})
        assert server.connections == 0
    [denied] = [one for one in caught.value.execution.decisions if one.decision == "deny"]
    assert denied.kind == "http.request"


def test_connections_that_are_never_closed_stop_at_their_number_and_end_with_the_run(host: Host) -> None:
    with socket_serving(takes_all) as server:
        with pytest.raises(errors.Denied, match="max_connections"):
            hostile(host, "leaks_sockets", server, max_connections=2).run({})
        assert server.connections == 2
        assert server.hung_up.wait(late(10))


def test_a_flood_ends_with_the_bytes_that_a_connection_may_send(host: Host) -> None:
    got: list[int] = []

    def count(socket: SocketPeer) -> None:
        while isinstance(message := socket.receive(), str):
            got.append(len(message))

    with socket_serving(count) as server:
        with pytest.raises(errors.Denied, match="max_connection_size"):
            hostile(host, "floods_a_socket", server, max_connection_size=300_000).run({})
        assert server.hung_up.wait(late(10))
    assert sum(got) <= 300_000


@pytest.mark.parametrize(
    "behave",
    [pytest.param(takes_nothing, id="of one that takes nothing"), pytest.param(echo, id="of one that answers")],
)
def test_a_flood_that_is_not_read_ends_with_the_run(host: Host, behave: Callable[[SocketPeer], None]) -> None:
    with socket_serving(behave) as server:
        one = hostile(host, "floods_a_socket", server, timeout=TIMEOUT_S, max_http_requests=1)
        began = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            one.run({})
        assert time.monotonic() - began < TIMEOUT_S + late(LATE_S)


def test_what_a_guest_never_reads_stays_with_its_sender(host: Host) -> None:
    sent: list[int] = []

    def flood(socket: SocketPeer) -> None:
        while True:
            socket.send("x" * 65_536)
            sent.append(65_536)

    with socket_serving(flood) as server:

        def attempt(seconds: float) -> None:
            with pytest.raises(errors.DeadlineExceeded):
                hostile(host, "never_reads_a_socket", server, timeout=seconds).run({})
            assert server.connections

        with_enough_time(attempt, TIMEOUT_S)
        assert server.hung_up.wait(late(10))
    assert sum(sent) < 64 << 20  # what the two sockets hold, and no more


def test_a_handle_that_was_closed_sends_nothing_and_is_not_waited_for(host: Host) -> None:
    got: list[Any] = []
    with socket_serving(lambda socket: got.append(socket.receive())) as server:
        began = time.monotonic()
        result = hostile(host, "sends_after_closing", server).run({})
        assert time.monotonic() - began < 30.0  # it asks for 60 s
        assert server.hung_up.wait(late(10))
    assert result.error["type"] == "invalid_handle"
    assert not any(isinstance(one, str | bytes) for one in got)
