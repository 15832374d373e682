"""The sliding window: so many requests in any so many seconds."""

from __future__ import annotations

import threading

import pytest

from host.capabilities.rate import RateMeter
from host.core.sliding_window import LocalLimiter
from host.policy.document import RateLimit


@pytest.fixture
def clock() -> list[float]:
    """A clock that stands where its one element says."""
    return [1000.0]


def metered(requests: int, window: float, clock: list[float] | None = None) -> RateMeter:
    """In this process, by `clock` if there is one."""
    limiter = None if clock is None else LocalLimiter(lambda: clock[0])
    return RateMeter("c:local.one", RateLimit(requests=requests, window=window), limiter)


def test_without_a_rate_everything_may_go() -> None:
    meter = RateMeter("c:local.one", None)
    assert [meter.take() for _ in range(1000)] == [None] * 1000


def test_a_rate_of_none_lets_nothing_go() -> None:
    assert metered(0, 60.0).take() == 60.0


def test_the_wait_is_until_the_oldest_request_leaves_the_window(clock: list[float]) -> None:
    meter = metered(2, 10.0, clock)
    assert meter.take() is None
    clock[0] += 4
    assert meter.take() is None
    clock[0] += 1
    assert meter.take() == 5.0
    clock[0] += 5
    assert meter.take() is None
    assert meter.take() == 4.0


def test_a_refused_request_is_not_counted(clock: list[float]) -> None:
    meter = metered(1, 10.0, clock)
    assert meter.take() is None
    for _ in range(5):
        clock[0] += 1
        assert meter.take() is not None
    clock[0] += 5
    assert meter.take() is None


def test_no_window_anywhere_holds_more_than_the_rate(clock: list[float]) -> None:
    """The boundary of two fixed windows lets twice as many through; this has none."""
    meter = metered(3, 10.0, clock)
    went: list[float] = []
    for _ in range(400):
        clock[0] += 0.37
        if meter.take() is None:
            went.append(clock[0])
    assert len(went) > 20
    assert all(later - earlier >= 10.0 for earlier, later in zip(went, went[3:], strict=False))


def test_threads_together_get_no_more_than_the_rate() -> None:
    meter, went = metered(50, 3600.0), []
    threads = [threading.Thread(target=lambda: went.extend(meter.take() for _ in range(25))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert went.count(None) == 50
    assert len(went) == 200
