"""Which thread a guest runs on: one whose stack is large enough, and never the one that gets Ctrl-C."""

from __future__ import annotations

import queue
import resource
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

_STACK_BYTES = 8 << 20  # a guest may use 1 MiB, what the host does for it some more
_STACK_LOCK = threading.Lock()
_LONGEST_END_S = 5.0  # of a cancelled run: it ends at the next epoch, or the next host call

_Ended: TypeAlias = tuple[Any, BaseException | None]


def on_run_thread(work: Callable[[], T], cancel: Callable[[], None]) -> T:
    """Run `work` and wait for it: here, unless this is the main thread or its stack may be too small, else on another
    thread. Overrunning a stack would end the process; and Ctrl-C is an exception in the main thread, which would be
    lost where it is raised at the entry of a callback of wasmtime's. Waiting, it calls `cancel`, and is raised once
    `work` has ended."""
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
    """A thread with a large stack that does what it is given, one job after the other."""

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
    """Kept: starting a thread, with a stack that it has yet to touch, takes a tenth of a run's time."""
    global _main  # noqa: PLW0603 - there is one main thread
    if _main is None or not _main.thread.is_alive():  # after a fork it is not
        _main = _Worker()
    return _main


def _stack_bytes() -> int:
    """Of threads that Python starts, at least: what it was told, else what the system gives (`ulimit -s`; where that
    sets no limit, as little as 2 MiB)."""
    if configured := threading.stack_size():
        return configured
    limit, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return 0 if limit == resource.RLIM_INFINITY else limit
