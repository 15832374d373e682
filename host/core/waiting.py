"""How long this thread may wait for what may not answer, the start of the threads that do the waiting, and what to say
where the system has no more of something.

A dependency that is stuck (a database, a lock, a registry) does not say so. Work for a caller has a deadline
(`within`), and each wait in it takes no longer than the time that is `left`: so a thread does not wait for an answer
that nobody wants any more.
"""

from __future__ import annotations

import errno
import math
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Protocol

from host.errors import Busy

ANSWER_S: Final = 4.0
"""How long a caller waits for the state, its time in a queue included. Answers say 503 before five seconds are over."""

_LACKING: Final = {
    errno.EMFILE: ("the process may open no more files or connections", "more of `ulimit -n`"),
    errno.ENFILE: ("the system has no more open files", "fewer programs, or a larger fs.file-max"),
    errno.ENOMEM: ("the system has no more memory", "more of it, or of `ulimit -v`"),
    errno.ENOBUFS: ("the system has no more memory for the network", "fewer connections"),
}
_thread = threading.local()
_stacks = threading.Lock()


def _free_stacks() -> None:
    """In a child of a fork: the thread that held the lock is not there."""
    global _stacks  # noqa: PLW0603 - there is one size
    _stacks = threading.Lock()


os.register_at_fork(after_in_child=_free_stacks)


def left(most: float) -> float:
    """Seconds that one wait of this thread may take: at most `most`, and none once its caller has gone."""
    until: float = getattr(_thread, "until", math.inf)
    return most if until == math.inf else max(0.0, min(most, until - time.monotonic()))


class within:  # noqa: N801 - it reads as a statement: `with within(3.0):`
    """Inside, no wait of this thread goes on beyond `seconds` from now, nor beyond a deadline around it."""

    __slots__ = ("_around", "_until")

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def __enter__(self) -> None:
        self._around: float = getattr(_thread, "until", math.inf)
        _thread.until = min(self._around, self._until)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _thread.until = self._around


def lacking(error: BaseException) -> Busy | None:
    """The error for a caller where `error` says that the system has no more files, memory or threads: what this needs
    is there again later. None for any other error."""
    if isinstance(error, MemoryError):
        said, remedy = _LACKING[errno.ENOMEM]
    elif isinstance(error, OSError) and error.errno in _LACKING:
        said, remedy = _LACKING[error.errno]
    else:
        return None
    return Busy(said, hint=f"fewer requests at once; {remedy}")


def start(work: Callable[..., object], *arguments: Any, name: str, stack_bytes: int = 0) -> threading.Thread:
    """A daemon thread that does `work`: it keeps no process from ending. `stack_bytes` 0: as Python's others. Raises
    Busy where the system has no thread left; then `work` is not done, now or later."""
    thread = threading.Thread(target=work, args=arguments, name=name, daemon=True)
    with _stacks:  # the size is the process's, for the next thread that starts
        configured = threading.stack_size(stack_bytes) if stack_bytes else 0
        try:
            thread.start()
        except (RuntimeError, MemoryError):  # of start(), for this reason alone: the thread is new
            raise Busy("no thread can be started", hint="fewer requests at once, or more of `ulimit -u`") from None
        finally:
            if stack_bytes:
                threading.stack_size(configured)
    return thread


class Turn(Protocol):
    """A run's turn to compute, among those that would. `held`: it has one now."""

    held: bool

    def leave(self) -> None:
        """Others may compute: the run waits for something outside."""

    def resume(self) -> None:
        """Wait for the next turn. Returns without one as soon as the run must end."""

    def share(self) -> None:
        """Called now and then while it computes: let others have a turn, if the run has computed for long."""
