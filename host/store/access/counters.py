"""Counts by name and window of time, shared by every process that has the database: what limits are made of
(host.service.limits). A count is no secret and no evidence: it goes once its time is over.
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
)  # made once: to put a statement together takes longer than to execute it
_ADD = adding(counters, ("name", "window"), ("count",))
_NOW = text("SELECT extract(epoch FROM clock_timestamp())")
_SWEEP_EVERY_S: Final = 60.0


class Slot(NamedTuple):
    """Where something is counted: in the window of that number, of a length that goes with the name."""

    name: str
    window: int


class Tally:
    """Inside a transaction. `now` is Unix time by the one clock that everybody goes by who shares the database."""

    def __init__(self, connection: Connection, now: float) -> None:
        self.now = now
        self._connection = connection

    def counts(self, slots: Collection[Slot]) -> dict[Slot, int]:
        """Those that are there; of the others there is nothing."""
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
    """One per process, thread-safe. `clock` stands in for the time. Methods raise StateError."""

    def __init__(self, database: Database, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._clock = clock
        self._sweep_at = 0.0

    @contextmanager
    def counting(self) -> Iterator[Tally]:
        """A transaction that nobody else counts beside: what is read in it stays true, and all that is added is kept,
        or nothing."""
        with self._database.writing(durable=False) as connection:
            tally = Tally(connection, self._now(connection))
            yield tally
            self._sweep(connection, tally.now)

    def _now(self, connection: Connection) -> float:
        """Of the database's machine, where others use it too: their clocks may differ."""
        if self._clock is not None:
            return self._clock()
        return float(connection.execute(_NOW).scalar_one()) if self._database.shared else time.time()

    def _sweep(self, connection: Connection, now: float) -> None:
        """Now and then, what is over goes."""
        if now >= self._sweep_at:
            connection.execute(delete(counters).where(counters.c.expires_at <= now))
            self._sweep_at = now + _SWEEP_EVERY_S
