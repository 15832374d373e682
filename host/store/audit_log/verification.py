"""Verification and retention: whether the audit log is as it was written, and pruning that keeps it verifiable.

1. The log begins at the first record ever, or after the last pruned record.
2. Each record follows the one before it, and its MAC verifies: nothing was edited, deleted, swapped or added. The
   indexes, by which a run's records are found, have each of them.
3. The newest `audit.pruned` record, which says where the log begins, was itself verified on the way.
4. This machine's checkpoint is one of the records: nothing was cut off at the end, and nothing was rewritten. A
   checkpoint that the operator kept elsewhere is checked in the same way.
5. The state digest is the one of the last recorded change (`host.store.state_digest`), and the counts of limits are
   those that were counted (`host.store.access.counters`).

This cannot find that the whole state, checkpoint file included, was put back to an earlier day; a checkpoint kept
elsewhere can. After a loss of power the last seconds of the log may be missing (`host.store.database`), which looks the
same as a cut.

Pruning removes records by age alone. An `audit.pruned` record names the last removed record and its MAC: the log may
begin after that record, and nowhere else. It also repeats the digests of the vault, because the records that held them
may be among the removed ones. The beginning of a run that is going on may be removed too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from host.core.audit import Event
from host.errors import AuditBroken
from host.store import schema
from host.store.access.counters import verified_counts
from host.store.audit_log.chain import Checkpoint, StoredCheckpoint, beginning, missing, torn_when_made, walk
from host.store.audit_log.log import AuditLog
from host.store.connections import StateConnection
from host.store.database import LONG_S
from host.store.sql import delete, func, select
from host.store.tables import audit
from host.store.vault.secrets import recorded_digests


@dataclass(frozen=True, slots=True)
class Verified:
    """A log that verifies. `first` is the number of its first record (0: there is none), `since` the Unix time of that
    record, `head` the checkpoint of the last one. Records up to `pruned_through` were pruned. `noted` is the number in
    this machine's checkpoint; None if it has none, which a shared state allows."""

    records: int
    first: int
    since: float | None
    head: Checkpoint
    pruned_through: int
    noted: int | None


def verify(audit_log: AuditLog, expected: Checkpoint | None = None) -> Verified:
    """Raises AuditBroken with the number of the first record that does not verify; StateError. `expected` is a
    checkpoint from earlier: its record has to be present, or pruned."""
    stored = audit_log.checkpoint_file.read()  # before the transaction, which therefore sees its record
    with audit_log.database.reading(LONG_S) as connection:
        schema.check_indexes(connection, [audit])
        torn = torn_when_made(connection, audit_log.keys, audit_log.checkpoint_file)
        stored = None if torn else stored  # it says nothing, and the next record writes it anew
        checkpoints = [one for one in (stored.checkpoint if stored else None, expected) if one is not None]
        start = last = beginning(connection)
        since: float | None = None
        found = {start.seq: start.mac}  # the MACs of the records that the checkpoints name
        for last, at in walk(connection, audit_log.keys, start):
            since = at if since is None else since
            if any(one.seq == last.seq for one in checkpoints):
                found[last.seq] = last.mac
        if not torn:
            _check_stored(audit_log, connection, stored, last)
    for one in checkpoints:
        if one.seq > last.seq:
            raise _cut_off(last, one)
        if found.get(one.seq, one.mac) != one.mac and (one.seq or last.seq):
            raise _broken(f"record {one.seq} differs from its checkpoint: the record was rewritten", one.seq)
    with audit_log.database.reading(LONG_S) as connection:
        audit_log.check(connection)
        shared = audit_log.database.shared
        verified_counts(connection, audit_log.keys, audit_log.counters_file, shared=shared)
    return Verified(
        records=last.seq - start.seq,
        first=start.seq + 1 if since is not None else 0,
        since=since,
        head=last,
        pruned_through=start.seq,
        noted=None if stored is None else stored.checkpoint.seq,
    )


def _check_stored(
    audit_log: AuditLog, connection: StateConnection, stored: StoredCheckpoint | None, last: Checkpoint
) -> None:
    """Raises AuditBroken if this machine's checkpoint is missing, or was not written with a key of this state."""
    name = audit_log.checkpoint_file.path.name
    if stored is None:
        if audit_log.begun(connection) and not audit_log.database.shared:
            how = "gone" if audit_log.checkpoint_file.torn_at() is None else "torn, by a crash or by somebody"
            raise _broken(f"{name} is {how}: nobody can tell whether records came after {last.seq}", last.seq + 1)
    elif (stored.checkpoint.seq or last.seq) and not stored.is_ours(connection, audit_log.keys):
        raise _broken(f"{name} was not written with a key of this state", last.seq + 1)


def _cut_off(last: Checkpoint, checkpoint: Checkpoint) -> AuditBroken:
    return _broken(f"{missing(last.seq + 1, checkpoint.seq).message}: cut off at the end, or lost", last.seq + 1)


def _broken(message: str, seq: int) -> AuditBroken:
    return AuditBroken(message, seq=seq, hint="after a restored copy or a power failure: host audit accept")


_BATCH_SIZE = 10_000  # in one transaction, for which other writers wait


@dataclass(frozen=True, slots=True)
class Pruned:
    """`records` counts the removed records; `broken` is the number of the first of them that did not verify."""

    records: int = 0
    broken: int | None = None


def prune(audit_log: AuditLog, before: float) -> Pruned:
    """Delete the oldest records, up to the first one from `before` (Unix time) or later. Raises StateError.

    The records are verified first. Records that do not verify are deleted too, and the `audit.pruned` record says so.
    """
    with audit_log.database.reading(LONG_S) as connection:
        through = _last_to_prune(connection, before)
    total = Pruned()
    while (batch := _prune_batch(audit_log, through)).records:
        broken = batch.broken if total.broken is None else total.broken
        total = Pruned(total.records + batch.records, broken)
    return total


def _last_to_prune(connection: StateConnection, before: float) -> int:
    young = connection.execute(select(audit.c.seq).where(audit.c.at >= before).order_by(audit.c.seq).limit(1)).scalar()
    last: int | None = connection.execute(select(func.max(audit.c.seq))).scalar() if young is None else young - 1
    return last or 0


def _prune_batch(audit_log: AuditLog, through: int) -> Pruned:
    """Delete the oldest records up to the number `through`, and record that, in one transaction."""
    with audit_log.changing() as change:
        connection = change.connection
        oldest = select(audit.c.seq).where(audit.c.seq <= through).order_by(audit.c.seq).limit(_BATCH_SIZE)
        numbers = connection.execute(oldest).scalars()
        if not numbers:
            return Pruned()
        last = connection.execute(select(audit.c.seq, audit.c.mac).where(audit.c.seq == numbers[-1])).one()
        broken = _first_broken(audit_log, connection, last.seq)
        digests = recorded_digests(connection)
        count = connection.execute(delete(audit).where(audit.c.seq <= last.seq)).rowcount
        detail: dict[str, Any] = {"through": last.seq, "mac": last.mac.hex(), "records": count}
        detail |= {} if broken is None else {"broken": broken}
        detail |= {"seals": digests} if digests else {}
        change.record(Event("audit.pruned", "", detail=detail))
        return Pruned(count, broken)


def _first_broken(audit_log: AuditLog, connection: StateConnection, through: int) -> int | None:
    try:
        for _ in walk(connection, audit_log.keys, beginning(connection), through):
            pass
    except AuditBroken as error:
        return error.seq
    return None
