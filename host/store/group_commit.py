"""Group commit: one thread performs the requests of all the threads that wait, in one transaction.

The counters and the audit log use it. A transaction for many requests costs about as much as one for a single request.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from host.errors import HostError, StateError

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")


@dataclass(slots=True, eq=False)
class _Waiter(Generic[RequestT, AnswerT]):
    """One thread's request, and its answer or error once it is `done`."""

    request: RequestT
    done: bool = False
    answer: AnswerT | None = None
    error: Exception | None = None


class GroupCommit(Generic[RequestT, AnswerT]):
    """Thread-safe. A thread that finds another one at work waits; the first waiter to wake performs all the requests
    that have gathered.

    `perform` takes a batch of requests and returns their answers, in the same order. An exception from it fails the
    whole batch. `explain` then makes the error of one request from that exception. Each thread raises an error of its
    own, because a shared exception would collect the tracebacks of all of them."""

    def __init__(
        self,
        perform: Callable[[Sequence[RequestT]], Sequence[AnswerT]],
        explain: Callable[[Exception], HostError],
    ) -> None:
        self._perform = perform
        self._explain = explain
        self._turn = threading.Condition()
        self._queue: list[_Waiter[RequestT, AnswerT]] = []
        self._busy = False

    def submit(self, request: RequestT) -> AnswerT:
        """Returns once `perform` is through with the request. Raises what `explain` returns."""
        waiter: _Waiter[RequestT, AnswerT] = _Waiter(request)
        batch: list[_Waiter[RequestT, AnswerT]] = []
        try:
            with self._turn:
                self._queue.append(waiter)
                while self._busy and not waiter.done:
                    self._turn.wait()
                if not waiter.done:
                    batch, self._queue = self._queue, []
                    self._busy = True
            if batch:
                self._perform_batch(batch)
        finally:
            if batch:
                with self._turn:
                    self._busy = False
                    self._turn.notify_all()
        if waiter.error is not None:
            raise self._explain(waiter.error) from waiter.error
        return waiter.answer  # type: ignore[return-value]  # there is an answer, because there is no error

    def _perform_batch(self, batch: Sequence[_Waiter[RequestT, AnswerT]]) -> None:
        failure: Exception | None = None
        try:
            answers = self._perform([waiter.request for waiter in batch])
            for waiter, answer in zip(batch, answers, strict=True):
                waiter.answer = answer
        except Exception as error:  # noqa: BLE001 - each thread of the batch raises its own error for it
            failure = error
        except BaseException:
            failure = StateError("the thread that wrote it was interrupted")
            raise
        finally:
            for waiter in batch:
                waiter.error, waiter.done = failure, True
