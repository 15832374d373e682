"""So much in so long, wherever it is counted: the same on SQLite, PostgreSQL and Redis."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from host.core.quantities import Quota
from host.service.limits import Limit, Limiter
from tests.service.limits.levels import levels

_numbers = count()


def limit(quota: str, unit: str = "requests", name: str = "") -> Limit:
    """One that nothing else counts by."""
    return Limit(name or f"test:{next(_numbers)}", Quota.parse(quota), unit, "the key 'ci'")  # type: ignore[arg-type]


def admitted(limiter: Limiter, *limits: Limit, times: int = 1) -> int:
    return sum(limiter.admit(limits) is None for _ in range(times))


def test_so_many_may_go_and_the_next_is_told_which_limit_says_no(limiter: Limiter) -> None:
    one = limit("3/1m")
    assert admitted(limiter, one, times=3) == 3
    exceeded = limiter.admit([one])
    assert exceeded is not None
    assert exceeded.limit == one
    assert levels(limiter, [one]) == [3.0]


def test_who_comes_back_after_the_wait_gets_in_and_no_sooner(limiter: Limiter, clock: list[float]) -> None:
    for quota in ("1/1m", "4/1m", "7/10s"):
        one = limit(quota)
        for _ in range(20):
            while (exceeded := limiter.admit([one])) is None:
                clock[0] += 0.001
            assert 0 < exceeded.retry_after_s < 2 * one.quota.window_s
            clock[0] += exceeded.retry_after_s - 0.01
            assert limiter.admit([one]) is not None
            clock[0] += 0.01


def test_what_is_refused_does_not_count(limiter: Limiter, clock: list[float]) -> None:
    one = limit("2/1m")
    assert admitted(limiter, one, times=50) == 2
    assert levels(limiter, [one]) == [2.0]


def test_a_window_that_is_over_counts_less_and_less(limiter: Limiter, clock: list[float]) -> None:
    one = limit("100/1m")
    assert admitted(limiter, one, times=100) == 100
    clock[0] += 60.0
    assert (admitted(limiter, one), levels(limiter, [one])) == (0, [100.0])
    clock[0] += 15.0
    assert levels(limiter, [one]) == [75.0]
    assert admitted(limiter, one, times=100) == 25
    clock[0] += 120.0
    assert levels(limiter, [one]) == [0.0]
    assert admitted(limiter, one, times=200) == 100


def test_steady_use_is_let_through_at_the_rate_that_was_allowed(limiter: Limiter, clock: list[float]) -> None:
    one = limit("10/10s")
    went = 0
    for _ in range(1000):  # for a hundred seconds, ten times as often as it may
        went += admitted(limiter, one)
        clock[0] += 0.1
    assert 90 <= went <= 110


def test_all_limits_count_or_none_does(limiter: Limiter) -> None:
    wide, narrow = limit("10/1m"), limit("2/1h")
    assert admitted(limiter, wide, narrow, times=5) == 2
    assert levels(limiter, [wide, narrow]) == [2.0, 2.0]
    assert admitted(limiter, narrow, wide) == 0
    assert levels(limiter, [wide]) == [2.0]


def test_of_several_that_say_no_the_one_that_does_for_longest_is_told(limiter: Limiter) -> None:
    minute, day, hour = limit("1/1m"), limit("1/1d"), limit("1/1h")
    assert admitted(limiter, minute, day, hour) == 1
    exceeded = limiter.admit([minute, day, hour])
    assert exceeded is not None
    assert exceeded.limit == day


def test_tokens_are_not_counted_before_they_are_spent(limiter: Limiter) -> None:
    tokens, requests = limit("100/1h", "tokens"), limit("100/1h")
    assert admitted(limiter, tokens, requests, times=5) == 5
    assert levels(limiter, [tokens, requests]) == [0.0, 5.0]
    limiter.spend([tokens, requests], 60)
    assert levels(limiter, [tokens, requests]) == [60.0, 5.0]
    assert admitted(limiter, tokens, requests) == 1


def test_tokens_that_were_spent_count_also_beyond_what_was_left(limiter: Limiter, clock: list[float]) -> None:
    tokens, requests = limit("100/1h", "tokens"), limit("100/1h")
    limiter.spend([tokens], 99)
    assert admitted(limiter, tokens, requests) == 1
    limiter.spend([tokens], 901)
    exceeded = limiter.admit([tokens, requests])
    assert exceeded is not None
    assert exceeded.limit == tokens
    assert levels(limiter, [tokens, requests]) == [1000.0, 1.0]
    assert exceeded.retry_after_s == pytest.approx(3600 * 1.9, abs=1)
    clock[0] += exceeded.retry_after_s
    assert admitted(limiter, tokens) == 1


@pytest.mark.parametrize("tokens", [0, -5])
def test_no_tokens_are_nothing_to_count(limiter: Limiter, tokens: int) -> None:
    one = limit("100/1h", "tokens")
    limiter.spend([one], tokens)
    assert levels(limiter, [one]) == [0.0]


def test_without_limits_nothing_is_counted(limiter: Limiter) -> None:
    assert limiter.admit([]) is None
    limiter.spend([], 5)
    assert levels(limiter, []) == []


def test_limits_of_other_names_do_not_count(limiter: Limiter) -> None:
    one, other = limit("1/1m"), limit("1/1m")
    assert admitted(limiter, one, times=2) == 1
    assert admitted(limiter, other) == 1


def test_more_of_the_same_window_goes_on_counting_and_another_window_begins_anew(limiter: Limiter) -> None:
    one = limit("2/1m")
    assert admitted(limiter, one, times=3) == 2
    assert admitted(limiter, limit("5/1m", name=one.name), times=9) == 3
    assert admitted(limiter, limit("2/2m", name=one.name), times=9) == 2


def test_amounts_that_no_32_bits_hold_are_counted(limiter: Limiter) -> None:
    one = limit("1000000000000000/365d", "tokens")
    limiter.spend([one], 10**14)
    limiter.spend([one], 1)
    assert levels(limiter, [one]) == [10**14 + 1]


@pytest.mark.parametrize("quota", ["3/1ms", "3/0.3s", "3/7.7s", "3/36500d"])
def test_windows_of_any_length(limiter: Limiter, clock: list[float], quota: str) -> None:
    clock[0] += 0.123456
    one = limit(quota)
    for _ in range(3):
        assert admitted(limiter, one, times=9) == 3
        clock[0] += 2 * one.quota.window_s


def test_threads_together_get_no_more_than_there_is(limiter: Limiter) -> None:
    one, together = limit("50/1h"), threading.Barrier(8)

    def work(_: int) -> int:
        together.wait()
        return admitted(limiter, one, times=25)

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(work, range(8))) == 50
    assert levels(limiter, [one]) == [50.0]


def test_processes_together_get_no_more_than_there_is(opened: Callable[[], Limiter]) -> None:
    """Each limiter has connections of its own, as that of another process has."""
    one, limiters = limit("50/1h"), [opened() for _ in range(4)]
    together = threading.Barrier(4)

    def work(limiter: Limiter) -> int:
        together.wait()
        return admitted(limiter, one, times=25)

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(work, limiters)) == 50


def test_that_there_is_another_limiter_needs_nothing_of_redis() -> None:
    """Who counts in the store need not have its library."""
    script = "import sys, host.service.limits; print({'redis', 'limits'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"


def test_a_lease_is_taken_by_one_and_free_after_its_time(opened: Callable[[], Limiter], clock: list[float]) -> None:
    here, there = opened(), opened()
    name = f"test:{next(_numbers)}"
    assert here.lease_left_s(name) == 0
    assert here.lease(name, 30.0) == 0
    assert there.lease(name, 30.0) == pytest.approx(30.0)
    clock[0] += 20
    assert there.lease_left_s(name) == here.lease_left_s(name) == pytest.approx(10.0)
    clock[0] += 10.001
    assert there.lease(name, 5.0) == 0


def test_a_lease_is_taken_anew_or_released_by_whoever_asks(opened: Callable[[], Limiter]) -> None:
    here, there = opened(), opened()
    name = f"test:{next(_numbers)}"
    here.lease(name, 5.0)
    assert there.lease(name, 60.0, anew=True) == 0
    assert here.lease_left_s(name) == pytest.approx(60.0)
    here.release(name)
    assert there.lease_left_s(name) == 0
    here.release(name)
