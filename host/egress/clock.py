"""The time that a run has left, as the road out sees it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Protocol

from host.egress.failures import timed_out

_LONGEST_WAIT_S: Final = 3_600.0  # sockets refuse to wait for infinity


class Clock(Protocol):
    """Implemented by `host.call.Call`."""

    def remaining(self) -> float:
        """Seconds left of the run; 0 or less when it is over or was cancelled."""

    def interruptible(self, abort: Callable[[], None]) -> AbstractContextManager[None]:
        """Inside, `abort` is called once, from another thread, when the run is cancelled (at once if it already is)."""


def left(clock: Clock, host: str) -> float:
    """Seconds for which a wait on `host` may last, always more than 0. Raises EgressError (timeout)."""
    remaining = clock.remaining()
    if remaining <= 0:
        raise timed_out(host)
    return min(remaining, _LONGEST_WAIT_S)
