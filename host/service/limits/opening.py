"""Where limits are counted.

The `rate_limit` of policies, counted where a server counts: for all its processes and machines together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from host.core.quantities import LONGEST_S, MOST, SHORTEST_S, Quota
from host.service.limits.quota import Limit
from host.service.limits.redis import RedisLimiter
from host.service.limits.store import StoreLimiter

if TYPE_CHECKING:
    from host.policy.document import Rate
    from host.runtime.workspace import Workspace
    from host.service.limits.quota import Limiter


def open_limiter(url: str | None, workspace: Workspace) -> Limiter:
    """In the Redis at `url`; without one, in the database of `workspace`. To be closed. Raises InputError for a URL of
    another kind, StateError where nobody answers there, or what it takes is not installed; neither has its password."""
    return RedisLimiter.open(url) if url else StoreLimiter(workspace.counters)


class SharedRates:
    """What a Host counts by, in place of its own windows (`host.capabilities.rate.Rates`)."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    def take(self, name: str, rate: Rate) -> float | None:
        if rate.requests < 1:
            return rate.window_s
        allowance = Quota(min(rate.requests, MOST), min(max(rate.window_s, SHORTEST_S), LONGEST_S))
        exceeded = self._limiter.admit([Limit(f"policy:{name}", allowance, "requests", f"the catalyst {name}")])
        return None if exceeded is None else exceeded.retry_after_s
