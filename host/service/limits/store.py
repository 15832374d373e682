"""Limits counted in the state's database, for all processes and machines that share it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from host.core.sliding_window import Exceeded, Held, Limit, Reservation, Settled, Window, longest, place
from host.core.waiting import ANSWER_S, left, within
from host.errors import HostError, StateError
from host.store.access.counters import Counters, Slot, Tally
from host.store.group_commit import GroupCommit


@dataclass(frozen=True, slots=True)
class _CountRequest:
    """Without `spent`: admit one request under `limits`, or refuse it. With `spent`: count so many for each limit. With
    `holds`: hold tokens, how many there must be room for, and how many if there is room."""

    limits: tuple[Limit, ...]
    spent: int | None = None
    holds: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class _SettleRequest:
    """The arguments of `settle`."""

    reservation: Reservation
    tokens: int | None
    answer: str
    again: bool

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The counters that it reads."""
        found = [one.limit for one in self.reservation.held]
        if self.answer:
            found += [one.answered_by(self.answer) for one in self.reservation.held]
        return tuple(found)


@dataclass(frozen=True, slots=True)
class _LeaseRequest:
    """`seconds` None: only look; 0: release."""

    name: str
    seconds: float | None = None
    anew: bool = False
    limits: tuple[Limit, ...] = ()


_Counted: TypeAlias = Reservation | Exceeded | float | None
_Request: TypeAlias = _CountRequest | _SettleRequest | _LeaseRequest


class StoreLimiter:
    """A `host.service.limits.Limiter`. All limits of a request, and the requests of other threads that wait meanwhile,
    cost one transaction."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._commits: GroupCommit[_Request, _Counted] = GroupCommit(self._count, _explained)

    def admit(self, limits: Sequence[Limit]) -> Exceeded | None:
        answer = self._commits.submit(_CountRequest(tuple(limits)), left(ANSWER_S)) if limits else None
        return answer if isinstance(answer, Exceeded) else None

    def reserve(self, limits: Sequence[Limit], needed: int, likely: int) -> Reservation | Exceeded:
        answer = (
            self._commits.submit(_CountRequest(tuple(limits), holds=(needed, likely)), left(ANSWER_S))
            if limits
            else None
        )
        return answer if isinstance(answer, (Reservation, Exceeded)) else Reservation()

    def settle(self, reservation: Reservation, tokens: int | None, answer: str = "", *, again: bool = False) -> int:
        if not reservation.held:
            return tokens or 0
        due = self._commits.submit(_SettleRequest(reservation, tokens, answer, again), left(ANSWER_S))
        return due if isinstance(due, int) else 0

    def spend(self, limits: Sequence[Limit], tokens: int) -> None:
        counted = tuple(limit for limit in limits if limit.unit == "tokens")
        if counted and tokens > 0:
            self._commits.submit(_CountRequest(counted, tokens), left(ANSWER_S))

    def lease_left_s(self, name: str) -> float:
        return self._leased(_LeaseRequest(name))

    def lease(self, name: str, seconds: float, *, anew: bool = False) -> float:
        return self._leased(_LeaseRequest(name, seconds, anew))

    def release(self, name: str) -> None:
        self._leased(_LeaseRequest(name, 0.0, anew=True))

    def _leased(self, request: _LeaseRequest) -> float:
        answer = self._commits.submit(request, left(ANSWER_S))
        return answer if isinstance(answer, float) else 0.0

    def check(self) -> None:
        """Nothing to check: what writes to the database at all can count there."""

    def close(self) -> None:
        """Nothing to close: the database belongs to the workspace."""

    def _count(self, requests: Sequence[_Request]) -> list[_Counted]:
        """In their order; each request sees the counts of those before it."""
        with within(self._commits.patience_s()), self._counters.counting() as tally:
            counts = _Counts(tally, [limit for request in requests for limit in request.limits])
            answers = [_answered(one, counts, tally) for one in requests]
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
        return Window(self._in(Slot(limit.counter, number - 1)), self._in(Slot(limit.counter, number)), passed)

    def number(self, limit: Limit) -> int:
        """The number of the limit's window."""
        return place(self._now, limit.quota.window_s)[0]

    def latest(self, limit: Limit) -> tuple[int, int]:
        """What the counter holds in this window, or else in the last one, and the number of that window."""
        number = self.number(limit)
        at = number if self._in(Slot(limit.counter, number)) else number - 1
        count = self._in(Slot(limit.counter, at))
        return (count, at) if count else (0, number)

    def add(self, limit: Limit, amount: int, window: int | None = None) -> None:
        """In this window, unless it is said which. No count falls below zero: an older window is not known any more,
        and what is given back to it is nothing."""
        slot = Slot(limit.counter, self.number(limit) if window is None else window)
        if amount := max(amount, -max(0, self._in(slot))):
            self.added[slot] += amount

    def put(self, limit: Limit, count: int, window: int) -> None:
        """In place of what the counter holds in that window."""
        slot = Slot(limit.counter, window)
        if change := count - self._in(slot):
            self.added[slot] += change

    def _in(self, slot: Slot) -> int:
        return self._counts.get(slot, 0) + self.added.get(slot, 0)

    def expires_at(self, slot: Slot) -> float:
        """Unix time: the end of the window after this one."""
        return (slot.window + 2) * self._lengths[slot.name]


def _answered(request: _Request, counts: _Counts, tally: Tally) -> _Counted:
    match request:
        case _SettleRequest():
            return _settled(request, counts)
        case _LeaseRequest():
            return _leased(request, tally)
        case _CountRequest():
            return _counted(request, counts)


def _leased(request: _LeaseRequest, tally: Tally) -> float:
    """A lease is a counter that holds its end, in milliseconds of Unix time."""
    slot = Slot(f"lease:{request.name}", 0)
    held = tally.counts({slot}).get(slot, 0)
    free_in_s = max(0.0, held / 1_000 - tally.now)
    if request.seconds is None or (free_in_s and not request.anew):
        return free_in_s
    until = tally.now + request.seconds
    tally.add({slot: round(until * 1_000) - held}, lambda _: until)
    return 0.0


def _counted(request: _CountRequest, counts: _Counts) -> Reservation | Exceeded | None:
    if request.spent is not None:
        for limit in request.limits:
            counts.add(limit, request.spent)
        return None
    least, likely = request.holds or (1, 0)
    windows = [(limit, counts.window(limit), 1 if limit.unit == "requests" else least) for limit in request.limits]
    exceeded = longest(
        Exceeded(limit, window.wait_s(limit.quota.amount, limit.quota.window_s, needed), needed)
        for limit, window, needed in windows
        if needed and window.full(limit.quota.amount, needed)
    )
    if exceeded is not None:
        return exceeded
    held = []
    for limit, window, _ in windows:
        if limit.unit == "requests":
            counts.add(limit, 1)
        else:
            amount = max(0, min(likely, window.room(limit.quota.amount)))
            counts.add(limit, amount)
            held.append(Held(limit, counts.number(limit), amount))
    return Reservation(tuple(held)) if request.holds else None


def _settled(request: _SettleRequest, counts: _Counts) -> int:
    """Returns what is due for the first limit."""
    dues = []
    for one in request.reservation.held:
        remembered = one.answered_by(request.answer) if request.answer else None
        known, at = counts.latest(remembered) if remembered else (0, 0)
        if request.tokens is None:
            if remembered and not request.again:
                counts.put(remembered, -one.amount, one.window)
            continue
        settled = Settled.of(request.tokens, one.amount, known if request.again else 0)
        dues.append(settled.due)
        counts.add(one.limit, settled.more)
        counts.add(one.limit, -settled.back, one.window)
        counts.add(one.limit, -settled.owed, at)
        if remembered:
            counts.put(remembered, max(known, request.tokens), at)
    return dues[0] if dues else 0


def _explained(error: BaseException) -> StateError:
    if isinstance(error, HostError):
        return StateError(error.message, hint=error.hint)
    return StateError(f"counting failed: {type(error).__name__}")
