"""Sliding windows: how much of a quota is used, and when there is room again.

The arithmetic is here, without clocks of its own and without I/O. It has two forms. `Window` holds two counts for each
limit and is an approximation; processes that share a database or a Redis count by it (`host.service.limits`). `Log`
holds the time of each request and is exact; one process counts by it (`LocalLimiter`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol, runtime_checkable

from host.core.quantities import Quota

Unit = Literal["requests", "tokens"]

_MARGIN_S: Final = 0.001  # a wait ends past the point where the share has become smaller, and not at it


@dataclass(frozen=True, slots=True)
class Limit:
    """`name` identifies the counter (`key:ab12cd34ef56:requests`); `subject` words messages (`the key 'ci'`)."""

    name: str
    quota: Quota
    unit: Unit
    subject: str

    @property
    def counter(self) -> str:
        """The name with the window's length: a limit of another length starts with counts of its own."""
        return f"{self.name}/{self.quota.window_s!r}"


@dataclass(frozen=True, slots=True)
class Exceeded:
    """`limit` has no room for `needed` more; it has after `retry_after_s` seconds, if nothing else is counted by then.
    Where its whole quota is less than `needed`, that is the length of its window, and trying again is of no
    use."""

    limit: Limit
    retry_after_s: float
    needed: int = 1


@dataclass(frozen=True, slots=True)
class Held:
    """So many tokens of `limit` that are counted as spent, in the fixed window of this number."""

    limit: Limit
    window: int
    amount: int

    def answered_by(self, name: str) -> Limit:
        """The counter that remembers what was counted for the answer of this name."""
        return replace(self.limit, name=f"{self.limit.name}#{name}")


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one request holds until its answer says what it cost. Nobody need give it back: it goes with its window."""

    held: tuple[Held, ...] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of a reservation, for one limit. `due` is what the answer adds to what was counted for it before; `more`
    counts now; `back` is taken from the reservation, and `owed` from the one under which the answer was ordered."""

    due: int
    more: int
    back: int
    owed: int

    @classmethod
    def of(cls, tokens: int, held: int, known: int) -> Settled:
        """`known` is what the answer's counter holds: what was counted for it, or, below zero, what is held for it."""
        due = max(0, tokens - max(0, known))
        rest = due - held - max(0, -known)
        back = min(held, max(0, -rest))
        return cls(due, max(0, rest), back, max(0, -rest) - back)


def longest(exceeded: Iterable[Exceeded]) -> Exceeded | None:
    """The one with the longest wait; None for none."""
    return max(exceeded, key=lambda one: one.retry_after_s, default=None)


class RequestLimiter(Protocol):
    """Thread-safe."""

    def admit(self, limits: Sequence[Limit]) -> Exceeded | None:
        """Count one request for each limit of "requests", and check that each limit of "tokens" has room. If one has no
        room, nothing is counted, and the one with the longest wait is returned. Raises StateError if it cannot count:
        then nothing is admitted."""


@runtime_checkable
class TokenLimiter(RequestLimiter, Protocol):
    """Thread-safe."""

    def reserve(self, limits: Sequence[Limit], needed: int, likely: int) -> Reservation | Exceeded:
        """As `admit`, and hold tokens of each limit of "tokens": `likely` many, or as many as it has room for, but at
        least `needed`. If one has no room for `needed`, nothing is counted. With 0 of both no room is needed. What is
        held counts as spent until its window is over."""


@dataclass(frozen=True, slots=True)
class Window:
    """The sliding window counter: the counts of the last fixed window and of this one, whose share `passed` (0 to 1) is
    over. The last window counts by the share of it that a window which ends now still covers, as if its requests had
    been spread evenly. After a burst at the end of one window, the next may admit up to as many again as fit into that
    even share."""

    previous: int
    current: int
    passed: float

    def room(self, amount: int) -> int:
        """How many more there is room for; below zero if more was counted. A fraction of the last window's last request
        does not count, so that a quota of one request in a minute admits one each minute."""
        return amount - int(self.previous * (1.0 - self.passed)) - self.current

    def full(self, amount: int, needed: int = 1) -> bool:
        """Whether there is no room for `needed` more."""
        return self.room(amount) < needed

    def wait_s(self, amount: int, window_s: float, needed: int = 1) -> float:
        """Of a full window: the seconds until it is not, if nothing else is counted; `window_s` if it always will
        be."""
        if needed > amount:
            return window_s
        amount -= needed - 1
        room = amount - self.current  # the last window's share has to become smaller than this
        if room > 0:
            share = 1.0 - room / self.previous - self.passed
        else:  # not before the next window, for which this is the last one
            share = 1.0 - self.passed + max(0.0, 1.0 - amount / self.current)
        return max(0.0, share) * window_s + _MARGIN_S


def place(now: float, window_s: float) -> tuple[int, float]:
    """The number of the fixed window that `now` (Unix time in seconds) is in, and the share of it that is over."""
    number, over = divmod(now, window_s)
    return int(number), over / window_s


@dataclass(slots=True)
class Log:
    """The sliding window log: when how much was counted within one window. No window anywhere holds more than the
    quota. It takes as much memory as the quota admits requests."""

    entries: deque[tuple[float, int]] = field(default_factory=deque)
    total: int = 0

    def wait_s(self, quota: Quota, now: float, needed: int = 1) -> float:
        """0 if there is room for `needed` more at `now`; else the seconds until enough has left the window, and the
        whole window where that is never so."""
        while self.entries and now - self.entries[0][0] >= quota.window_s:
            self.total -= self.entries.popleft()[1]
        over = self.total + needed - quota.amount
        if over <= 0:
            return 0.0
        for at, amount in self.entries:
            if (over := over - amount) <= 0:
                return quota.window_s - (now - at)
        return quota.window_s

    def add(self, now: float, amount: int) -> None:
        self.entries.append((now, amount))
        self.total += amount


class LocalLimiter:
    """Counts in this process, exactly. `clock` returns seconds from any beginning."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logs: dict[str, Log] = {}
        self._lock = threading.Lock()

    def admit(self, limits: Sequence[Limit]) -> Exceeded | None:
        """As `RequestLimiter` says."""
        found = self.reserve(limits, 1, 0)
        return found if isinstance(found, Exceeded) else None

    def reserve(self, limits: Sequence[Limit], needed: int, likely: int) -> Reservation | Exceeded:
        """As `TokenLimiter` says. What is held is not given back."""
        with self._lock:
            now = self._clock()
            rooms = [1 if limit.unit == "requests" else needed for limit in limits]
            logs = [self._logs.setdefault(limit.counter, Log()) for limit in limits]
            waits = [
                log.wait_s(limit.quota, now, room) if room else 0.0
                for limit, log, room in zip(limits, logs, rooms, strict=True)
            ]
            if any(waits):
                refused = zip(limits, waits, rooms, strict=True)
                return longest(Exceeded(limit, wait, room) for limit, wait, room in refused if wait) or Reservation()
            for limit, log in zip(limits, logs, strict=True):
                amount = 1 if limit.unit == "requests" else min(likely, limit.quota.amount - log.total)
                if amount > 0:
                    log.add(now, amount)
            return Reservation()
