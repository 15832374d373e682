"""Runs, as the record tells of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, func, select

from host.errors import InputError, NotFound
from host.jsontext import Json
from host.state.database import Database
from host.state.records import ENTRIES, Record, Wanted, as_record, records
from host.state.tables import audit

_AT_ONCE = 200  # runs that are asked about in one query


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run. `seq` is the number of its first record, `started_at` Unix time. It ended with the `status` of its
    operation, or in the `error` of that code; with neither it has not ended: it goes on, or its process was killed.
    `requests` and `denied` count the HTTP requests that were allowed, and everything that was refused."""

    seq: int
    id: str
    reference: str
    digest: str
    started_at: float
    duration_s: float | None
    status: int | None
    error: str | None
    requests: int
    denied: int

    @property
    def outcome(self) -> str:
        if self.error is not None:
            return self.error
        return "unfinished" if self.status is None else str(self.status)

    @property
    def failed(self) -> bool:
        return self.status is None or not 200 <= self.status < 300


def runs(
    database: Database, *, limit: int, before: int | None = None, reference: str | None = None, failed: bool = False
) -> list[RunSummary]:
    """The newest first: at most `limit`, of those that began before the record `before`. `reference` is what a run was
    started by: a file, a reference, or one without its version for all of them. Raises StateError."""
    found: list[RunSummary] = []
    with database.reading() as connection:
        for run in _summaries(connection, before):
            if len(found) == limit:
                break
            if (run.failed or not failed) and (reference is None or _is_of(run, reference)):
                found.append(run)
    return found


def run(database: Database, ident: str) -> tuple[RunSummary | None, list[Record]]:
    """The run whose id is `ident`, or begins so, and its records. No summary where its beginning was pruned. Raises
    NotFound, InputError where there are several, StateError."""
    with database.reading() as connection:
        ids = connection.scalars(
            select(audit.c.run)
            .where(audit.c.run.startswith(ident, autoescape=True), audit.c.run != "")
            .distinct()
            .limit(2)
        ).all()
        if not ids:
            raise NotFound(f"there is no run {ident[:80]!r}", field="ID", hint="host runs list")
        if len(ids) > 1:
            raise InputError(f"several runs begin with {ident[:80]!r}", field="ID", hint="host runs list")
        first = connection.execute(ENTRIES.where(audit.c.run == ids[0], audit.c.kind == "run.started").limit(1)).all()
        summary = next(_summarised(connection, [as_record(row) for row in first]), None)
    return summary, list(records(database, Wanted(run=ids[0])))


def _is_of(run: RunSummary, reference: str) -> bool:
    return run.reference == reference or run.reference.startswith(f"{reference}:")


def _summaries(connection: Connection, before: int | None) -> Iterator[RunSummary]:
    """All of them, the newest first."""
    while True:
        query = ENTRIES.where(audit.c.kind == "run.started").order_by(audit.c.seq.desc()).limit(_AT_ONCE)
        rows = connection.execute(query if before is None else query.where(audit.c.seq < before)).all()
        if not rows:
            return
        yield from _summarised(connection, [as_record(row) for row in rows])
        before = rows[-1].seq


def _summarised(connection: Connection, started: Sequence[Record]) -> Iterator[RunSummary]:
    ids = [record.run for record in started]
    ended = {
        row.run: as_record(row).detail
        for row in connection.execute(ENTRIES.where(audit.c.run.in_(ids), audit.c.kind == "run.ended"))
    }
    counts = {row.run: row for row in connection.execute(_counted(ids))}
    for record in started:
        end: Mapping[str, Json] = ended.get(record.run, {})
        yield RunSummary(
            seq=record.seq,
            id=record.run,
            reference=str(record.detail.get("reference", "")),
            digest=str(record.detail.get("digest", "")),
            started_at=record.at,
            duration_s=end.get("duration_s"),
            status=end.get("status"),
            error=end.get("error"),
            requests=counts[record.run].requests,
            denied=counts[record.run].denied,
        )


def _counted(ids: Sequence[str]) -> Any:
    denied = audit.c.decision == "deny"
    sent = and_(audit.c.kind == "http.request", audit.c.decision == "allow")
    return (
        select(
            audit.c.run,
            func.sum(case((sent, 1), else_=0)).label("requests"),
            func.sum(case((denied, 1), else_=0)).label("denied"),
        )
        .where(audit.c.run.in_(ids))
        .group_by(audit.c.run)
    )
