"""The messages between a run and its caller, both ways.

Each direction has a queue of bounded length and size. What is full holds up its own direction alone.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from host.core import forks
from host.core.conversation import Closed, SocketMessage, size_of
from host.core.operation import Result
from host.errors import StateError
from host.run import Run, Stop

_AHEAD: Final = 64  # messages that may wait in one direction
_BYTES_AHEAD: Final = 1024 * 1024  # and their bytes, before the last of them
_LOOK_S: Final = 0.05  # how often a waiting run checks whether it is over


class _Queue:
    """Messages in one direction. The lock around it is the Dialogue's."""

    def __init__(self) -> None:
        self._items: deque[SocketMessage] = deque()
        self._bytes = 0

    @property
    def full(self) -> bool:
        return len(self._items) >= _AHEAD or self._bytes >= _BYTES_AHEAD

    def put(self, message: SocketMessage) -> None:
        self._items.append(message)
        self._bytes += size_of(message)

    def get(self) -> SocketMessage | None:
        if not self._items:
            return None
        message = self._items.popleft()
        self._bytes -= size_of(message)
        return message

    def clear(self) -> None:
        self._items.clear()
        self._bytes = 0


class Dialogue:
    """The messages between a run and its caller: the Conversation of the run, and both queues. `told` is called when
    something has changed for the caller, on the run's thread, to wake one that cannot block."""

    def __init__(self, told: Callable[[], None] | None = None) -> None:
        self._changed = threading.Condition()
        self._generation = forks.generation
        self._said = _Queue()
        self._answered = _Queue()
        self._told = told or (lambda: None)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._woken = False
        self._over = False
        self._gone = False  # the caller takes no more
        self._hung_up: Closed | None = None
        self.head: tuple[str, Mapping[str, str]] | None = None
        self.end: Closed | None = None
        self.outcome: Result | BaseException | None = None

    # of the run, on its thread

    @property
    def has_room(self) -> bool:
        with self._changed:
            return self._gone or not self._answered.full

    def fileno(self) -> int:
        return self._wake

    def attend(self) -> None:
        with self._changed:
            if self._woken:
                self._woken = False
                os.eventfd_read(self._wake)

    def wait(self, seconds: float) -> None:
        poll = select.poll()  # `select` knows no descriptor above 1,023
        poll.register(self._wake, select.POLLIN)
        poll.poll(seconds * 1_000)

    def heard(self) -> SocketMessage | Closed | None:
        with self._changed:
            was_full = self._said.full
            said = self._said.get()
            if was_full and not self._said.full:
                self._changed.notify_all()
        if said is None:
            return self._hung_up
        if was_full:
            self._told()
        return said

    def opened(self, subprotocol: str, headers: Mapping[str, str]) -> None:
        with self._changed:
            self.head = (subprotocol, headers)
            self._changed.notify_all()
        self._told()

    def closed(self, end: Closed) -> None:
        self.end = end

    def hand(self, message: SocketMessage) -> bool:
        with self._changed:
            if self._gone:
                return False
            self._answered.put(message)
            self._changed.notify_all()
        self._told()
        return True

    def emitted(self, event: str, run: Run) -> bool:
        """Hand over a text, the guest's own too, once there is room. Returns False if the caller has gone or the run is
        over, which a caller ends who takes nothing for the run's `idle_timeout_s`."""
        if not self.has_room:
            began = time.monotonic()
            run.step_aside()
            while not self.has_room:
                self.attend()
                self.wait(_LOOK_S)
                if time.monotonic() - began >= run.limits.idle_timeout_s:
                    run.stop(Stop.CALLER)
                if run.check() is not None:
                    break
            run.meters.caller_time_s += time.monotonic() - began
            if run.check() is not None:
                return False
        return self.hand(event)

    def ended(self, outcome: Result | BaseException) -> None:
        """The run is over."""
        with self._changed:
            self.outcome = outcome
            self._over = True
            os.close(self._wake)
            self._changed.notify_all()
        self._told()

    # of the caller, on any thread

    @property
    def open_or_over(self) -> bool:
        return self.head is not None or self._over

    def say(self, message: SocketMessage, *, block: bool = True) -> bool:
        """Add a message for the run. Returns False where there is no room and it may not block. Raises StateError where
        the connection has ended, or the caller has ended it, and in a child of a fork."""
        if self._generation != forks.generation:
            raise forks.made_before()
        with self._changed:
            while True:
                if self._over or self._hung_up is not None or self.end is not None:
                    raise StateError("the connection is closed", hint="what comes after its end is sent to nobody")
                if not self._said.full:
                    break
                if not block:
                    return False
                self._changed.wait()
            self._said.put(message)
            self._rouse()
        return True

    def get(self, *, block: bool = True) -> SocketMessage | None:
        """The next message; None at the end, and where there is none yet and it may not block. Raises StateError in a
        child of a fork."""
        if self._generation != forks.generation:
            raise forks.made_before()
        with self._changed:
            while True:
                was_full = self._answered.full
                if (message := self._answered.get()) is not None:
                    if was_full:
                        self._rouse()
                    return message
                if self._over or not block:
                    return None
                self._changed.wait()

    def await_opening(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.open_or_over)

    @property
    def over(self) -> bool:
        """Whether the run has ended and all of its messages are taken."""
        with self._changed:
            return self._over and not self._answered._items  # noqa: SLF001 - of this file

    def hang_up(self, close: Closed) -> None:
        """End the connection, behind all that was said. What still comes may be taken. In a child of a fork it goes
        on: it is the parent's."""
        if self._generation != forks.generation:
            return
        with self._changed:
            self._hung_up = self._hung_up or close
            self._rouse()

    def abandon(self) -> None:
        """Take no more. As `hang_up` in a child of a fork."""
        if self._generation != forks.generation:
            return
        with self._changed:
            self._gone = True
            self._answered.clear()
            self._rouse()
            self._changed.notify_all()

    def _rouse(self) -> None:
        """The lock is held."""
        if not self._woken and not self._over:
            self._woken = True
            os.eventfd_write(self._wake, 1)
