"""The slots of a sandbox: two lanes of them, and the sandboxes that are kept for the next run of their key.

    narrow    a few slots, whose address space a process has from the start
    wide      some thousand, for a crowd: their address space is taken, and a component loaded there, when they are
              first needed

A run has a narrow slot if one is free when it starts, else a wide one. Its memory is a private view of the component's,
and a page of its own for each that it writes, which goes back when it ends. So a process at rest holds nothing of its
runs, and one that waits for an upstream for seconds costs less than a megabyte. One thread, the ticker, asks the guests
of both lanes now and then whether they may go on.

Where a policy says `isolation = "key"`, a run may leave its sandbox, with its narrow slot, for the next run of the same
catalyst, policy and API key. It is given up for any other run that needs the slot.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol
from weakref import ReferenceType

from wasmtime import Engine

from host.core.waiting import start
from host.errors import StateError
from host.sandbox import engine

TICK_S: Final = 0.01
_LONGEST_END_S: Final = 5.0  # of a run that is stuck outside its guest: its thread is left to the end of the process
_LONGEST_IDLE_S: Final = 60.0  # of a sandbox that is kept
_MOST_IDLE: Final = 8  # sandboxes that are kept: each has the memory that its guest took


class Whose(NamedTuple):
    """Those who may share a sandbox: the runs of one API key, of one linked component."""

    of: ReferenceType[Any]
    key: str


class Keepable(Protocol):
    """A sandbox between two runs."""

    def close(self) -> None:
        """Nothing of it is left."""


@dataclass(slots=True)
class Taken:
    """The place of one run. `kept` is the sandbox that an earlier run left, and at the end the one that this run
    leaves."""

    narrow: bool = False
    kept: Keepable | None = None


class _Idle(NamedTuple):
    whose: Whose
    since: float
    sandbox: Keepable


class Lanes:
    """The engines, and how many runs are on the narrow one. `slots` is how many runs both take at once. `keeps`: a
    sandbox may be kept; without a pool it would hold the address space of others. Thread-safe."""

    def __init__(self, *, pooling: bool) -> None:
        """Without `pooling` there is one lane, which gives back everything."""
        narrow = engine.NARROW_SANDBOXES if pooling else 0
        self._wide_slots = engine.wide_slots() if pooling else 0
        self.slots = narrow + self._wide_slots if pooling else engine.UNPOOLED_SANDBOXES
        self.narrow = engine.new_engine(narrow)
        self.ticker = Ticker(self.narrow)
        self.keeps = pooling
        self._free = narrow if pooling else self.slots
        self._idle: list[_Idle] = []  # the oldest first; each has a narrow slot
        self._closed = False
        self._lock = threading.Lock()
        self._wide: Engine | None = None
        self._making = threading.Lock()

    @property
    def wide(self) -> Engine:
        """Made by its first use. Raises Busy where its address space cannot be had any more."""
        with self._making:
            if self._wide is None:
                self._wide = engine.new_engine(self._wide_slots)
                self.ticker.add(self._wide)
            return self._wide

    @contextmanager
    def taken(self, whose: Whose | None = None) -> Iterator[Taken]:
        """Inside, a run has a slot. Those of `whose` may leave a sandbox in theirs."""
        slot = Taken()
        ended: list[Keepable] = []
        with self._lock:
            if self._idle:
                slot.kept, ended = self._from_idle(whose)
            slot.narrow = slot.kept is not None or self._free > 0
            self._free -= slot.narrow and slot.kept is None
        for one in ended:
            one.close()
        try:
            yield slot
        finally:
            with self._lock:
                left = slot.kept
                if left is not None and whose is not None and not self._closed:
                    self._idle.append(_Idle(whose, time.monotonic(), left))
                    left = self._idle.pop(0).sandbox if len(self._idle) > _MOST_IDLE else None
                self._free += slot.narrow and (slot.kept is None or left is not None)
            if left is not None:
                left.close()

    def _from_idle(self, whose: Whose | None) -> tuple[Keepable | None, list[Keepable]]:
        """The sandbox that waits for `whose`, and those that are given up: they wait for nobody any more, or another
        run has no slot. Their slots are free. With the lock."""
        latest = time.monotonic() - _LONGEST_IDLE_S
        stale = [one for one in self._idle if one.since < latest or one.whose.of() is None]
        waiting = [one for one in self._idle if one not in stale]
        found = next((one for one in reversed(waiting) if one.whose == whose), None)
        if found is not None:
            waiting.remove(found)
        elif waiting and not stale and not self._free:
            stale.append(waiting.pop(0))
        self._idle = waiting
        self._free += len(stale)
        return None if found is None else found.sandbox, [one.sandbox for one in stale]

    def close(self) -> None:
        """Nothing is kept from here on. The ticker stops once nothing runs."""
        with self._lock:
            self._closed = True
            ended = [one.sandbox for one in self._idle]
            self._free += len(ended)
            self._idle = []
        for one in ended:
            one.close()
        self.ticker.close()


class Ticker:
    """Advances the epochs of engines while anything runs: at each epoch a guest is asked whether it may go on. One
    daemon thread, which sleeps while nothing runs.

    A Python thread starves when others hold the interpreter, so ticks are no measure of time: a guest that is asked
    looks at the clock.
    """

    def __init__(self, engine: Engine) -> None:
        self._engines: tuple[Engine, ...] = (engine,)
        self._wake = threading.Condition()
        self._running = 0
        self._asleep = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def add(self, engine: Engine) -> None:
        """Advance the epochs of `engine`, too."""
        with self._wake:
            self._engines = (*self._engines, engine)

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Inside, epochs pass. Raises StateError once it is closed: a guest that is never asked might never end."""
        with self._wake:
            if self._closed:
                raise StateError("the host is closed")
            if self._thread is None:
                self._thread = start(self._tick, name="host-epoch")
            elif self._asleep:
                self._wake.notify()
            self._running += 1
        try:
            yield
        finally:
            with self._wake:
                self._running -= 1
                if self._closed and self._running == 0:
                    self._wake.notify()

    def close(self) -> None:
        """Stop once nothing runs: until then guests have to be asked whether they may go on."""
        with self._wake:
            self._closed = True
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join(_LONGEST_END_S)

    def _tick(self) -> None:
        while True:
            with self._wake:
                while self._running == 0:
                    if self._closed:
                        return
                    self._asleep = True
                    self._wake.wait()
                    self._asleep = False
                self._wake.wait(TICK_S)
            for one in self._engines:
                one.increment_epoch()
