"""Which thread a guest runs on: one whose stack is large enough, and never the one that gets Ctrl-C."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_STACK_BYTES = 8 << 20  # a guest may use 1 MiB, what the host does for it some more
_STACK_LOCK = threading.Lock()


def on_run_thread(work: Callable[[], T], cancel: Callable[[], None]) -> T:
    """Run `work` and wait for it: here, unless this is the main thread or its stack may be too small, else on a thread
    of its own. Overrunning a stack would end the process; and Ctrl-C is an exception in the main thread, which would be
    lost where it is raised at the entry of a callback of wasmtime's. Waiting, it calls `cancel`, and is raised once
    `work` has ended."""
    if threading.current_thread() is not threading.main_thread() and _stack_bytes() >= _STACK_BYTES:
        return work()
    outcome: list[T] = []
    failure: list[BaseException] = []

    def carry() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits
            failure.append(error)

    with _STACK_LOCK:
        configured = threading.stack_size(_STACK_BYTES)
        thread = threading.Thread(target=carry, name="host-run")
        thread.start()
        threading.stack_size(configured)
    try:
        thread.join()
    except BaseException:
        cancel()
        thread.join()
        raise
    if failure:
        raise failure[0]
    return outcome[0]


def _stack_bytes() -> int:
    """Of threads that Python starts, at least: what it was told, else what the system gives (`ulimit -s`; where that
    sets no limit, as little as 2 MiB)."""
    if configured := threading.stack_size():
        return configured
    limit, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return 0 if limit == resource.RLIM_INFINITY else limit
