"""The runs of a host: how many may be under way at once, how many of them compute, who is next; and their threads.

A run takes a slot when it starts, and keeps it to its end. To compute, it needs a turn, of which there are a few for
each processor: while it waits for an upstream or for its caller, its turn is somebody else's. So a thousand runs wait
for upstreams at once, and however many there are, the processors are used by few, who get them by the same rule: those
whose caller has the fewest come first.

A guest runs on a thread whose stack is large enough, and never on the main thread, which gets Ctrl-C.
"""

from __future__ import annotations

import os
import queue
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar
from weakref import WeakSet

from host.core import forks
from host.core.slots import Share, Slots
from host.core.waiting import start
from host.errors import Busy, Cancelled, StateError
from host.run import Run
from host.runtime.room import Memory, most_waiting
from host.runtime.threads import Workers

if TYPE_CHECKING:
    from concurrent.futures import Future

_TURN_S: Final = 0.05  # that a run computes while others wait for a turn
_TURNS_OF_A_PROCESSOR: Final = 2  # some of those that have one wait for the interpreter, or for a disk
_LEAST_TURNS: Final = 8
_CROWD: Final = 128  # runs of a caller that wait for a turn

_MOST_WAITING: Final = 1_024  # runs without a slot, each in a thread of its own: as many as a server lets a caller have
_STACK_BYTES: Final = 8 << 20  # a guest may use 1 MiB, what the host does for it some more
_LONGEST_END_S: Final = 5.0  # of a cancelled run: it ends at the next epoch, or the next host call

T = TypeVar("T")
_Ended: TypeAlias = tuple[Any, BaseException | None]


class ComputingTurn:
    """The turn of one run, on its thread: see host.core.waiting.Turn. It has none while it waits for an upstream or its
    caller, so that any number may wait. A run that computes for long gives way to others who wait for a turn."""

    def __init__(self, turns: Slots, run: Run, share: Share) -> None:
        self.held = False
        self._turns, self._run, self._share = turns, run, share.of_turns
        self._patience_s = share.patience_s
        self._since = 0.0

    def begin(self) -> None:
        """Wait for the first turn, as long as the run's share says. Raises Busy."""
        self._turns.take(self._run, replace(self._share, patience_s=self._patience_s))
        self.held, self._since = True, time.monotonic()

    def leave(self) -> None:
        if self.held:
            self.held = False
            self._turns.give_back(self._share)

    def resume(self) -> None:
        if not self.held:
            with suppress(Busy):  # the run must end, and is stopped for that
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
        self._memory = Memory()
        self.turns = Slots(turns or max(_LEAST_TURNS, _TURNS_OF_A_PROCESSOR * (os.cpu_count() or 1)))
        self.closed = False
        self._most = slots + most_waiting(_MOST_WAITING)  # threads: a run without a slot waits in one
        self._runs: WeakSet[Run] = WeakSet()
        self._threads: Workers | None = None
        self._lock = threading.Lock()
        self._generation = forks.generation

    @contextmanager
    def under_way(self, run: Run, share: Share) -> Iterator[None]:
        """Inside, the run has a slot, and turns to compute. Raises Busy, Cancelled."""
        if self.slots.used:  # a host's only run is never in the way of others
            self._memory.check()
        outer: Run | None = getattr(_on_thread, "run", None)  # a host function of that one started this one
        if outer is not None:
            outer.step_aside()
        turn, taken = ComputingTurn(self.turns, run, share), False
        try:
            self.slots.take(run, share)
            taken = True
            turn.begin()
            run.turn, _on_thread.run = turn, run
            try:
                yield
            finally:
                turn.leave()
                _on_thread.run = outer
        except Busy:
            if run.turn is None and run.cancelled:
                raise Cancelled("the run was cancelled before it started") from None
            raise
        finally:
            if taken:
                self.slots.give_back(share)

    def add(self, run: Run) -> None:
        """`close` cancels the run. Raises StateError where there can be none."""
        self.check_open()
        with self._lock:
            self._runs.add(run)

    def runs(self) -> list[Run]:
        """Those that nobody has forgotten yet; some may have ended. Raises StateError in a child of a fork."""
        if self._generation != forks.generation:
            raise forks.made_before()
        with self._lock:
            return list(self._runs)

    def is_crowded(self, caller: str) -> bool:
        """Whether so many of the caller's runs wait to compute that another one would wait for a second or so."""
        return self.turns.queued(caller) >= _CROWD

    def check_open(self) -> None:
        """Raises StateError after `close`, and in a child of a fork."""
        if self._generation != forks.generation:
            raise forks.made_before()
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
