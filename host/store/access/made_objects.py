"""Where objects of upstreams are: a file, a response, a thread exists at the catalyst that made it, and nowhere else.

A row has a digest of the object's id and of the API key that made it. So a request of another key finds nothing,
whatever ids it tries, and the table does not show ids. Nobody gains by a row that somebody else wrote: it can only name
one of the catalysts that a model has anyway.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

from host.store.sql import delete, putting, select
from host.store.tables import made_objects

if TYPE_CHECKING:
    from host.store.database import Database

KEPT_S: Final = 90 * 86_400.0
MOST_OF_KEY: Final = 10_000  # the newest ones of each API key at each catalyst
_PUT: Final = putting(made_objects, ("name",), ("key", "place", "made_at"))


class MadeObjects:
    """One per process, thread-safe. Methods raise StateError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def remember(self, key: str, ids: Collection[str], place: str) -> None:
        """The objects with these ids, which the API key `key` made, are at `place`, which begins with a catalyst. What
        is older than KEPT_S, or one too many of this key there, is forgotten: a catalyst that names many ids makes none
        of another one's forgotten."""
        now, owner = time.time(), f"{key} {place.partition(' ')[0]}"
        newest = (
            select(made_objects.c.made_at).where(made_objects.c.key == owner).order_by(made_objects.c.made_at.desc())
        )
        with self._database.writing(durable=False) as connection:
            rows = [{"name": _name(key, one), "key": owner, "place": place, "made_at": now} for one in ids]
            connection.execute(_PUT, rows)
            last = connection.execute(newest.limit(1).offset(MOST_OF_KEY)).scalar()
            gone = made_objects.c.made_at <= max(now - KEPT_S, last or 0.0)
            connection.execute(delete(made_objects).where(made_objects.c.key == owner, gone))

    def place_of(self, key: str, ids: Iterable[str]) -> str | None:
        """Where the first of these objects is that `key` made; None where it made none of them."""
        names = [_name(key, one) for one in ids]
        wanted = select(made_objects.c.name, made_objects.c.place).where(made_objects.c.name.in_(names))
        with self._database.reading() as connection:
            found = {row.name: row.place for row in connection.execute(wanted)}
        return next((found[name] for name in names if name in found), None)


def _name(key: str, ident: str) -> str:
    return hashlib.sha256(f"{key}\0{ident}".encode("utf-8", "surrogatepass")).hexdigest()
