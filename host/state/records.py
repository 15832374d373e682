"""Reading the record, as it is: whether it is as it was written, `host.state.verification` says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Select, select

from host.errors import AuditBroken, InputError
from host.jsontext import Json, parse_object
from host.state.database import Database
from host.state.tables import audit

_AT_ONCE = 1_000  # rows in memory
_LATEST = 253_402_300_799  # the end of the year 9999, which is the last that has a date
ENTRIES = select(
    audit.c.seq, audit.c.at, audit.c.run, audit.c.kind, audit.c.decision, audit.c.rule, audit.c.detail, audit.c.mac
)


@dataclass(frozen=True, slots=True)
class Record:
    """One entry, as `host.audit.Event` describes it, with its number. `mac` is in hex."""

    seq: int
    at: float
    run: str
    kind: str
    decision: str | None
    rule: str
    detail: dict[str, Json]
    mac: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records: those of which everything holds that is given. `since` is Unix time."""

    run: str | None = None
    kind: str | None = None
    denied: bool = False
    since: float | None = None

    def among(self, query: Select[Any]) -> Select[Any]:
        if self.run is not None:
            query = query.where(audit.c.run == self.run)
        if self.kind is not None:
            query = query.where(audit.c.kind == self.kind)
        if self.denied:
            query = query.where(audit.c.decision == "deny")
        if self.since is not None:
            query = query.where(audit.c.at >= self.since)
        return query


def records(database: Database, wanted: Wanted = Wanted()) -> Iterator[Record]:
    """From the oldest on, as they are read; nothing of the database waits for the reader. Raises StateError."""
    with database.reading() as connection:
        query = wanted.among(ENTRIES).order_by(audit.c.seq).execution_options(yield_per=_AT_ONCE)
        with connection.execute(query) as rows:
            yield from map(as_record, rows)


def newest_records(database: Database, limit: int, wanted: Wanted = Wanted()) -> list[Record]:
    """The last `limit` of them, the oldest of these first. Raises StateError."""
    with database.reading() as connection:
        rows = connection.execute(wanted.among(ENTRIES).order_by(audit.c.seq.desc()).limit(limit)).all()
    return [as_record(row) for row in reversed(rows)]


def as_record(row: Any) -> Record:
    """What a row of ENTRIES says. Raises AuditBroken where a value is none that a record has: somebody put it there."""
    with suppress(InputError, TypeError, AttributeError):
        detail = parse_object(row.detail, "the detail")
        texts = (row.run, row.kind, row.decision or "", row.rule)
        if all(isinstance(text, str) for text in texts) and 0 <= row.at <= _LATEST:
            return Record(row.seq, row.at, row.run, row.kind, row.decision, row.rule, detail, row.mac.hex())
    raise AuditBroken(f"record {row.seq} cannot be read", seq=row.seq, hint="host audit verify")
