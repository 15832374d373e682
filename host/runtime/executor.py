"""The runs of a host: how many may be under way at once, how many of them compute, who is next; and their threads.

A run takes a slot when it starts, and keeps it to its end. To compute, it needs a turn, of which there are a few for
each processor: while it waits for an upstream or for its caller, its turn is somebody else's. So a thousand runs wait
for upstreams at once, and however many there are, the processors are used by few, who get them by the same rule: those
whose caller has the fewest come first.

A guest runs on a thread whose stack is large enough, and never on the main thread, which gets Ctrl-C.
"""

from __future__ import annotations

import math
import os
import queue
import resource
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar
from weakref import WeakSet

from host.core.waiting import start
from host.errors import Busy, Cancelled, StateError
from host.run import Run, Stop
from host.runtime.threads import Workers

if TYPE_CHECKING:
    from concurrent.futures import Future

LONGEST_WAIT_S: Final = 30.0  # for a slot, and for the first turn
_TURN_S: Final = 0.05  # that a run computes while others wait for a turn
_TURNS_OF_A_PROCESSOR: Final = 4  # some of those that have one wait for the interpreter, or for a disk
_LEAST_TURNS: Final = 16

_MOST_WAITING: Final = 1_024  # runs without a slot, each in a thread of its own: as many as a server lets a caller have
_STACK_BYTES: Final = 8 << 20  # a guest may use 1 MiB, what the host does for it some more
_LONGEST_END_S: Final = 5.0  # of a cancelled run: it ends at the next epoch, or the next host call

T = TypeVar("T")
_Ended: TypeAlias = tuple[Any, BaseException | None]


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


_ALONE: Final = Share.of_embedder("", "")


class _Waiter:
    """A run that waits for a slot. `granted` is set under the lock of the slots."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self.granted = False
        self.woken = threading.Event()


class Slots:
    """How many sandboxes may be in use at once. A run takes a slot before it starts.

    A free slot goes to the caller who has the fewest; among equals, and among the catalysts of one caller, they take
    turns. Thread-safe."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()  # by caller
        self._held_of_catalyst: Counter[str] = Counter()
        self._waiting: dict[str, dict[str, deque[_Waiter]]] = {}  # by caller, then by catalyst, in the order of turns

    @contextmanager
    def taken(self, run: Run, share: Share = _ALONE) -> Iterator[None]:
        """Inside, the run has a slot: see `take`."""
        self.take(run, share)
        try:
            yield
        finally:
            self.give_back(share)

    @property
    def wanted(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def take(self, run: Run, share: Share) -> None:
        """Take a slot for the run. It waits for one for as long as it may run, and as long as its share says. Raises
        Busy, Cancelled."""
        with self._lock:
            if self._may_have(share):  # nobody who waits is passed by: whoever could have had the slot was given it
                self._free -= 1
                self._held[share.caller] += 1
                self._held_of_catalyst[share.catalyst] += 1
                return
            waiter = _Waiter(share)
            self._waiting.setdefault(share.caller, {}).setdefault(share.catalyst, deque()).append(waiter)
        self._wait(run, waiter)

    def give_back(self, share: Share) -> None:
        with self._lock:
            self._free += 1
            for held, name in ((self._held, share.caller), (self._held_of_catalyst, share.catalyst)):
                held[name] -= 1
                if not held[name]:
                    del held[name]
            while self._waiting and (waiter := self._next()) is not None:
                self._leave(waiter)
                self._free -= 1
                self._held[waiter.share.caller] += 1
                self._held_of_catalyst[waiter.share.catalyst] += 1
                waiter.granted = True
                waiter.woken.set()

    def _wait(self, run: Run, waiter: _Waiter) -> None:
        with run.interruptible(waiter.woken.set):
            waiter.woken.wait(max(0.0, min(run.remaining(), waiter.share.patience_s)))
        with self._lock:
            if waiter.granted:
                return
            self._leave(waiter)
        if run.check() is Stop.CANCELLED:
            raise Cancelled("the run was cancelled before it started")
        raise Busy("no sandbox was free in time", hint="run fewer operations at once, or give them more time")

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
        lanes = self._waiting[share.caller]
        lanes[share.catalyst].remove(waiter)
        if not lanes[share.catalyst]:
            del lanes[share.catalyst]
        if not lanes:
            del self._waiting[share.caller]


class ComputingTurn:
    """The turn of one run, on its thread: see host.run.Turn. It has none while it waits for an upstream or its caller,
    so that any number may wait. A run that computes for long gives way to others who wait for a turn."""

    def __init__(self, turns: Slots, run: Run, share: Share) -> None:
        self.held = False
        self._turns, self._run, self._share = turns, run, share.of_turns
        self._patience_s = share.patience_s
        self._since = 0.0

    def begin(self) -> None:
        """Wait for the first turn, as long as the run's share says. Raises Busy, Cancelled."""
        self._turns.take(self._run, replace(self._share, patience_s=self._patience_s))
        self.held, self._since = True, time.monotonic()

    def leave(self) -> None:
        if self.held:
            self.held = False
            self._turns.give_back(self._share)

    def resume(self) -> None:
        if not self.held:
            with suppress(Busy, Cancelled):  # the run must end, and is stopped for that
                self._turns.take(self._run, self._share)
                self.held, self._since = True, time.monotonic()

    def share(self) -> None:
        if self._turns.wanted and time.monotonic() - self._since > _TURN_S:
            self.leave()
            self.resume()


_on_thread: Final = threading.local()  # `run`: the one that is under way on a thread


class RunExecutor:
    """The runs of one host: their slots, the threads of those that run in the background, and the end of all of them.
    Thread-safe."""

    def __init__(self, slots: int, turns: int = 0) -> None:
        """`slots` runs may be under way at once, and `turns` of them compute; 0: a few for each processor."""
        self.slots = Slots(slots)
        self.turns = Slots(turns or max(_LEAST_TURNS, _TURNS_OF_A_PROCESSOR * (os.cpu_count() or 1)))
        self.closed = False
        self._most = slots + _MOST_WAITING  # threads: a run without a slot waits in one
        self._runs: WeakSet[Run] = WeakSet()
        self._threads: Workers | None = None
        self._lock = threading.Lock()

    @contextmanager
    def under_way(self, run: Run, share: Share) -> Iterator[None]:
        """Inside, the run has a slot, and turns to compute. Raises Busy, Cancelled."""
        self.slots.take(run, share)
        try:
            outer: Run | None = getattr(_on_thread, "run", None)  # a host function of that one started this one
            if outer is not None:
                outer.step_aside()
            turn = ComputingTurn(self.turns, run, share)
            turn.begin()
            run.turn, _on_thread.run = turn, run
            try:
                yield
            finally:
                turn.leave()
                _on_thread.run = outer
        finally:
            self.slots.give_back(share)

    def add(self, run: Run) -> None:
        """`close` cancels the run."""
        with self._lock:
            self._runs.add(run)

    def runs(self) -> list[Run]:
        """Those that nobody has forgotten yet; some may have ended."""
        with self._lock:
            return list(self._runs)

    def check_open(self) -> None:
        """Raises StateError after `close`."""
        if self.closed:
            raise StateError("the host is closed")

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run `work` on a thread of its own; the threads are started when they are first needed. Raises Busy where
        there is no thread for it, StateError after `close`: then it never runs."""
        with self._lock:
            if self._threads is None:
                self.check_open()
                self._threads = Workers("host-run", self._most, waits=False, stack_bytes=_STACK_BYTES)
            return self._threads.submit(work)

    def close(self) -> None:
        """Cancel every run and wait for those in the background, but not for one that is stuck. Any number of times."""
        with self._lock:
            self.closed = True
            runs = list(self._runs)
        for run in runs:
            run.cancel()
        if self._threads is not None:
            self._threads.close(_LONGEST_END_S)


def on_run_thread(work: Callable[[], T], cancel: Callable[[], None]) -> T:
    """Run `work` and wait for it. It runs on this thread, unless this is the main thread or its stack may be too small:
    then on another.

    Overrunning a stack would end the process. Ctrl-C is an exception in the main thread, and would be lost where Python
    raises it at the entry of a callback of wasmtime's; during the wait it calls `cancel`, and is raised once `work` has
    ended."""
    if threading.current_thread() is threading.main_thread():
        worker = _worker_of_main()
    elif _stack_bytes() >= _STACK_BYTES:
        return work()
    else:
        worker = _Worker(once=True)
    ended: queue.SimpleQueue[_Ended] = queue.SimpleQueue()
    try:
        worker.jobs.put((work, ended))
        result, failure = ended.get()
    except BaseException:
        cancel()
        with suppress(queue.Empty):  # it was interrupted before it was put
            ended.get(timeout=_LONGEST_END_S)
        raise
    if failure is not None:
        raise failure
    value: T = result
    return value


class _Worker:
    """A thread with a large stack that does one job after the other."""

    def __init__(self, *, once: bool = False) -> None:
        self.jobs: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[_Ended]]] = queue.SimpleQueue()
        self.thread = start(self._work, once, name="host-run", stack_bytes=_STACK_BYTES)

    def _work(self, once: bool) -> None:
        while True:
            _do(*self.jobs.get())
            if once:
                return


def _do(work: Callable[[], Any], ended: queue.SimpleQueue[_Ended]) -> None:
    try:
        ended.put((work(), None))
    except BaseException as error:  # noqa: BLE001 - carried to the thread that waits
        ended.put((None, error))


_main: _Worker | None = None


def _worker_of_main() -> _Worker:
    """One thread, kept: starting a thread whose stack is untouched takes a tenth of a run's time."""
    global _main  # noqa: PLW0603 - there is one main thread
    if _main is None or not _main.thread.is_alive():  # after a fork it is not
        _main = _Worker()
    return _main


def _stack_bytes() -> int:
    """The least stack of a thread that Python starts: the size set in Python, else the system's.

    That is `ulimit -s`; where it sets no limit, as little as 2 MiB."""
    if configured := threading.stack_size():
        return configured
    limit, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return 0 if limit == resource.RLIM_INFINITY else limit
