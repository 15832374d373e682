"""Runs that somebody asked to end, for whichever process has them to find."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, insert, select

from host.store.tables import cancellations

if TYPE_CHECKING:
    from host.store.database import Database

_KEPT_S: Final = 86_400.0  # no run goes on for longer
_AT_ONCE: Final = 500  # ids in one query


class Cancellations:
    """One per process, thread-safe. Methods raise StateError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, run_id: str) -> None:
        """That the run be ended, by whoever has it. Any number of times; those of a day ago are forgotten."""
        now = time.time()
        with self._database.writing(durable=False) as connection:
            gone = (cancellations.c.run == run_id) | (cancellations.c.asked_at < now - _KEPT_S)
            connection.execute(delete(cancellations).where(gone))
            connection.execute(insert(cancellations).values(run=run_id, asked_at=now))

    def among(self, ids: Collection[str]) -> set[str]:
        """Those of `ids` that are to end. Asks nothing where there are none."""
        if not ids:
            return set()
        with self._database.reading() as connection:
            return {
                run
                for some in _batches(ids)
                for run in connection.scalars(select(cancellations.c.run).where(cancellations.c.run.in_(some)))
            }


def _batches(ids: Collection[str]) -> Iterator[list[str]]:
    left = iter(ids)
    while some := list(islice(left, _AT_ONCE)):
        yield some
