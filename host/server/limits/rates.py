"""The `rate_limit` of policies, counted where a server counts: for all its processes and machines together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from host.policy.allowance import LONGEST_S, MOST, SHORTEST_S, Allowance
from host.server.limits.limit import Limit

if TYPE_CHECKING:
    from host.policy.document import Rate
    from host.server.limits.limit import Limiter


class SharedRates:
    """What a Host counts by, in place of its own windows (`host.capabilities.rate.Rates`)."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    def take(self, name: str, rate: Rate) -> float | None:
        if rate.requests < 1:
            return rate.window_s
        allowance = Allowance(min(rate.requests, MOST), min(max(rate.window_s, SHORTEST_S), LONGEST_S))
        exceeded = self._limiter.admit([Limit(f"policy:{name}", allowance, "requests", f"the catalyst {name}")])
        return None if exceeded is None else exceeded.retry_after_s
