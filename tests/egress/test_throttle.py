"""How much goes to an origin: as the policy says, and as the origin itself says."""

from __future__ import annotations

import pytest

from host.core.sliding_window import LocalLimiter
from host.egress.throttle import Full, Throttles
from host.policy.reliability import Throttle
from host.policy.urls import Origin

AT, ELSEWHERE = Origin.parse("https://api.test"), Origin.parse("https://other.test")


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


def throttles(clock: list[float], **settings: object) -> Throttles:
    return Throttles("c:local.one", Throttle(**settings), LocalLimiter(lambda: clock[0]), lambda: clock[0])


def test_so_many_requests_go_and_the_next_is_told_how_long_to_wait(clock):
    one = throttles(clock, requests="2/10s")
    assert one.take(AT, 0) is None
    clock[0] += 4
    assert one.take(AT, 0) is None
    assert one.take(AT, 0) == Full(6.0, "2/10s requests")
    clock[0] += 6
    assert one.take(AT, 0) is None


def test_each_origin_has_its_own(clock):
    one = throttles(clock, requests="1/1m")
    assert one.take(AT, 0) is None
    assert one.take(ELSEWHERE, 0) is None
    assert one.take(AT, 0) is not None


def test_tokens_are_counted_by_the_size_of_the_body(clock):
    one = throttles(clock, tokens="100/1m")
    assert one.take(AT, 240) is None
    full = one.take(AT, 200)
    assert full is not None
    assert full.limit == "100/1m tokens"
    assert one.take(AT, 160) is None


def test_a_request_that_is_larger_than_the_whole_quota_goes_alone(clock):
    one = throttles(clock, tokens="100/1m")
    assert one.take(AT, 4_000_000) is None
    assert one.take(AT, 4) is not None
    clock[0] += 60
    assert one.take(AT, 4_000_000) is None


def answered(
    requests: str = "", reset: str = "", tokens: str = "", tokens_reset: str = ""
) -> tuple[tuple[str, str], ...]:
    return (
        ("x-ratelimit-remaining-requests", requests),
        ("x-ratelimit-reset-requests", reset),
        ("x-ratelimit-remaining-tokens", tokens),
        ("x-ratelimit-reset-tokens", tokens_reset),
    )


def test_what_an_upstream_says_is_left_is_kept_to(clock):
    one = throttles(clock, learn=True)
    one.learn(AT, 200, answered("2", "6s", "100", "500ms"))
    assert one.take(AT, 0) is None
    assert one.take(AT, 0) is None
    assert one.take(AT, 0) == Full(6.0, "the upstream's requests")
    assert one.take(ELSEWHERE, 0) is None
    clock[0] += 6
    assert one.take(AT, 0) is None


def test_the_tokens_that_are_left_are_kept_to(clock):
    one = throttles(clock, learn=True)
    one.learn(AT, 200, answered("9", "1s", "100", "1m30s"))
    assert one.take(AT, 200) is None
    full = one.take(AT, 400)
    assert full is not None
    assert full.limit == "the upstream's tokens"
    assert full.wait_s == 60.0, "its word is taken for a minute"


@pytest.mark.parametrize(
    ("reset", "wait"),
    [
        ("1s", 1.0), ("88ms", 0.088), ("1m2.5s", 60.0), ("0h0m7s", 7.0), ("7", 7.0), ("6h", 60.0),
        ("1000000000s", 60.0), ("-5s", None), ("NaN", None), ("inf", None), ("", None), ("1e9", None), ("s" * 9_999, None),
    ],
)  # fmt: skip
def test_a_reset_is_a_time_of_a_minute_at_most_or_nothing(clock, reset, wait):
    """Attack: an upstream, or who speaks for it, stops a catalyst for years."""
    one = throttles(clock, learn=True)
    one.learn(AT, 200, answered("0", reset))
    full = one.take(AT, 0)
    assert (None if full is None else full.wait_s) == (None if wait is None else pytest.approx(wait))


@pytest.mark.parametrize("left", ["-1", "NaN", "1.5", "", "9" * 400])
def test_what_is_no_number_of_requests_is_passed_over(clock, left):
    one = throttles(clock, learn=True)
    one.learn(AT, 200, answered(left, "6s"))
    assert one.take(AT, 0) is None


def test_a_refusal_says_when_there_is_room_again(clock):
    one = throttles(clock, learn=True)
    one.learn(AT, 429, (("retry-after", "20"),))
    assert one.take(AT, 0) == Full(20.0, "the upstream's requests")


def test_without_learn_an_upstream_says_nothing(clock):
    one = throttles(clock, requests="9/1s")
    one.learn(AT, 429, (*answered("0", "6s"), ("retry-after", "20")))
    assert one.take(AT, 0) is None
