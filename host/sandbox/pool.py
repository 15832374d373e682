"""How many sandboxes may be in use at once.

Advances an engine's epoch while anything runs, so that every guest is asked regularly whether it may go on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from wasmtime import Engine

from host.errors import StateError

TICK_S = 0.01


class Ticker:
    """One daemon thread; it sleeps while nothing runs.

    A Python thread starves when others hold the interpreter, so ticks are no measure of time: a guest that is asked
    looks at the clock.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._wake = threading.Condition()
        self._running = 0
        self._asleep = False
        self._closed = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Inside, epochs pass. Raises StateError once it is closed: a guest that is never asked might never end."""
        with self._wake:
            if self._closed:
                raise StateError("the host is closed")
            self._running += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._tick, name="host-epoch", daemon=True)
                self._thread.start()
            elif self._asleep:
                self._wake.notify()
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
            thread.join()

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
            self._engine.increment_epoch()
