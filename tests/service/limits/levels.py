"""How much of a limit is used, read from where it is counted."""

from __future__ import annotations

from collections.abc import Sequence

from host.core.sliding_window import Limit, Window
from host.service.limits import Limiter
from host.service.limits.redis import RedisLimiter
from host.service.limits.store import StoreLimiter, _Counts


def levels(limiter: Limiter, limits: Sequence[Limit]) -> list[float]:
    """How much of each limit is used in the window that ends now."""
    if isinstance(limiter, RedisLimiter):
        return [used(window) for window, _ in limiter._run(limits, [0] * len(limits))]
    assert isinstance(limiter, StoreLimiter)
    with limiter._counters.counting() as tally:
        counts = _Counts(tally, limits)
        return [used(counts.window(limit)) for limit in limits]


def used(window: Window) -> float:
    return window.previous * (1.0 - window.passed) + window.current
