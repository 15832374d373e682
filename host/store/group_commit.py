"""What several threads ask for at once, done by one of them for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from host.errors import HostError, StateError

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Asked, Answer]):
    asked: Asked
    over: bool = False
    answer: Answer | None = None
    error: Exception | None = None


class GroupCommit(Generic[Asked, Answer]):
    """`perform` answers each of several, in their order: a transaction for all of them costs about what it costs for
    one. A thread that finds another one at it waits; one of those that wait then does it for all of them."""

    def __init__(self, perform: Callable[[Sequence[Asked]], Sequence[Answer]]) -> None:
        self._perform = perform
        self._turn = threading.Condition()
        self._queue: list[_Waiting[Asked, Answer]] = []
        self._busy = False

    def ask(self, asked: Asked) -> Answer:
        """Raises StateError, and what `perform` raises."""
        waiting: _Waiting[Asked, Answer] = _Waiting(asked)
        batch: list[_Waiting[Asked, Answer]] = []
        try:
            with self._turn:
                self._queue.append(waiting)
                self._turn.wait_for(lambda: waiting.over or not self._busy)
                if not waiting.over:
                    batch, self._queue = self._queue, []
                    self._busy = True
            self._do(batch)
        finally:
            if batch:
                with self._turn:
                    self._busy = False
                    self._turn.notify_all()
        if waiting.error is not None:
            raise _own(waiting.error) from waiting.error
        return waiting.answer  # type: ignore[return-value]  # which is there, where no error is

    def _do(self, batch: Sequence[_Waiting[Asked, Answer]]) -> None:
        if not batch:
            return
        failed: Exception | None = StateError("the thread that counted was interrupted")
        try:
            answers = self._perform([waiting.asked for waiting in batch])
            for waiting, answer in zip(batch, answers, strict=True):
                waiting.answer = answer
            failed = None
        except Exception as error:  # noqa: BLE001 - it belongs to every thread of the batch, and each raises its own
            failed = error
        finally:
            for waiting in batch:
                waiting.error, waiting.over = failed, True


def _own(error: Exception) -> StateError:
    """For one thread: an exception that several raise would gather their tracebacks."""
    if isinstance(error, HostError):
        return StateError(error.message, hint=error.hint)
    return StateError(f"counting failed: {type(error).__name__}")
