"""Circuits: when an origin is left alone, for whom, and how it is tried again."""

from __future__ import annotations

import pytest

from host.core.leases import LocalLeases
from host.core.sliding_window import LocalLimiter
from host.egress.breaker import Breakers, Pass, Refused
from host.policy.reliability import Breaker
from host.policy.urls import Origin

AT, ELSEWHERE = Origin.parse("https://api.test"), Origin.parse("https://other.test")


class Place:
    """What several processes share, by one clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.limiter = LocalLimiter(lambda: self.now)
        self.leases = LocalLeases(lambda: self.now)

    def process(self, reference: str = "c:local.one", **settings: object) -> Breakers:
        given = {"failures": 3, "window": "1m", "pause": "30s", **settings}
        return Breakers(reference, Breaker(**given), self.limiter, self.leases, lambda: self.now)


@pytest.fixture
def place() -> Place:
    return Place()


def fails(one: Breakers, times: int = 1, key: str = "", at: Origin = AT) -> int:
    """How many of so many requests were let through, all of which failed."""
    went = 0
    for _ in range(times):
        passed = one.enter(at, key)
        if isinstance(passed, Pass):
            went += 1
            one.failed(passed)
    return went


def goes(one: Breakers, key: str = "", at: Origin = AT) -> bool:
    """Whether a request is let through, that goes well."""
    passed = one.enter(at, key)
    if isinstance(passed, Refused):
        return False
    one.went_well(passed)
    return True


def test_after_so_many_failures_nothing_is_sent_any_more(place):
    one = place.process()
    assert fails(one, 10) == 3
    refused = one.enter(AT, "")
    assert isinstance(refused, Refused)
    assert refused.retry_after_s == pytest.approx(30.0)
    place.now += 20
    again = one.enter(AT, "")
    assert isinstance(again, Refused)
    assert again.retry_after_s == pytest.approx(10.0)


def test_one_failure_may_be_enough(place):
    assert fails(place.process(failures=1), 10) == 1


def test_failures_of_long_ago_do_not_count(place):
    one = place.process()
    for _ in range(10):
        assert fails(one) == 1
        place.now += 31


def test_few_failures_among_many_requests_open_nothing(place):
    one = place.process()
    for _ in range(20):
        assert all(goes(one) for _ in range(2))
        assert fails(one) == 1


def test_after_the_pause_one_request_is_the_probe(place):
    one = place.process()
    fails(one, 3)
    place.now += 30.1
    probe = one.enter(AT, "")
    assert isinstance(probe, Pass)
    assert probe.probing
    assert isinstance(one.enter(AT, ""), Refused)
    assert one.went_well(probe) is True
    assert goes(one)


def test_a_probe_that_fails_begins_the_pause_anew(place):
    one = place.process()
    fails(one, 3)
    place.now += 30.1
    assert fails(one, 5) == 1
    place.now += 29
    assert fails(one, 5) == 0
    place.now += 1.1
    assert goes(one)


def test_a_probe_that_was_not_sent_leaves_its_place_to_another(place):
    one = place.process()
    fails(one, 3)
    place.now += 30.1
    probe = one.enter(AT, "")
    assert isinstance(probe, Pass)
    one.leave(probe)
    assert goes(one)


def test_a_probe_that_never_ends_leaves_its_place_after_a_pause(place):
    one = place.process()
    fails(one, 3)
    place.now += 30.1
    assert isinstance(one.enter(AT, ""), Pass)
    place.now += 30.1
    assert goes(one)


def test_a_success_from_before_the_circuit_opened_does_not_close_it(place):
    one = place.process()
    early = one.enter(AT, "")
    assert isinstance(early, Pass)
    fails(one, 3)
    assert one.went_well(early) is False
    assert isinstance(one.enter(AT, ""), Refused)


def test_processes_share_the_count_the_circuit_and_the_probe(place):
    here, there = place.process(), place.process()
    assert fails(here, 2) == 2
    assert fails(there, 5) == 1
    place.now += 1.1  # each looks once a second
    assert fails(here, 5) == 0
    place.now += 30
    probe = here.enter(AT, "")
    assert isinstance(probe, Pass)
    assert isinstance(there.enter(AT, ""), Refused)
    here.went_well(probe)
    place.now += 1.1
    assert goes(there)


def test_another_origin_has_a_circuit_of_its_own(place):
    one = place.process()
    fails(one, 10)
    assert goes(one, at=ELSEWHERE)


def test_one_catalyst_cannot_open_the_circuit_of_another(place):
    """Attack: a catalyst that fails on purpose at an origin that another one needs."""
    assert fails(place.process("c:local.attacker"), 100) == 3
    assert goes(place.process("c:local.one"))


@pytest.mark.parametrize("failures", [1, 2, 3, 5])
def test_one_key_cannot_open_the_circuit_for_others(place, failures):
    """Attack: a key whose requests make the upstream answer 500."""
    one = place.process(failures=failures)
    assert fails(one, 100, "attacker") == failures
    assert goes(one, "other")
    assert goes(one)


def test_the_failures_of_several_keys_open_it_for_all(place):
    one = place.process(failures=4)
    assert fails(one, 2, "a") == fails(one, 2, "b") == 2
    assert not goes(one, "c")
    assert not goes(one)


def test_a_guest_that_names_many_origins_is_remembered_for_some(place):
    """Attack: memory, with a domain like *.example.com."""
    one = place.process()
    for number in range(1_200):
        goes(one, at=Origin.parse(f"https://h{number}.test"))
    assert len(one._circuits) <= 1_000


def open_for_all(one: Breakers) -> None:
    for number in range(2):
        fails(one, 3, f"before-{number}")
    assert not goes(one, "other")


def test_one_key_cannot_hold_the_circuit_open_for_others(place):
    """Attack: a key that asks all the time, so that each probe is its own, and makes each fail."""
    one = place.process()
    open_for_all(one)
    went = 0
    for _ in range(100):
        place.now += 6
        fails(one, 1, "attacker")
        went += goes(one, "other")
    assert went >= 90


def test_where_all_keys_fail_each_is_a_probe_once_in_a_pause(place):
    one = place.process()
    open_for_all(one)
    for _ in range(5):
        place.now += 30.1
        assert sum(fails(one, 10, key) for key in ("a", "b", "c")) == 3


def test_a_failed_probe_of_a_key_opens_nothing_that_closed_meanwhile(place):
    one = place.process()
    open_for_all(one)
    place.now += 30.1
    slow = one.enter(AT, "attacker")
    assert isinstance(slow, Pass)
    assert slow.probing
    place.now += 30.1
    assert goes(one, "other")
    one.failed(slow)
    assert goes(one, "other")
    assert goes(one)


def test_a_probe_that_fails_after_its_time_opens_nothing(place):
    """Attack: an answer held back for an hour, that breaks off."""
    one = place.process()
    fails(one, 3)
    place.now += 30.1
    slow = one.enter(AT, "")
    assert isinstance(slow, Pass)
    place.now += 30.1
    assert goes(one)
    place.now += 3_600
    assert one.failed(slow) is False
    assert goes(one)


def test_a_probe_that_is_not_sent_after_its_time_gives_back_no_place_of_another(place):
    one = place.process()
    fails(one, 3)
    place.now += 30.1
    slow = one.enter(AT, "")
    place.now += 30.1
    assert isinstance(one.enter(AT, ""), Pass)
    assert isinstance(slow, Pass)
    one.leave(slow)
    assert isinstance(one.enter(AT, ""), Refused)


def test_an_upstream_that_takes_longer_than_the_pause_is_not_left_alone_for_ever(place):
    one = place.process()
    fails(one, 3)
    place.now += 30.1
    probe = one.enter(AT, "")
    assert isinstance(probe, Pass)
    place.now += 45
    assert one.went_well(probe) is True
    assert goes(one)


def test_failures_from_before_it_closed_do_not_open_it_again(place):
    one = place.process()
    fails(one, 3)
    place.now += 30.1
    assert goes(one)
    assert fails(one, 2) == 2
    assert goes(one)
    assert fails(one, 5) == 1
