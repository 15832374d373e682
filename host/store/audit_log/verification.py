"""Whether the record is as it was written.

1. It begins where it should: with the first record ever, or after the last one that was pruned. 2. Every record follows
the one before it, and its mac is right: nothing was edited, deleted, swapped or put in. 3. What the newest
`audit.pruned` record says of the beginning was itself read on the way. 4. The head that this machine noted is one of
the records: nothing was cut off at the end, and nothing was rewritten. What an operator expects, from a note kept
elsewhere, is held to the same. 5. What is kept is what the last record of a change left (`host.store.state_digest`).

What cannot be seen from here: that the whole state was put back to an earlier one, the noted head included. A head that
is kept elsewhere shows that. And the end of the record may be missing because the machine lost power: SQLite loses the
last seconds then (`host.store.database`), and nobody can tell that from a cut.

Letting go of old records, so that what stays can still be verified.

An `audit.pruned` record names the last record that went, and its mac: the chain may begin after that one, and nowhere
else. It tells the vault's seals again, which records that went may have told. Records go by age alone, and the
beginning of a run that was going on just then goes with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select

from host.core.audit import Event
from host.errors import AuditBroken
from host.store.audit_log.chain import Checkpoint, NotedCheckpoint, beginning, missing, walk
from host.store.audit_log.log import AuditLog
from host.store.tables import audit
from host.store.vault.secrets import all_told


@dataclass(frozen=True, slots=True)
class Verified:
    """A record that is whole. `first` is the number of its first entry (0 where there is none) and `since` when that
    was written, Unix time; `head` the last one. Up to `pruned_through` it was pruned. `noted` is how far this machine
    had noted it; None where it never did, which a shared state allows."""

    records: int
    first: int
    since: float | None
    head: Checkpoint
    pruned_through: int
    noted: int | None


def verify(audit_log: AuditLog, expected: Checkpoint | None = None) -> Verified:
    """Raises AuditBroken with the number of the first record that is not as it was written; StateError. `expected` is
    a head that was seen before: it has to be part of the record, or pruned."""
    note = audit_log.head_file.read()  # before the transaction: what it speaks of has to be there
    heads = [head for head in (note.head if note else None, expected) if head is not None]
    with audit_log.database.reading() as connection:
        start = last = beginning(connection)
        since: float | None = None
        met = {start.seq: start.mac}  # of what was noted, the mac that it has here
        for last, at in walk(connection, audit_log.keys, start):
            since = at if since is None else since
            if any(head.seq == last.seq for head in heads):
                met[last.seq] = last.mac
        _check_note(audit_log, connection, note, last)
    for head in heads:
        if head.seq > last.seq:
            raise _cut_off(last, head)
        if met.get(head.seq, head.mac) != head.mac and (head.seq or last.seq):
            raise _broken(f"record {head.seq} is another than the one that was noted: it was written anew", head.seq)
    with audit_log.database.reading() as connection:
        audit_log.check(connection)
    return Verified(
        records=last.seq - start.seq,
        first=start.seq + 1 if since is not None else 0,
        since=since,
        head=last,
        pruned_through=start.seq,
        noted=None if note is None else note.head.seq,
    )


def _check_note(audit_log: AuditLog, connection: Connection, note: NotedCheckpoint | None, last: Checkpoint) -> None:
    """That it is there, and from here."""
    name = audit_log.head_file.path.name
    if note is None:
        if audit_log.begun(connection) and not audit_log.database.shared:
            raise _broken(f"{name} is gone: nobody can tell whether records came after {last.seq}", last.seq + 1)
    elif (note.head.seq or last.seq) and not audit_log.authentic(connection, note):
        raise _broken(f"{name} was not written with a key of this state", last.seq + 1)


def _cut_off(last: Checkpoint, noted: Checkpoint) -> AuditBroken:
    return _broken(f"{missing(last.seq + 1, noted.seq).message}: cut off at the end, or lost", last.seq + 1)


def _broken(message: str, seq: int) -> AuditBroken:
    return AuditBroken(message, seq=seq, hint="after a restored copy or a power failure: host audit accept")


_AT_ONCE = 10_000  # records in one transaction: others wait for it


@dataclass(frozen=True, slots=True)
class Pruned:
    """`records` is how many went, `broken` the number of the first among them that was not as it was written."""

    records: int = 0
    broken: int | None = None


def prune(audit_log: AuditLog, before: float) -> Pruned:
    """Delete the records from before `before` (Unix time), up to the first that is younger. Raises StateError.

    They are verified on their way out. What is not as it was written goes too, and the `audit.pruned` record says so.
    """
    with audit_log.database.reading() as connection:
        through = _last_to_go(connection, before)
    total = Pruned()
    while (some := _prune_some(audit_log, through)).records:
        broken = some.broken if total.broken is None else total.broken
        total = Pruned(total.records + some.records, broken)
    return total


def _last_to_go(connection: Connection, before: float) -> int:
    young = connection.execute(select(audit.c.seq).where(audit.c.at >= before).order_by(audit.c.seq).limit(1)).scalar()
    last: int | None = connection.execute(select(func.max(audit.c.seq))).scalar() if young is None else young - 1
    return last or 0


def _prune_some(audit_log: AuditLog, through: int) -> Pruned:
    """The oldest of them, and the record that says so, in one transaction."""
    with audit_log.changing() as change:
        connection = change.connection
        oldest = select(audit.c.seq).where(audit.c.seq <= through).order_by(audit.c.seq).limit(_AT_ONCE).subquery()
        newest = select(func.max(oldest.c.seq)).scalar_subquery()
        last = connection.execute(select(audit.c.seq, audit.c.mac).where(audit.c.seq == newest)).first()
        if last is None:
            return Pruned()
        broken = _unpruned(audit_log, connection, last.seq)
        told = all_told(connection)
        count = connection.execute(delete(audit).where(audit.c.seq <= last.seq)).rowcount
        detail: dict[str, Any] = {"through": last.seq, "mac": last.mac.hex(), "records": count}
        detail |= {} if broken is None else {"broken": broken}
        detail |= {"seals": told} if told else {}
        change.record(Event("audit.pruned", "", detail=detail))
        return Pruned(count, broken)


def _unpruned(audit_log: AuditLog, connection: Connection, through: int) -> int | None:
    try:
        for _ in walk(connection, audit_log.keys, beginning(connection), through):
            pass
    except AuditBroken as error:
        return error.seq
    return None
