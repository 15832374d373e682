"""The times that a run has: as a whole, for one wait, and whose fault it is when one of them is over."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from host import Host, errors
from tests.conftest import with_enough_time
from tests.egress.conftest import Peer
from tests.probing import answers, asking, calls, chunk, chunked, event, origin_of, probe, serving

FETCH = ["fetch.request", asking()]
RELAY = ["streaming.request", asking(relay=True)]
READ = ["streaming.read", "$0.handle"]
LAST = b"0\r\n\r\n"
FAILED = {"return": {"status": 504, "error": {"type": "timeout", "message": "too late"}}}


def answers_at_once(peer: Peer) -> None:
    while peer.request():
        peer.send(chunked() + event(1) + LAST)


def silent(peer: Peer) -> None:
    peer.request()
    peer.hang()


def stops_after_a_piece(peer: Peer) -> None:
    peer.request()
    peer.send(chunked() + event(1))
    peer.hang()


def stops_within_a_head(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nX-A: ")
    peer.hang()


@pytest.mark.parametrize(
    ("behave", "limit", "tls"),
    [
        pytest.param(silent, "connect_timeout", True, id="no TLS"),
        pytest.param(silent, "first_byte_timeout", False, id="no answer"),
        pytest.param(stops_within_a_head, "first_byte_timeout", False, id="half a head"),
        pytest.param(stops_after_a_piece, "idle_timeout", False, id="half a body"),
        pytest.param(silent, "timeout", False, id="the whole run"),
    ],
)
def test_a_wait_that_is_over_blames_the_upstream_and_names_the_line_that_raises_its_limit(
    host: Host, behave: Callable[[Peer], None], limit: str, tls: bool
) -> None:
    def attempt(seconds: float) -> None:
        with serving(behave) as server:
            origin = origin_of(server).replace("http:", "https:") if tls else origin_of(server)
            with pytest.raises(errors.UpstreamTimeout) as caught:
                probe(host, origin, **{limit: seconds}).run(calls(FETCH, **FAILED))
        error = caught.value
        assert (error.limit, error.blame, error.code) == (limit, "upstream", "upstream_timeout")
        assert f'in the policy of c:local.probe: {limit} = "{2 * seconds:g}s"' in str(error)
        assert isinstance(error, errors.DeadlineExceeded)

    with_enough_time(attempt, 0.25)


def test_a_guest_sees_which_limit_was_over_and_may_try_again(host: Host) -> None:
    def behave(peer: Peer) -> None:
        peer.request()
        if peer.number:
            peer.send(chunked() + event("late") + LAST)
        else:
            peer.hang()

    def attempt(seconds: float) -> None:
        with serving(behave) as server:
            first, second = answers(probe(host, origin_of(server), first_byte_timeout=seconds), FETCH, FETCH)
        assert first["error"]["type"] == "timeout"
        assert "raise first_byte_timeout in the policy of c:local.probe" in first["error"]["message"]
        assert second["status"] == 200

    with_enough_time(attempt, 0.2)


def test_a_failure_after_an_answer_to_the_next_request_is_the_guests_own(host: Host) -> None:
    def behave(peer: Peer) -> None:
        peer.request()
        if peer.number:
            peer.send(chunked() + LAST)
        else:
            peer.hang()

    def attempt(seconds: float) -> None:
        with serving(behave) as server:
            result = probe(host, origin_of(server), first_byte_timeout=seconds).run(calls(FETCH, FETCH, **FAILED))
        assert (result.status, result.error["message"]) == (504, "too late")

    with_enough_time(attempt, 0.2)


def test_each_byte_begins_the_idle_time_anew_comments_too(host: Host) -> None:
    """The answer takes three times as long as it may be silent."""

    def attempt(seconds: float) -> None:
        def behave(peer: Peer) -> None:
            peer.request()
            peer.send(chunked())
            for _ in range(15):
                time.sleep(seconds / 5)
                peer.send(chunk(b": working\n\n"))
            peer.send(event(1) + LAST)

        with serving(behave) as server:
            stream = probe(host, origin_of(server), idle_timeout=seconds).stream(calls(RELAY, READ))
            assert list(stream) == [1]

    with_enough_time(attempt, 0.5)


def test_a_stream_has_a_time_of_its_own_and_a_whole_answer_has_the_other(host: Host) -> None:
    def attempt(seconds: float) -> None:
        def behave(peer: Peer) -> None:
            peer.request()
            peer.send(chunked() + event(1))
            time.sleep(1.4 * seconds)
            peer.send(event(2) + LAST)

        with serving(behave) as server:
            one = probe(host, origin_of(server), timeout=seconds, stream_timeout="10m")
            assert list(one.stream(calls(RELAY, READ))) == [1, 2]
            with pytest.raises(errors.UpstreamTimeout) as caught:
                one.run(calls(FETCH))
            assert caught.value.limit == "timeout"

    with_enough_time(attempt, 0.5)


def test_a_stream_ends_with_the_time_of_streams_which_the_error_names(host: Host) -> None:
    def attempt(seconds: float) -> None:
        with serving(stops_after_a_piece) as server:
            stream = probe(host, origin_of(server), stream_timeout=seconds).stream(calls(RELAY, READ))
            assert next(stream) == 1
            with pytest.raises(errors.UpstreamTimeout, match=f'stream_timeout = "{2 * seconds:g}s"'):
                next(stream)

    with_enough_time(attempt, 0.25)


def test_a_stream_that_stops_is_the_upstreams_fault_after_the_events_that_came(host: Host) -> None:
    def attempt(seconds: float) -> None:
        with serving(stops_after_a_piece) as server:
            stream = probe(host, origin_of(server), idle_timeout=seconds).stream(calls(RELAY, READ, **FAILED))
            assert next(stream) == 1
            with pytest.raises(errors.UpstreamTimeout) as caught:
                next(stream)
        assert caught.value.limit == "idle_timeout"

    with_enough_time(attempt, 0.2)


def test_the_callers_own_time_is_for_streams_too_and_the_error_says_whose_it_was(host: Host) -> None:
    def attempt(seconds: float) -> None:
        with serving(stops_after_a_piece) as server:
            stream = probe(host, origin_of(server)).stream(calls(RELAY, READ), timeout=seconds)
            assert next(stream) == 1
            with pytest.raises(errors.UpstreamTimeout, match=f"its caller set that: --timeout {2 * seconds:g}"):
                next(stream)

    with_enough_time(attempt, 0.25)


def test_a_caller_who_takes_nothing_is_waited_for_and_then_blamed(host: Host) -> None:
    def floods(peer: Peer) -> None:
        peer.request()
        peer.send(chunked())
        peer.drip(event("x" * 10_000) * 10)

    def attempt(seconds: float) -> None:
        with serving(floods) as server:
            stream = probe(host, origin_of(server), idle_timeout=seconds).stream(calls(RELAY, READ))
            assert next(stream)
            assert server.hung_up.wait(seconds + 20)  # nobody takes more
            with pytest.raises(errors.CallerTimeout, match=f"took no event for {seconds:g}") as caught:
                list(stream)
        assert caught.value.blame == "caller"

    with_enough_time(attempt, 0.3)


def test_a_guest_that_computes_is_blamed_itself(host: Host) -> None:
    def attempt(seconds: float) -> None:
        with serving(answers_at_once) as server, pytest.raises(errors.DeadlineExceeded) as caught:
            probe(host, origin_of(server), timeout=seconds).run(calls(FETCH, spin=True))
        assert (type(caught.value), caught.value.blame) == (errors.DeadlineExceeded, "guest")
        assert f'timeout = "{2 * seconds:g}s"' in str(caught.value)

    with_enough_time(attempt, 0.25)
