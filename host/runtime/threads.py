"""The threads and the slots of a host's runs.

A guest runs on a thread whose stack is large enough, and never on the main thread, which gets Ctrl-C.
"""

from __future__ import annotations

import queue
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from weakref import WeakSet

from host.errors import Busy, Cancelled, StateError
from host.run import Run, Stop

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

T = TypeVar("T")

_STACK_BYTES = 8 << 20  # a guest may use 1 MiB, what the host does for it some more
_STACK_LOCK = threading.Lock()
_LONGEST_END_S = 5.0  # of a cancelled run: it ends at the next epoch, or the next host call

_Ended: TypeAlias = tuple[Any, BaseException | None]


class Slots:
    """How many sandboxes may be in use at once. A run takes a slot before it starts."""

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)

    @contextmanager
    def taken(self, run: Run) -> Iterator[None]:
        """Inside, the run has a slot. It waits for one for as long as it may run. Raises Busy, Cancelled."""
        if not self._free.acquire(blocking=False):
            self._wait(run)
        try:
            yield
        finally:
            self._free.release()

    def _wait(self, run: Run) -> None:
        woken = threading.Event()
        with run.interruptible(woken.set):
            while not self._free.acquire(timeout=min(0.05, max(0.0, run.remaining()))):
                if run.check() is Stop.CANCELLED or woken.is_set():
                    break
                if run.remaining() <= 0:
                    raise Busy(
                        "no sandbox was free in time", hint="run fewer operations at once, or give them more time"
                    )
            else:
                return
        raise Cancelled("the run was cancelled before it started")


class RunExecutor:
    """The runs of one host: their slots, the threads of those that run in the background, and the end of all of them.
    Thread-safe."""

    def __init__(self, slots: int) -> None:
        self.slots = Slots(slots)
        self.closed = False
        self._most = 16 * slots  # threads: a run without a slot waits in one, until its own deadline
        self._runs: WeakSet[Run] = WeakSet()
        self._threads: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def add(self, run: Run) -> None:
        """`close` cancels the run."""
        with self._lock:
            self._runs.add(run)

    def check_open(self) -> None:
        """Raises StateError after `close`."""
        if self.closed:
            raise StateError("the host is closed")

    def submit(self, work: Callable[[], T], cancel: Callable[[], None]) -> Future[T]:
        """Run `work` on a thread of its own; the threads are started when they are first needed. Raises StateError
        after `close`."""
        with self._lock:
            self.check_open()
            if self._threads is None:
                from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - `host run` needs none

                self._threads = ThreadPoolExecutor(self._most, thread_name_prefix="host-run")
            return self._threads.submit(on_run_thread, work, cancel)

    def close(self) -> None:
        """Cancel every run and wait for those in the background. Any number of times."""
        with self._lock:
            self.closed = True
            runs = list(self._runs)
        for run in runs:
            run.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=True)


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
        self.thread = threading.Thread(target=self._work, args=(once,), name="host-run", daemon=True)
        with _STACK_LOCK:
            configured = threading.stack_size(_STACK_BYTES)
            self.thread.start()
            threading.stack_size(configured)

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
