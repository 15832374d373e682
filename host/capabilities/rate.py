"""How often: a sliding window over the requests of one catalyst, shared by all its runs in this process."""

from __future__ import annotations

import threading
import time
from collections import deque

from host.policy.document import Rate


class RateMeter:
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
