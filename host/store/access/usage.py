"""Usage: requests and tokens by day, key and catalyst. Only totals are stored, never content."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from host.store.database import LONG_S
from host.store.sql import adding, select
from host.store.tables import usage

if TYPE_CHECKING:
    from host.store.database import Database

_PLACE = ("day", "key", "catalyst")
_COUNTS = ("requests", "failed", "input_tokens", "output_tokens")
_ADD = adding(usage, _PLACE, _COUNTS)


@dataclass(frozen=True, slots=True)
class Used:
    """The usage of one `day` (UTC, `2026-11-20`), API key (its id; "": none) and `catalyst` (a reference with its
    version). `failed` counts the requests that did not succeed; they are in `requests` too. Tokens are the upstream's
    count."""

    day: str
    key: str
    catalyst: str
    requests: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class Usage:
    """One per process, thread-safe. Methods raise StateError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, rows: Iterable[Used]) -> None:
        """Add all rows, or none. Several may have the same day, key and catalyst."""
        totals: dict[tuple[str, ...], dict[str, str | int]] = {}
        for row in rows:
            place = {name: getattr(row, name) for name in _PLACE}
            total = totals.setdefault(tuple(place.values()), {**place, **dict.fromkeys(_COUNTS, 0)})
            for name in _COUNTS:
                total[name] += getattr(row, name)
        if totals:
            with self._database.writing(durable=False) as connection:
                connection.execute(_ADD, [totals[place] for place in sorted(totals)])

    def totals(self, since_day: str | None = None, key: str | None = None) -> list[Used]:
        """The newest day first. `since_day` and `key` (an id) select rows if they are given."""
        query = select(usage).order_by(usage.c.day.desc(), usage.c.key, usage.c.catalyst)
        if since_day is not None:
            query = query.where(usage.c.day >= since_day)
        if key is not None:
            query = query.where(usage.c.key == key)
        with self._database.reading(LONG_S) as connection:
            return [Used(**row.as_dict()) for row in connection.execute(query)]
