"""Leases: names that are taken for a time, as all see who share the place where they are kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

_MOST: Final = 10_000  # names that one process remembers; the oldest go first


@runtime_checkable
class Leases(Protocol):
    """Thread-safe. Methods raise StateError where the place does not answer."""

    def lease_left_s(self, name: str) -> float:
        """Seconds for which `name` is still taken; 0 if it is free."""
        ...

    def lease(self, name: str, seconds: float, *, anew: bool = False) -> float:
        """Take `name` for so many seconds if it is free; `anew`: whether it is or not. Returns 0 if it was taken now,
        else the seconds for which it is still taken."""
        ...

    def release(self, name: str) -> None:
        """Let `name` be free."""
        ...


class LocalLeases:
    """Leases of this process. `clock` returns seconds from any beginning."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def lease_left_s(self, name: str) -> float:
        return max(0.0, self._until.get(name, 0.0) - self._clock()) if name in self._until else 0.0

    def lease(self, name: str, seconds: float, *, anew: bool = False) -> float:
        with self._lock:
            left = self.lease_left_s(name)
            if left > 0 and not anew:
                return left
            self._until.pop(name, None)
            while len(self._until) >= _MOST:
                del self._until[next(iter(self._until))]
            self._until[name] = self._clock() + seconds
            return 0.0

    def release(self, name: str) -> None:
        with self._lock:
            self._until.pop(name, None)
