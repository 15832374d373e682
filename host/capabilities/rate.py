"""How often a catalyst may send requests: the `rate_limit` of its policy."""

from __future__ import annotations

from host.core.sliding_window import Limit, LocalLimiter, RequestLimiter
from host.policy.document import RateLimit


class RateMeter:
    """The `rate_limit` of a policy: counts the requests of all runs of the catalyst `reference`. `limiter` counts for
    several processes together; without one the meter counts by a window of its own."""

    def __init__(self, reference: str, rate: RateLimit | None, limiter: RequestLimiter | None = None) -> None:
        self._rate = rate
        quota = None if rate is None else rate.quota()
        subject = f"the catalyst {reference}"
        self._limits = () if quota is None else (Limit(f"policy:{reference}", quota, "requests", subject),)
        self._limiter: RequestLimiter = LocalLimiter() if limiter is None else limiter

    def take(self) -> float | None:
        """Count one request. Returns None if it may go; else the seconds until the next may, and counts nothing. Raises
        StateError if the limiter cannot count, which ends the run."""
        if self._rate is None:
            return None
        if not self._limits:
            return self._rate.window_s
        exceeded = self._limiter.admit(self._limits)
        return None if exceeded is None else exceeded.retry_after_s
