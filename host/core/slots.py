"""Slots: how many of something may be had at once, and who is next."""

from __future__ import annotations

import math
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from host.errors import Busy

LONGEST_WAIT_S: Final = 30.0  # for a slot, and for the first turn


def fair(held: int, free: int, more: int = 1) -> bool:
    """Whether who holds `held` of something may have `more`: as much as they leave free for others, so that nobody has
    all of it (dynamic thresholds: Choudhury and Hahne, 1998). Who holds none may have all that is free."""
    return held + more <= free - more if held else more <= free


@dataclass(frozen=True, slots=True)
class Share:
    """What a run's slot counts for: `caller` (any name of theirs) and `catalyst`.

    `most` is how many slots the caller may have at once. None: what is `fair`; a caller who is alone gets half of the
    slots, two get a third each. `most_of_catalyst` is how many all callers together may have for the catalyst; None: no
    bound. A run waits for a slot for `patience_s` seconds at most.
    """

    caller: str = ""
    catalyst: str = ""
    most: int | None = None
    most_of_catalyst: int | None = None
    patience_s: float = LONGEST_WAIT_S

    @classmethod
    def of_embedder(cls, caller: str, catalyst: str) -> Share:
        """For the process's own runs: bounded by the slots alone. The callers that it names take turns."""
        return cls(caller, catalyst, sys.maxsize, None, math.inf)

    @property
    def of_turns(self) -> Share:
        """The same for turns to compute, of which a run has one at a time: a bound on runs is none on turns."""
        return Share(self.caller, self.catalyst, sys.maxsize if self.most == sys.maxsize else None, None, math.inf)


ALONE: Final = Share.of_embedder("", "")


class Clock(Protocol):
    """Of who waits: the time that is left, and how to wake them."""

    def remaining(self) -> float: ...

    def interruptible(self, abort: Callable[[], None]) -> AbstractContextManager[None]: ...


class _Waiter:
    """Who waits for a slot. `granted` is set under the lock of the slots."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self.granted = False
        self.woken = threading.Event()


class Slots:
    """A number of something that runs have at once: sandboxes, turns, connections.

    A free slot goes to the caller who has the fewest; among equals, and among the catalysts of one caller, they take
    turns. Thread-safe."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()  # by caller
        self._held_of_catalyst: Counter[str] = Counter()
        self._queued: Counter[str] = Counter()  # of those who wait, by caller
        self._waiting: dict[str, dict[str, deque[_Waiter]]] = {}  # by caller, then by catalyst, in the order of turns

    @contextmanager
    def taken(self, clock: Clock, share: Share = ALONE) -> Iterator[None]:
        """Inside, the run has a slot: see `take`."""
        self.take(clock, share)
        try:
            yield
        finally:
            self.give_back(share)

    def queued(self, caller: str) -> int:
        """How many of the caller wait."""
        return self._queued.get(caller, 0)

    @property
    def used(self) -> bool:
        """Whether somebody has one."""
        return bool(self._held)

    @property
    def wanted(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def take(self, clock: Clock, share: Share) -> None:
        """Take a slot for a run, which waits as long as it has time, and as long as its share says. Raises Busy."""
        with self._lock:
            if self._may_have(share):  # nobody who waits is passed by: whoever could have had the slot was given it
                self._free -= 1
                self._held[share.caller] += 1
                self._held_of_catalyst[share.catalyst] += 1
                return
            waiter = _Waiter(share)
            self._queued[share.caller] += 1
            self._waiting.setdefault(share.caller, {}).setdefault(share.catalyst, deque()).append(waiter)
        self._wait(clock, waiter)

    def give_back(self, share: Share) -> None:
        with self._lock:
            self._free += 1
            for held, name in ((self._held, share.caller), (self._held_of_catalyst, share.catalyst)):
                held[name] -= 1
                if not held[name]:
                    del held[name]
            self._grant()

    def _grant(self) -> None:
        """Give what is free to those whose turn it is. The lock is held."""
        while self._waiting and (waiter := self._next()) is not None:
            self._leave(waiter)
            self._free -= 1
            self._held[waiter.share.caller] += 1
            self._held_of_catalyst[waiter.share.catalyst] += 1
            waiter.granted = True
            waiter.woken.set()

    def close(self) -> None:
        """Whoever waits waits no longer."""
        with self._lock:
            for lanes in self._waiting.values():
                for lane in lanes.values():
                    for waiter in lane:
                        waiter.woken.set()

    def _wait(self, clock: Clock, waiter: _Waiter) -> None:
        try:
            with clock.interruptible(waiter.woken.set):
                waiter.woken.wait(max(0.0, min(clock.remaining(), waiter.share.patience_s)))
        except BaseException:
            if not self._left(waiter):
                self.give_back(waiter.share)
            raise
        if self._left(waiter):
            raise Busy("no sandbox was free in time", hint="run fewer operations at once, or give them more time")

    def _left(self, waiter: _Waiter) -> bool:
        """Whether it waits no more without a slot. Those behind it may have other bounds, and are asked."""
        with self._lock:
            if waiter.granted:
                return False
            self._leave(waiter)
            self._grant()
            return True

    def _may_have(self, share: Share) -> bool:
        held, free = self._held[share.caller], self._free
        fits = fair(held, free) if share.most is None else free > 0 and (not held or held < share.most)
        if not fits:
            return False
        of_catalyst = share.most_of_catalyst
        return of_catalyst is None or self._held_of_catalyst[share.catalyst] < of_catalyst

    def _next(self) -> _Waiter | None:
        """Whose turn it is; None where nobody who waits may have a slot. Their turn after this comes last."""
        for caller in sorted(self._waiting, key=self._held.__getitem__):  # equals stay in the order of their turns
            lanes = self._waiting[caller]
            for catalyst, lane in lanes.items():
                if self._may_have(lane[0].share):
                    lanes[catalyst] = lanes.pop(catalyst)
                    self._waiting[caller] = self._waiting.pop(caller)
                    return lane[0]
        return None

    def _leave(self, waiter: _Waiter) -> None:
        share = waiter.share
        self._queued[share.caller] -= 1
        lanes = self._waiting[share.caller]
        lanes[share.catalyst].remove(waiter)
        if not lanes[share.catalyst]:
            del lanes[share.catalyst]
        if not lanes:
            del self._waiting[share.caller], self._queued[share.caller]
