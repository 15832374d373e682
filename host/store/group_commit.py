"""Group commit: one thread performs the requests of all the threads that wait, in one transaction.

The counters and the audit log use it. A transaction for many requests costs about as much as one for a single request.

The thread is its own, so that a caller never waits longer than `ANSWER_S`, whatever the database does. A caller that
has waited so long withdraws its request. A request that is being performed cannot be withdrawn: its caller gets an
error, and still it may be done, later. So the audit log may have the record of an effect that did not happen, and never
lacks the record of one that did.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, Generic, TypeVar

from host.core import forks
from host.core.waiting import ANSWER_S, start
from host.errors import Busy, HostError, StateError

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")

_BATCH_S: Final = 3.0  # how long a batch waits for the database
_EARLIER_S: Final = 0.5  # a batch ends so long before its first caller leaves: the database's own error says more


@dataclass(slots=True, eq=False)
class _Waiter(Generic[RequestT, AnswerT]):
    """One thread's request, and its answer or error once the lock `done` is released."""

    request: RequestT
    until: float
    done: threading.Lock
    answer: AnswerT | None = None
    error: BaseException | None = None


_request = attrgetter("request")


class GroupCommit(Generic[RequestT, AnswerT]):
    """Thread-safe. Requests that come while a batch is performed are the next batch.

    `perform` takes a batch of requests and returns their answers, in the same order. An exception from it fails the
    whole batch. `explain` then makes the error of one request from that exception. Each thread raises an error of its
    own, because a shared exception would collect the tracebacks of all of them."""

    def __init__(
        self,
        perform: Callable[[Sequence[RequestT]], Sequence[AnswerT]],
        explain: Callable[[BaseException], HostError],
    ) -> None:
        self._perform = perform
        self._explain = explain
        self._lock = threading.Lock()
        self._queue: list[_Waiter[RequestT, AnswerT]] = []
        self._batch: list[_Waiter[RequestT, AnswerT]] = []
        self._wake = threading.Lock()  # released when there is something to do, or nothing ever again
        self._wake.acquire()
        self._began_at: float | None = None  # while a batch is performed, and from its announcement on
        self._thread: threading.Thread | None = None
        self._generation = forks.generation

    def submit(self, request: RequestT, within_s: float = ANSWER_S) -> AnswerT:
        """Returns once `perform` is through with the request. Raises what `explain` returns: of a failure, of a request
        that waited longer than `within_s`, and where no thread can be started. Raises StateError in a child of a
        fork."""
        if self._generation != forks.generation:
            raise forks.made_before()
        now = time.monotonic()
        waiter: _Waiter[RequestT, AnswerT] = _Waiter(request, now + within_s, threading.Lock())
        waiter.done.acquire()
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._begin()
            if self._began_at is None:
                self._began_at = now
                self._wake.release()
            elif now - self._began_at > ANSWER_S:
                raise self._explain(_unanswered("it was not begun"))
            self._queue.append(waiter)
        try:
            answered = waiter.done.acquire(timeout=within_s)
        except BaseException:  # Ctrl-C
            self._withdraw(waiter)
            raise
        if not answered and self._withdraw(waiter):
            raise self._explain(_unanswered("it was not begun"))
        if not answered and not waiter.done.acquire(blocking=False):
            raise self._explain(_unanswered("it may still be done"))
        if waiter.error is not None:
            raise self._explain(waiter.error) from waiter.error
        return waiter.answer  # type: ignore[return-value]  # there is an answer, because there is no error

    def patience_s(self) -> float:
        """For `perform`: how long its batch may wait for the database. Then nothing is done whose caller has gone."""
        first = min((waiter.until for waiter in self._batch), default=math.inf)
        return max(0.0, min(_BATCH_S, first - _EARLIER_S - time.monotonic()))

    def _begin(self) -> None:
        """Start the thread. The lock is held."""
        wake = self._wake
        try:
            self._thread = start(_work, weakref.ref(self, lambda _: wake.release()), wake, name="host-commit")
        except Busy as error:
            raise self._explain(error) from None
        self._began_at = None

    def _withdraw(self, waiter: _Waiter[RequestT, AnswerT]) -> bool:
        """Whether the request was still in the queue, and so is never performed."""
        with self._lock:
            if waiter not in self._queue:
                return False
            self._queue.remove(waiter)
            return True

    def perform_all(self) -> None:
        """For the thread: perform batches until nothing waits."""
        while True:
            with self._lock:
                self._batch = batch = self._queue
                self._queue = []
                self._began_at = time.monotonic() if batch else None
            if not batch:
                return
            failure: BaseException | None = None
            try:
                answers = self._perform([*map(_request, batch)])
                for waiter, answer in zip(batch, answers, strict=True):
                    waiter.answer = answer
            except BaseException as error:  # noqa: BLE001 - each thread of the batch raises its own error for it
                failure = error
            for waiter in batch:
                waiter.error = failure
                waiter.done.release()


def _work(commits: weakref.ref[GroupCommit[RequestT, AnswerT]], wake: threading.Lock) -> None:
    """The thread. It holds no reference while it waits, and ends with the last one of others."""
    while True:
        wake.acquire()
        found = commits()
        if found is None:
            return
        found.perform_all()
        del found


def _unanswered(what: str) -> StateError:
    return StateError(
        f"the database took longer than {ANSWER_S:g} s, and {what}",
        hint="does another process hold a lock, or does the database's server not answer?",
    )
