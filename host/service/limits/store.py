"""Limits counted in the state's database, for all processes and machines that share it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from host.core.sliding_window import Exceeded, Limit, Window, longest, place
from host.errors import HostError, StateError
from host.store.access.counters import Counters, Slot, Tally
from host.store.group_commit import GroupCommit


@dataclass(frozen=True, slots=True)
class _CountRequest:
    """Without `spent`: admit one request under `limits`, or refuse it. With `spent`: count so many for each limit."""

    limits: tuple[Limit, ...]
    spent: int | None = None


class StoreLimiter:
    """A `host.service.limits.Limiter`. All limits of a request, and the requests of other threads that wait meanwhile,
    cost one transaction."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._commits: GroupCommit[_CountRequest, Exceeded | None] = GroupCommit(self._count, _explained)

    def admit(self, limits: Sequence[Limit]) -> Exceeded | None:
        return self._commits.submit(_CountRequest(tuple(limits))) if limits else None

    def spend(self, limits: Sequence[Limit], tokens: int) -> None:
        counted = tuple(limit for limit in limits if limit.unit == "tokens")
        if counted and tokens > 0:
            self._commits.submit(_CountRequest(counted, tokens))

    def close(self) -> None:
        """Nothing to close: the database belongs to the workspace."""

    def _count(self, requests: Sequence[_CountRequest]) -> list[Exceeded | None]:
        """In their order; each request sees the counts of those before it."""
        with self._counters.counting() as tally:
            counts = _Counts(tally, [limit for request in requests for limit in request.limits])
            answers = [_counted(request, counts) for request in requests]
            tally.add(counts.added, counts.expires_at)
        return answers


class _Counts:
    """The counts of some limits at one moment: those in the database, and those still to be added to it."""

    def __init__(self, tally: Tally, limits: Iterable[Limit]) -> None:
        self._now = tally.now
        self._lengths = {limit.counter: limit.quota.window_s for limit in limits}
        numbers = {name: place(tally.now, length)[0] for name, length in self._lengths.items()}
        self._counts = tally.counts({Slot(name, at) for name, number in numbers.items() for at in (number, number - 1)})
        self.added: Counter[Slot] = Counter()

    def window(self, limit: Limit) -> Window:
        number, passed = place(self._now, limit.quota.window_s)
        previous, current = Slot(limit.counter, number - 1), Slot(limit.counter, number)
        return Window(self._counts.get(previous, 0), self._counts.get(current, 0) + self.added[current], passed)

    def add(self, limit: Limit, amount: int) -> None:
        self.added[Slot(limit.counter, place(self._now, limit.quota.window_s)[0])] += amount

    def expires_at(self, slot: Slot) -> float:
        """Unix time: the end of the window after this one."""
        return (slot.window + 2) * self._lengths[slot.name]


def _counted(request: _CountRequest, counts: _Counts) -> Exceeded | None:
    if request.spent is not None:
        for limit in request.limits:
            counts.add(limit, request.spent)
        return None
    windows = [(limit, counts.window(limit)) for limit in request.limits]
    exceeded = longest(
        Exceeded(limit, window.wait_s(limit.quota.amount, limit.quota.window_s))
        for limit, window in windows
        if window.full(limit.quota.amount)
    )
    if exceeded is None:
        for limit in request.limits:
            if limit.unit == "requests":
                counts.add(limit, 1)
    return exceeded


def _explained(error: Exception) -> StateError:
    if isinstance(error, HostError):
        return StateError(error.message, hint=error.hint)
    return StateError(f"counting failed: {type(error).__name__}")
