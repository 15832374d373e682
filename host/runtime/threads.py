"""Threads for work that blocks (`Workers`), and the threads and slots of a host's runs.

Work is handed to a thread that has started, or waits in a queue that a running thread empties: work whose caller got an
error is never done later. A caller that has waited too long takes its work out of the queue. Work that a thread has
begun cannot be taken back, and learns by its own deadline (`host.core.waiting`) that its caller has gone.

A guest runs on a thread whose stack is large enough, and never on the main thread, which gets Ctrl-C.
"""

from __future__ import annotations

import math
import queue
import resource
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar
from weakref import WeakSet

from host.core.waiting import start, within
from host.errors import Busy, Cancelled, StateError
from host.run import Run, Stop

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

LONGEST_WAIT_S: Final = 30.0  # for a slot

_MOST_WAITING = 1_024  # more than a server admits: there, nobody waits for a thread, which no turn is for

_STACK_BYTES = 8 << 20  # a guest may use 1 MiB, what the host does for it some more
_LONGEST_END_S = 5.0  # of a cancelled run: it ends at the next epoch, or the next host call

_Ended: TypeAlias = tuple[Any, BaseException | None]


_EARLIER_S: Final = 0.25  # work ends so long before its caller leaves: its own error says more


@dataclass(slots=True, eq=False)
class _Job(Generic[T]):
    """Work with its future, which says whether it was begun or withdrawn."""

    work: Callable[[], T]
    until: float
    future: Future[T]

    def do(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        seconds = self.until - time.monotonic()
        if seconds <= 0:
            self.future.set_exception(_waited())
            return
        try:
            if seconds == math.inf:
                result = self.work()
            else:
                with within(seconds):
                    result = self.work()
        except BaseException as error:  # noqa: BLE001 - carried to the caller
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Workers:
    """Up to `most` daemon threads called `name`, started when they are needed and then kept. Thread-safe.

    Without `waits` nothing queues: where no thread is free and none can be started, there is Busy at once.
    """

    def __init__(self, name: str, most: int, *, waits: bool = True, stack_bytes: int = 0) -> None:
        self._name = name
        self._most = most
        self._waits = waits
        self._stack_bytes = stack_bytes
        self._changed = threading.Condition()
        self._free: list[queue.SimpleQueue[_Job[Any] | None]] = []  # of the threads that have nothing to do
        self._waiting: deque[_Job[Any]] = deque()
        self._threads = 0
        self._stuck = 0  # threads at work for callers that have gone
        self._closed = False

    def submit(self, work: Callable[[], T], *, within_s: float = math.inf) -> Future[T]:
        """Do `work` on one of the threads, at most `within_s` seconds after now. Raises Busy, and StateError after
        `close`: then it is not done. It is not done either once the future was cancelled."""
        from concurrent.futures import Future  # noqa: PLC0415 - `host run` needs none

        job: _Job[T] = _Job(work, time.monotonic() + within_s, Future())
        with self._changed:
            if self._closed:
                raise StateError("the host is closed")
            if self._free:
                self._free.pop().put(job)
            elif self._stuck >= self._most:
                raise Busy("what this waits for does not answer", hint="the database, the limits store, or a lock")
            elif not self._started(job):
                self._waiting.append(job)
        return job.future

    async def answer(self, work: Callable[[], T], within_s: float) -> T:
        """The result of `work`, at most `within_s` seconds after now, its time in the queue included. Raises what
        `work` raises; Busy where it was not begun, and so never is; StateError where it was begun and does not end."""
        import asyncio  # noqa: PLC0415 - only async code needs it

        future = self.submit(work, within_s=within_s - _EARLIER_S)
        try:
            async with asyncio.timeout(None if within_s == math.inf else within_s) as waiting:
                return await asyncio.wrap_future(future)  # cancels the future, if it is not running
        except TimeoutError:
            if not waiting.expired():
                raise  # the work's own
            if future.cancelled():
                raise _waited() from None
            self._leave(future)
            raise StateError(
                f"what this waits for did not answer within {within_s:g} s",
                hint="the database, the limits store, or a lock that another process holds",
            ) from None

    def close(self, wait_s: float = 0.0) -> None:
        """Take no more work, withdraw what waits, and wait for the threads, for so long. Any number of times."""
        with self._changed:
            self._closed = True
            while self._waiting:
                self._waiting.popleft().future.set_exception(StateError("the host is closed"))
            while self._free:
                self._free.pop().put(None)
                self._threads -= 1
            self._changed.wait_for(lambda: not self._threads, wait_s)

    def _started(self, job: _Job[Any]) -> bool:
        """Whether a new thread does the job; False where it is to wait for one. Raises Busy. The lock is held."""
        if self._threads < self._most:
            try:
                start(self._work, job, name=self._name, stack_bytes=self._stack_bytes)
            except Busy:
                if not (self._waits and self._threads):
                    raise
            else:
                self._threads += 1
                return True
        elif not self._waits:
            raise Busy(f"all {self._most} threads are at work", hint="run fewer operations at once")
        return False

    def _work(self, first: _Job[Any]) -> None:
        inbox: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        job: _Job[Any] | None = first
        del first
        while job is not None:
            job.do()
            job = None  # its result belongs to its caller
            with self._changed:
                if self._waiting:
                    job = self._waiting.popleft()
                elif self._closed:
                    self._threads -= 1
                    self._changed.notify_all()
                    return
                else:
                    self._free.append(inbox)
            job = job or inbox.get()

    def _leave(self, future: Future[Any]) -> None:
        """The caller of work that a thread has begun goes away."""
        with self._changed:
            self._stuck += 1
        future.add_done_callback(self._back)

    def _back(self, future: Future[Any]) -> None:
        del future
        with self._changed:
            self._stuck -= 1


def _waited() -> Busy:
    return Busy("no thread was free in time", hint="what the others wait for may not answer")


_aside: Final = Workers("host-aside", 8)
ASIDE_S: Final = 60.0


async def aside(work: Callable[..., T], *arguments: Any) -> T:
    """The result of `work(*arguments)`, which takes long, beside the event loop. Raises what it raises, and Busy."""
    return await _aside.answer(partial(work, *arguments), ASIDE_S)


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
        """Inside, the run has a slot. It waits for one for as long as it may run, and as long as its share
        says. Raises Busy, Cancelled."""
        waiter = self._asked(share)
        if waiter is not None:
            self._wait(run, waiter)
        try:
            yield
        finally:
            with self._lock:
                self._give_back(share)

    def _asked(self, share: Share) -> _Waiter | None:
        """None: the slot is taken. Nobody who waits is passed by: whoever could have had the slot was given it."""
        with self._lock:
            if self._may_have(share):
                self._take(share)
                return None
            waiter = _Waiter(share)
            self._waiting.setdefault(share.caller, {}).setdefault(share.catalyst, deque()).append(waiter)
            return waiter

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

    def _take(self, share: Share) -> None:
        self._free -= 1
        self._held[share.caller] += 1
        self._held_of_catalyst[share.catalyst] += 1

    def _give_back(self, share: Share) -> None:
        self._free += 1
        for held, name in ((self._held, share.caller), (self._held_of_catalyst, share.catalyst)):
            held[name] -= 1
            if not held[name]:
                del held[name]
        while self._waiting and (waiter := self._next()) is not None:
            self._leave(waiter)
            self._take(waiter.share)
            waiter.granted = True
            waiter.woken.set()

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


class RunExecutor:
    """The runs of one host: their slots, the threads of those that run in the background, and the end of all of them.
    Thread-safe."""

    def __init__(self, slots: int) -> None:
        self.slots = Slots(slots)
        self.closed = False
        self._most = slots + _MOST_WAITING  # threads: a run without a slot waits in one
        self._runs: WeakSet[Run] = WeakSet()
        self._threads: Workers | None = None
        self._lock = threading.Lock()

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
