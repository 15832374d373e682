"""The audit log, read: its records, and the runs that they describe. Whether they are as they were written, says
`host.store.audit_log.verification`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from host.core.strict_json import Json, parse_object
from host.errors import AuditBroken, InputError, NotFound
from host.store.connections import StateConnection
from host.store.database import LONG_S, Database
from host.store.sql import Select, and_, case, func, select
from host.store.tables import audit

_LATEST = 253_402_300_799  # the end of the year 9999, the last year of a datetime
_RECORDS = select(
    audit.c.seq, audit.c.at, audit.c.run, audit.c.kind, audit.c.decision, audit.c.rule, audit.c.detail, audit.c.mac
)


@dataclass(frozen=True, slots=True)
class Record:
    """One record: a `host.core.audit.Event` with its number. `mac` is in hex."""

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
    """A filter of records: all given conditions have to hold. `since` is Unix time."""

    run: str | None = None
    kind: str | None = None
    denied: bool = False
    since: float | None = None

    def filtered(self, query: Select) -> Select:
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
    """From the oldest on, read as they are consumed. The transaction blocks no writer. Raises StateError."""
    with database.reading(LONG_S) as connection:
        yield from map(as_record, connection.stream(wanted.filtered(_RECORDS).order_by(audit.c.seq)))


def newest_records(database: Database, limit: int, wanted: Wanted = Wanted()) -> list[Record]:
    """The last `limit` records, with the oldest of these first. Raises StateError."""
    with database.reading(LONG_S) as connection:
        rows = connection.execute(wanted.filtered(_RECORDS).order_by(audit.c.seq.desc()).limit(limit)).all()
    return [as_record(row) for row in reversed(rows)]


def as_record(row: Any) -> Record:
    """The record of a row of `_RECORDS`. Raises AuditBroken for a value that no record has: somebody put it there."""
    with suppress(InputError, TypeError, AttributeError):
        detail = parse_object(row.detail, "the detail")
        texts = (row.run, row.kind, row.decision or "", row.rule)
        if all(isinstance(text, str) for text in texts) and 0 <= row.at <= _LATEST:
            return Record(row.seq, row.at, row.run, row.kind, row.decision, row.rule, detail, row.mac.hex())
    raise AuditBroken(f"record {row.seq} cannot be read", seq=row.seq, hint="host audit verify")


_RUNS_AT_ONCE = 200  # in one query
_GRACE_S: Final = 5.0  # from a run's deadline to its last record


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run. `seq` is the number of its first record, `started_at` Unix time. A run ends with the `status` of its
    operation, or with the code of an `error`. With neither it still runs, at most until `running_until`, or its process
    was killed. `requests` counts the allowed HTTP requests, `denied` everything that was refused. `caller` says
    what was asked for (`operation`, `model`), and of a server's run by whom, with the id of the API key as `key`. The
    tokens are those that the answer said that it cost; None where it did not say."""

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
    caller: Mapping[str, Json] = field(default_factory=dict)
    running_until: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def operation(self) -> str:
        """ "" where it is unknown, as `model` is."""
        return str(self.caller.get("operation") or "")

    @property
    def model(self) -> str:
        return str(self.caller.get("model") or "")

    @property
    def key(self) -> str:
        """The id of the API key that started the run; "" for none."""
        return str(self.caller.get("key") or "")

    def running(self, now: float) -> bool:
        """Whether the run still goes on, as far as the audit log shows."""
        ended = self.status is not None or self.error is not None
        return not ended and self.running_until is not None and now < self.running_until + _GRACE_S

    @property
    def outcome(self) -> str:
        if self.error is not None:
            return self.error
        return "unfinished" if self.status is None else str(self.status)

    @property
    def failed(self) -> bool:
        return self.status is None or not 200 <= self.status < 300


def runs(
    database: Database,
    *,
    limit: int,
    before: int | None = None,
    reference: str | None = None,
    failed: bool = False,
    key: str | None = None,
) -> list[RunSummary]:
    """At most `limit` runs, the newest first. Filters: runs that began before the record number `before`; runs of
    `reference`, which is a file, a reference, or one without a version for all versions; runs that `failed`; runs of
    the API key with the id `key`, "" for runs without a key. Raises StateError."""
    found: list[RunSummary] = []
    with database.reading(LONG_S) as connection:
        for run in _summaries(connection, before, key):
            if len(found) == limit:
                break
            wanted = (run.failed or not failed) and (key is None or run.key == key)
            if wanted and (reference is None or _is_of(run, reference)):
                found.append(run)
    return found


def run(database: Database, ident: str) -> tuple[RunSummary | None, list[Record]]:
    """The run whose id is `ident` or begins with it, and its records. No summary if its first record was pruned. Raises
    NotFound, InputError if there are several, StateError."""
    with database.reading(LONG_S) as connection:
        ids = connection.execute(
            select(audit.c.run).where(audit.c.run.startswith(ident), audit.c.run != "").distinct().limit(2)
        ).scalars()
        if not ids:
            raise NotFound(f"there is no run {ident[:80]!r}", field="ID", hint="host runs list")
        if len(ids) > 1:
            raise InputError(f"several runs begin with {ident[:80]!r}", field="ID", hint="host runs list")
        first = connection.execute(_RECORDS.where(audit.c.run == ids[0], audit.c.kind == "run.started").limit(1)).all()
        summary = next(_summarised(connection, [as_record(row) for row in first]), None)
    return summary, list(records(database, Wanted(run=ids[0])))


def failure(found: Iterable[Record]) -> dict[str, Json] | None:
    """Why a run failed, of its records: `error` (`type`, `message`, `traceback`, …), `logs`, the last lines that the
    guest logged as `[level, message]`, and `dropped`, the number of lines before them. None where it has no such
    record."""
    return next((one.detail for one in found if one.kind == "run.failed"), None)


def _is_of(run: RunSummary, reference: str) -> bool:
    return run.reference == reference or run.reference.startswith(f"{reference}:")


def _summaries(connection: StateConnection, before: int | None, key: str | None) -> Iterator[RunSummary]:
    """All runs, the newest first; with a `key`, the runs whose first record contains it anywhere."""
    started = audit.c.kind == "run.started"
    if key:
        started &= audit.c.detail.contains(f'"key":{json.dumps(key)}')
    while True:
        query = _RECORDS.where(started).order_by(audit.c.seq.desc()).limit(_RUNS_AT_ONCE)
        rows = connection.execute(query if before is None else query.where(audit.c.seq < before)).all()
        if not rows:
            return
        yield from _summarised(connection, [as_record(row) for row in rows])
        before = rows[-1].seq


def _summarised(connection: StateConnection, started: Sequence[Record]) -> Iterator[RunSummary]:
    ids = [record.run for record in started]
    ended = {
        row.run: as_record(row).detail
        for row in connection.execute(_RECORDS.where(audit.c.run.in_(ids), audit.c.kind == "run.ended"))
    }
    counts = {row.run: row for row in connection.execute(_counted(ids))}
    for record in started:
        end: Mapping[str, Json] = ended.get(record.run, {})
        caller, timeout_s = record.detail.get("caller"), record.detail.get("timeout_s")
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
            caller=caller if isinstance(caller, dict) else {},
            running_until=record.at + timeout_s if isinstance(timeout_s, int | float) else None,
            input_tokens=end.get("input_tokens"),
            output_tokens=end.get("output_tokens"),
        )


def _counted(ids: Sequence[str]) -> Any:
    denied = audit.c.decision == "deny"
    sent = and_(audit.c.kind == "http.request", audit.c.decision == "allow")
    return (
        select(
            audit.c.run,
            func.sum(case(sent, 1, 0)).label("requests"),
            func.sum(case(denied, 1, 0)).label("denied"),
        )
        .where(audit.c.run.in_(ids))
        .group_by(audit.c.run)
    )
