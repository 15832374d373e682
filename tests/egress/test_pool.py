"""The reuse of connections, and their number."""

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from host.egress import EgressError
from host.egress.connection import Pool
from host.policy.urls import Origin
from tests.conftest import slack


def until(true):
    end = time.monotonic() + slack(10)
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_connection_serves_its_own_origin_alone(answering, ask, clock):
    one, other = answering(), answering()
    for server in (one, other, one, other):
        ask(server.url()).read_all(clock)
    assert (one.connections, other.connections) == (1, 1)


def test_a_name_and_its_address_are_two_origins(answering, ask, clock):
    server = answering()
    for host in ("127.0.0.1", "api.test"):
        ask(server.url(host=host)).read_all(clock)
    assert server.connections == 2


def test_a_busy_connection_is_not_shared(answering, ask, clock):
    server = answering()
    answers = [ask(server.url()) for _ in range(3)]
    assert [answer.read_all(clock) for answer in answers] == [b"ok"] * 3
    assert server.connections == 3


def test_more_connections_than_allowed_are_waited_for_as_long_as_there_is_time(
    answering, egress, loopback, ask, clock, short_clock
):
    server, client = answering(), egress().client(loopback, max_connections=2)
    answers = [ask(server.url(), using=client) for _ in range(2)]
    with pytest.raises(EgressError, match="max_upstream_connections") as caught:
        ask(server.url(), using=client, within=short_clock())
    assert caught.value.kind == "http_error"
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(lambda: ask(server.url(), using=client).read_all(clock)) for _ in range(3)]
        answers[0].read_all(clock)
        assert [one.result(10) for one in waiting] == [b"ok"] * 3
    answers[1].close()


def test_places_go_to_those_who_wait_in_their_order(clock):
    origin, order = Origin.parse("http://api.test"), []
    pool = Pool(1, on_close=lambda _: None)
    held = pool.lend(origin, clock)

    def wait(number):
        connection = pool.lend(origin, clock)
        order.append(number)
        pool.take_back(connection, usable=False)

    with ThreadPoolExecutor(5) as threads:
        for number in range(5):
            threads.submit(wait, number)
            until(lambda number=number: pool._places.queued("") == number + 1)
        pool.take_back(held, usable=False)
    assert order == list(range(5))


def test_who_waits_for_a_place_is_told_when_the_pool_is_closed(clock):
    origin = Origin.parse("http://api.test")
    pool = Pool(1, on_close=lambda _: None)
    pool.lend(origin, clock)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.lend, origin, clock)
        until(lambda: pool._places.wanted)
        pool.close()
        with pytest.raises(EgressError, match="closed"):
            waiting.result(10)


def test_an_idle_connection_makes_room_for_another_origin(answering, egress, loopback, ask, clock):
    servers, client = [answering() for _ in range(3)], egress().client(loopback, max_connections=2)
    for server in servers:
        assert ask(server.url(), using=client).read_all(clock) == b"ok"
    assert servers[0].hung_up.wait(10)


def test_a_failed_request_gives_its_place_back(egress, loopback, ask):
    client = egress().client(loopback, max_connections=1)
    for _ in range(3):
        with pytest.raises(EgressError) as caught:
            ask("http://127.0.0.1:1/", using=client)
        assert "refused" in caught.value.message


def test_a_connection_that_was_idle_for_too_long_is_not_used(answering, ask, clock, monkeypatch):
    server = answering()
    ask(server.url()).read_all(clock)
    monkeypatch.setattr("host.egress.connection.KEEP_IDLE_S", 0.0)
    ask(server.url()).read_all(clock)
    assert server.connections == 2


def test_a_connection_that_the_server_ended_is_not_used_for_a_post(serve, ask, clock):
    def behave(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    server = serve(behave)
    ask(server.url()).read_all(clock)
    assert server.hung_up.wait(10)
    assert ask(server.url(), "POST", body=b"x").read_all(clock) == b"ok"


def test_closing_the_pool_closes_what_is_idle(answering, client, ask, clock):
    server = answering()
    ask(server.url()).read_all(clock)
    client.close()
    assert server.hung_up.wait(10)


def test_the_connections_of_a_client_that_nobody_has_any_more_are_closed(answering, egress, loopback, ask, clock):
    server, road = answering(), egress()
    answer = ask(server.url(), using=road.client(loopback))
    gc.collect()
    assert answer.read_all(clock) == b"ok", "its answer has it"
    del answer
    gc.collect()
    assert server.hung_up.wait(10)


def test_a_connection_returned_to_a_closed_pool_is_closed(clock):
    pool = Pool(1, on_close=lambda _: None)
    connection = pool.lend(Origin.parse("http://api.test"), clock)
    pool.close()
    pool.take_back(connection, usable=True)
    with pytest.raises(EgressError):
        pool.lend(Origin.parse("http://api.test"), clock)


def test_many_threads_get_their_own_answers(serve, ask, clock):
    def behave(peer):
        while asked := peer.request():
            path = asked.split(b" ")[1]
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))

    server, start = serve(behave), threading.Barrier(8)

    def work(worker):
        start.wait(10)
        return [
            ask(server.url(f"/{worker}/{turn}")).read_all(clock) == b"/%d/%d" % (worker, turn) for turn in range(20)
        ]

    with ThreadPoolExecutor(8) as threads:
        assert all(all(right) for right in threads.map(work, range(8)))
    assert server.connections <= 8


def test_attack_one_key_does_not_hold_all_connections(clock, short_clock):
    origin = Origin.parse("http://api.test")
    pool = Pool(8, on_close=lambda _: None)
    for _ in range(4):
        pool.lend(origin, clock, caller="greedy")
    with pytest.raises(EgressError, match="max_upstream_connections") as caught:
        pool.lend(origin, short_clock(), caller="greedy")
    assert not caught.value.sent
    for _ in range(2):
        pool.lend(origin, short_clock(), caller="other")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_few_connections_are_not_shared_out(clock, short_clock, size):
    """A run with an open stream that asks for something else would wait for itself."""
    pool = Pool(size, on_close=lambda _: None)
    for _ in range(size):
        pool.lend(Origin.parse("http://api.test"), short_clock(), caller="one")


def test_a_place_is_handed_to_the_one_who_waits_and_not_to_the_one_who_gives_it_back(clock):
    origin, order = Origin.parse("http://api.test"), []
    pool = Pool(1, on_close=lambda _: None)
    held = pool.lend(origin, clock)

    def wait():
        connection = pool.lend(Origin.parse("http://other.test"), clock)
        order.append("the one who waited")
        pool.take_back(connection, usable=False)

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(wait)
        until(lambda: pool._places.wanted)
        pool.take_back(held, usable=False)
        again = pool.lend(origin, clock)
        order.append("the one who had it")
        waiting.result(10)
    pool.take_back(again, usable=False)
    assert order == ["the one who waited", "the one who had it"]
