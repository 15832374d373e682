"""Events from the thread of a run to whoever consumes them, one at a time and never more than a few ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from host.call import Call

_AHEAD = 64  # events that may wait to be consumed; then the run waits, and so does its upstream
_LOOK_S = 0.05  # how often a waiting run looks whether it was cancelled

End = TypeVar("End")


class Channel(Generic[End]):
    """`put` and `end` on the run's thread; `get` on the consumer's. `arrived` is called after each, from the run's
    thread, to wake a consumer that cannot block."""

    def __init__(self, arrived: Callable[[], None] | None = None) -> None:
        self._items: queue.SimpleQueue[str | tuple[End]] = queue.SimpleQueue()
        self._room = threading.Semaphore(_AHEAD)
        self._arrived = arrived
        self._abandoned = False

    def put(self, event: str, call: Call) -> bool:
        """Whether the event was taken: not where the consumer has gone, or the run is over."""
        while not self._room.acquire(timeout=_LOOK_S):
            if self._abandoned or call.check() is not None:
                return False
        if self._abandoned:
            return False
        self._items.put(event)
        if self._arrived is not None:
            self._arrived()
        return True

    def end(self, how: End) -> None:
        self._items.put((how,))
        if self._arrived is not None:
            self._arrived()

    def get(self, *, block: bool = True) -> str | tuple[End]:
        """The next event, or what `end` was given in a tuple. Raises queue.Empty where it may not block."""
        item = self._items.get(block)
        if isinstance(item, str):
            self._room.release()
        return item

    def abandon(self) -> None:
        """The consumer has gone."""
        self._abandoned = True
