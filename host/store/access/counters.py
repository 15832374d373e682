"""Counts by name and window of time, shared by all processes that use the database. Limits are made of them
(`host.service.limits`). Counts are neither secret nor evidence: they are deleted when their time is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, select, text, tuple_

from host.store.database import adding
from host.store.tables import counters

if TYPE_CHECKING:
    from host.store.database import Database

_COUNTS = select(counters.c.name, counters.c.window, counters.c.count).where(
    tuple_(counters.c.name, counters.c.window).in_(bindparam("slots", expanding=True))
)  # built once: building a statement takes longer than executing it
_ADD = adding(counters, ("name", "window"), ("count",))
_NOW = text("SELECT extract(epoch FROM clock_timestamp())")
_SWEEP_EVERY_S: Final = 60.0


class Slot(NamedTuple):
    """One counter: a name and the number of a window. The name determines the window's length."""

    name: str
    window: int


class Tally:
    """The counters within a transaction. `now` is Unix time, by one clock for all that share the database."""

    def __init__(self, connection: Connection, now: float) -> None:
        self.now = now
        self._connection = connection

    def counts(self, slots: Collection[Slot]) -> dict[Slot, int]:
        """The counts of the slots that have one."""
        if not slots:
            return {}
        found = self._connection.execute(_COUNTS, {"slots": sorted(slots)})
        return {Slot(name, window): count for name, window, count in found}

    def add(self, amounts: Mapping[Slot, int], expires_at: Callable[[Slot], float]) -> None:
        rows = [
            {"name": slot.name, "window": slot.window, "count": amounts[slot], "expires_at": expires_at(slot)}
            for slot in sorted(amounts)
        ]
        if rows:
            self._connection.execute(_ADD[self._connection.dialect.name], rows)


class Counters:
    """One per process, thread-safe. `clock` replaces the time in tests. Methods raise StateError."""

    def __init__(self, database: Database, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._clock = clock
        self._sweep_at = 0.0

    @contextmanager
    def counting(self) -> Iterator[Tally]:
        """A write transaction: counts that are read in it stay true until it ends, and all additions are committed, or
        none."""
        with self._database.writing(durable=False) as connection:
            tally = Tally(connection, self._now(connection))
            yield tally
            self._sweep(connection, tally.now)

    def _now(self, connection: Connection) -> float:
        """By the clock of the database's machine if the database is shared: the clocks of its users may differ."""
        if self._clock is not None:
            return self._clock()
        return float(connection.execute(_NOW).scalar_one()) if self._database.shared else time.time()

    def _sweep(self, connection: Connection, now: float) -> None:
        """Delete expired counts, once a minute at most."""
        if now >= self._sweep_at:
            connection.execute(delete(counters).where(counters.c.expires_at <= now))
            self._sweep_at = now + _SWEEP_EVERY_S
