"""Requests to end a run, for the process that runs it; and the ends of the console's sessions, for all processes."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from host.store.sql import delete, insert, select
from host.store.tables import cancellations

if TYPE_CHECKING:
    from host.store.database import Database

_KEPT_S: Final = 86_400.0  # no run lasts longer
_SESSION: Final = "session:"
_SESSIONS: Final = "sessions:"
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
        return set(self._asked(ids))

    def end_session(self, session: str) -> None:
        """The session of this id is over."""
        self.ask(_SESSION + session)

    def end_sessions(self, key: str) -> None:
        """All sessions that began with the key of this id until now are over."""
        self.ask(_SESSIONS + key)

    def ended_sessions(self, sessions: Collection[tuple[str, str, float]]) -> set[str]:
        """The ids of those that are over. Each is an id, the id of its key, and the Unix time when it began."""
        asked = self._asked({name for ident, key, _ in sessions for name in (_SESSION + ident, _SESSIONS + key)})
        return {
            ident
            for ident, key, began_at in sessions
            if _SESSION + ident in asked or began_at <= asked.get(_SESSIONS + key, 0.0)
        }

    def _asked(self, ids: Collection[str]) -> dict[str, float]:
        """When each was asked for, of those that were."""
        if not ids:
            return {}
        wanted = select(cancellations.c.run, cancellations.c.asked_at)
        with self._database.reading() as connection:
            return {
                row.run: row.asked_at
                for batch in _batches(ids)
                for row in connection.execute(wanted.where(cancellations.c.run.in_(batch)))
            }


def _batches(ids: Collection[str]) -> Iterator[list[str]]:
    left = iter(ids)
    while batch := list(islice(left, _IDS_AT_ONCE)):
        yield batch
