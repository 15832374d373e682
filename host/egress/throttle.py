"""Client-side limits: how many requests and tokens go to an origin, from the policy or as the origin itself says.

Nothing here waits. The limits of a policy are counted by the limiter that everything else is counted by, for several
processes together where it is shared; what an upstream says of itself is kept in the process that it was said to.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Final

from host.core.sliding_window import Exceeded, Limit, TokenLimiter, Unit
from host.egress.headers import Fields
from host.egress.retry import SECONDS, asked_wait_s
from host.policy.reliability import Throttle
from host.policy.urls import Origin

_BYTES_OF_A_TOKEN: Final = 4
_LONGEST_S: Final = 60.0  # that an upstream's word is taken; then a request asks anew
_MOST_ORIGINS: Final = 1_000
_UNITS: Final[tuple[Unit, ...]] = ("requests", "tokens")
_PART: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(ms|h|m|s)")
_TIME: Final = re.compile(rf"(?:{_PART.pattern})+\Z")
_IN_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0}
_COUNT: Final = re.compile(r"[0-9]{1,15}\Z")
_TOO_MANY: Final = 429


@dataclass(frozen=True, slots=True)
class Full:
    """There is no room for `wait_s` seconds. `limit` says of what: `500/1m requests`, `the upstream's tokens`."""

    wait_s: float
    limit: str


@dataclass(slots=True)
class _Left:
    """What an upstream said is left of its limit, until `until`."""

    amount: int
    until: float


class Throttles:
    """Of one catalyst. Thread-safe."""

    def __init__(
        self,
        reference: str,
        settings: Throttle,
        limiter: TokenLimiter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reference, self._limiter, self._clock = reference, limiter, clock
        self._quotas = [
            (unit, quota)
            for unit, quota in zip(_UNITS, (settings.request_quota, settings.token_quota), strict=True)
            if quota is not None
        ]
        self._learns = settings.learn
        self._left: dict[tuple[Origin, Unit], _Left] = {}
        self._lock = Lock()

    def take(self, origin: Origin, size: int) -> Full | None:
        """Count a request with a body of `size` bytes. Returns None if it may go now; else nothing is counted. Raises
        StateError where it cannot be counted."""
        tokens = max(1, size // _BYTES_OF_A_TOKEN)
        with self._lock:
            if (full := self._learned(origin, tokens)) is not None:
                return full
        if self._quotas:
            name = f"throttle:{self._reference}:{origin}"
            limits = [Limit(f"{name}:{unit}", quota, unit, str(quota)) for unit, quota in self._quotas]
            most = min([tokens, *(quota.amount for unit, quota in self._quotas if unit == "tokens")])
            found = self._limiter.reserve(limits, most, most)
            if isinstance(found, Exceeded):
                return Full(found.retry_after_s, f"{found.limit.subject} {found.limit.unit}")
        with self._lock:
            for unit, amount in zip(_UNITS, (1, tokens), strict=True):
                if (left := self._left.get((origin, unit))) is not None:
                    left.amount -= amount
        return None

    def learn(self, origin: Origin, status: int, answered: Fields) -> None:
        """What the headers of an answer say about the upstream's own limits."""
        if not self._learns:
            return
        given = {name: value.strip() for name, value in answered if name.startswith("x-ratelimit-")}
        now = self._clock()
        with self._lock:
            for unit in _UNITS:
                left = given.get(f"x-ratelimit-remaining-{unit}", "")
                reset = _seconds(given.get(f"x-ratelimit-reset-{unit}", ""))
                if _COUNT.match(left) and reset is not None:
                    self._keep(origin, unit, _Left(int(left), now + min(reset, _LONGEST_S)))
            if status == _TOO_MANY and (asked := asked_wait_s(answered)) is not None:
                self._keep(origin, "requests", _Left(0, now + min(asked, _LONGEST_S)))

    def _learned(self, origin: Origin, tokens: int) -> Full | None:
        """The lock is held."""
        now = self._clock()
        for unit, amount in zip(_UNITS, (1, tokens), strict=True):
            left = self._left.get((origin, unit))
            if left is not None and left.until <= now:
                del self._left[origin, unit]
            elif left is not None and left.amount < amount:
                return Full(left.until - now, f"the upstream's {unit}")
        return None

    def _keep(self, origin: Origin, unit: Unit, left: _Left) -> None:
        """The lock is held."""
        self._left.pop((origin, unit), None)
        while len(self._left) >= _MOST_ORIGINS:
            del self._left[next(iter(self._left))]
        self._left[origin, unit] = left


def _seconds(text: str) -> float | None:
    """From `6m0s`, `1.5s`, `88ms`, or a number of seconds; None for anything else."""
    if _TIME.match(text):
        return sum(float(number) * _IN_SECONDS[unit] for number, unit in _PART.findall(text))
    return float(text) if SECONDS.match(text) else None
