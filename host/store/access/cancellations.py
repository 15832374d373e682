"""Requests to end a run, for the process that runs it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, insert, select

from host.store.tables import cancellations

if TYPE_CHECKING:
    from host.store.database import Database

_KEPT_S: Final = 86_400.0  # no run lasts longer
_IDS_AT_ONCE: Final = 500  # in one query


class Cancellations:
    """One per process, thread-safe. Methods raise StateError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, run_id: str) -> None:
        """Ask the process that has the run to end it. May be called again. Requests older than a day are deleted."""
        now = time.time()
        with self._database.writing(durable=False) as connection:
            replaced = (cancellations.c.run == run_id) | (cancellations.c.asked_at < now - _KEPT_S)
            connection.execute(delete(cancellations).where(replaced))
            connection.execute(insert(cancellations).values(run=run_id, asked_at=now))

    def among(self, ids: Collection[str]) -> set[str]:
        """The runs of `ids` that are to end. Makes no query for no ids."""
        if not ids:
            return set()
        with self._database.reading() as connection:
            return {
                run
                for batch in _batches(ids)
                for run in connection.scalars(select(cancellations.c.run).where(cancellations.c.run.in_(batch)))
            }


def _batches(ids: Collection[str]) -> Iterator[list[str]]:
    left = iter(ids)
    while batch := list(islice(left, _IDS_AT_ONCE)):
        yield batch
