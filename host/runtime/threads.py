"""Threads for work that blocks.

Work is handed to a thread that has started, or waits in a queue that a running thread empties: work whose caller got an
error is never done later. A caller that has waited too long takes its work out of the queue. Work that a thread has
begun cannot be taken back, and learns by its own deadline (`host.core.waiting`) that its caller has gone.
"""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from host.core import forks
from host.core.waiting import start, within
from host.errors import Busy, StateError

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

_IDLE_S: Final = 10.0  # after which a thread ends that has nothing to do
_KEPT: Final = 32  # threads that do not


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
    """Up to `most` daemon threads called `name`, started when they are needed. Thread-safe.

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
        self._generation = forks.generation

    def submit(self, work: Callable[[], T], *, within_s: float = math.inf) -> Future[T]:
        """Do `work` on one of the threads, at most `within_s` seconds after now. Raises Busy, and StateError after
        `close` and in a child of a fork: then it is not done. It is not done either once the future was cancelled."""
        from concurrent.futures import Future  # noqa: PLC0415 - `host run` needs none

        if self._generation != forks.generation:
            raise forks.made_before()
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
        if self._generation != forks.generation:
            return
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
            job = job or self._next(inbox)

    def _next(self, inbox: queue.SimpleQueue[_Job[Any] | None]) -> _Job[Any] | None:
        """The next job of a free thread; None where the thread is to end. The last one that became free gets it, so
        that those that are not needed any more have nothing to do, and end: each keeps the stack that a guest used."""
        while True:
            try:
                return inbox.get(timeout=_IDLE_S)
            except queue.Empty:
                with self._changed:
                    if self._threads > _KEPT and inbox in self._free:
                        self._free.remove(inbox)
                        self._threads -= 1
                        self._changed.notify_all()
                        return None

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


_aside = Workers("host-aside", 8)
ASIDE_S: Final = 60.0


def _begin_anew() -> None:
    """In a child of a fork."""
    global _aside  # noqa: PLW0603 - of the process
    _aside = Workers("host-aside", 8)


os.register_at_fork(after_in_child=_begin_anew)


async def aside(work: Callable[..., T], *arguments: Any) -> T:
    """The result of `work(*arguments)`, which takes long, beside the event loop. Raises what it raises, and Busy."""
    return await _aside.answer(partial(work, *arguments), ASIDE_S)
