"""How many sandboxes may be in use at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from host.call import Call, Stop
from host.errors import Busy, Cancelled


class Slots:
    """A run takes a slot before it starts; one that finds none waits for as long as it may run, then is refused."""

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)

    @contextmanager
    def taken(self, call: Call) -> Iterator[None]:
        if not self._free.acquire(blocking=False):
            self._wait(call)
        try:
            yield
        finally:
            self._free.release()

    def _wait(self, call: Call) -> None:
        woken = threading.Event()
        with call.interruptible(woken.set):
            while not self._free.acquire(timeout=min(0.05, max(0.0, call.remaining()))):
                if call.check() is Stop.CANCELLED or woken.is_set():
                    break
                if call.remaining() <= 0:
                    raise Busy(
                        "no sandbox was free in time", hint="run fewer operations at once, or give them more time"
                    )
            else:
                return
        raise Cancelled("the run was cancelled before it started")
