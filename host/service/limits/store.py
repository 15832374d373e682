"""Limits in the state's database: for every process, and every machine that shares it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from host.errors import HostError, StateError
from host.service.limits.quota import Exceeded, Limit, Window, place
from host.store.access.counters import Counters, Slot, Tally
from host.store.group_commit import GroupCommit


@dataclass(frozen=True, slots=True)
class _Ask:
    """To count `amount` for each limit: one that is full says no, unless what it counts was spent already."""

    limits: tuple[Limit, ...]
    spent: int | None = None


class StoreLimiter:
    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._commits: GroupCommit[_Ask, Exceeded | None] = GroupCommit(self._perform, _uncounted)

    def admit(self, limits: Sequence[Limit]) -> Exceeded | None:
        return self._commits.submit(_Ask(tuple(limits))) if limits else None

    def spend(self, limits: Sequence[Limit], tokens: int) -> None:
        counted = tuple(limit for limit in limits if limit.unit == "tokens")
        if counted and tokens > 0:
            self._commits.submit(_Ask(counted, tokens))

    def levels(self, limits: Sequence[Limit]) -> list[float]:
        with self._counters.looking() as tally:
            counts = _Counts(tally, limits)
            return [counts.window(limit).used for limit in limits]

    def close(self) -> None:
        """The database is its workspace's."""

    def _perform(self, asks: Sequence[_Ask]) -> list[Exceeded | None]:
        """In their order, each in view of those before it."""
        with self._counters.counting() as tally:
            counts = _Counts(tally, [limit for ask in asks for limit in ask.limits])
            answers = [_answer(ask, counts) for ask in asks]
            tally.add(counts.added, counts.expires_at)
        return answers


class _Counts:
    """Of some limits, at one moment: those in the database, and those that are to be added."""

    def __init__(self, tally: Tally, limits: Iterable[Limit]) -> None:
        self._now = tally.now
        self._lengths = {limit.counter: limit.allowance.window_s for limit in limits}
        numbers = {name: place(tally.now, length)[0] for name, length in self._lengths.items()}
        self._counts = tally.counts({Slot(name, at) for name, number in numbers.items() for at in (number, number - 1)})
        self.added: Counter[Slot] = Counter()

    def window(self, limit: Limit) -> Window:
        number, passed = place(self._now, limit.allowance.window_s)
        before, current = Slot(limit.counter, number - 1), Slot(limit.counter, number)
        return Window(self._counts.get(before, 0), self._counts.get(current, 0) + self.added[current], passed)

    def add(self, limit: Limit, amount: int) -> None:
        self.added[Slot(limit.counter, place(self._now, limit.allowance.window_s)[0])] += amount

    def expires_at(self, slot: Slot) -> float:
        """Once the window after it is over too."""
        return (slot.window + 2) * self._lengths[slot.name]


def _answer(ask: _Ask, counts: _Counts) -> Exceeded | None:
    if ask.spent is not None:
        for limit in ask.limits:
            counts.add(limit, ask.spent)
        return None
    over = [
        Exceeded(limit, window.wait_s(limit.allowance.amount, limit.allowance.window_s))
        for limit, window in ((limit, counts.window(limit)) for limit in ask.limits)
        if window.full(limit.allowance.amount)
    ]
    if over:
        return max(over, key=lambda one: one.retry_after_s)
    for limit in ask.limits:
        if limit.unit == "requests":
            counts.add(limit, 1)
    return None


def _uncounted(error: Exception) -> StateError:
    if isinstance(error, HostError):
        return StateError(error.message, hint=error.hint)
    return StateError(f"counting failed: {type(error).__name__}")
