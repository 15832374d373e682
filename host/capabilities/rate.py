"""How often: a sliding window over the requests of one catalyst, shared by all its runs in this process; or whatever
else counts them, for several processes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Protocol

from host.policy.document import Rate


class Rates(Protocol):
    """Counts for several processes. Thread-safe."""

    def take(self, name: str, rate: Rate) -> float | None:
        """Count one request of the catalyst `name`; None if it may go, else the seconds after which the next may (it is
        not counted then). Raises StateError where nothing can be counted, which ends the run."""


class RateMeter:
    """One catalyst's own."""

    def __init__(self, rate: Rate | None) -> None:
        self._rate = rate
        self._times: deque[float] = deque()
        self._lock = threading.Lock()

    def take(self) -> float | None:
        """Count one request; None if it may go, else the seconds after which the next may (it is not counted then)."""
        if self._rate is None:
            return None
        with self._lock:
            now = time.monotonic()
            while self._times and now - self._times[0] >= self._rate.window_s:
                self._times.popleft()
            if len(self._times) < self._rate.requests:
                self._times.append(now)
                return None
            return self._rate.window_s - (now - self._times[0]) if self._times else self._rate.window_s
