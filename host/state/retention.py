"""Letting go of old records, so that what stays can still be verified.

An `audit.pruned` record names the last record that went, and its mac: the chain may begin after that one, and nowhere
else. It tells the vault's seals again, which records that went may have told. Records go by age alone, and the
beginning of a run that was going on just then goes with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select

from host.audit import Event
from host.errors import AuditBroken
from host.state.chain import beginning, walk
from host.state.journal import Journal
from host.state.tables import audit
from host.state.vault import all_told

_AT_ONCE = 10_000  # records in one transaction: others wait for it


@dataclass(frozen=True, slots=True)
class Pruned:
    """`records` is how many went, `broken` the number of the first among them that was not as it was written."""

    records: int = 0
    broken: int | None = None


def prune(journal: Journal, before: float) -> Pruned:
    """Delete the records from before `before` (Unix time), up to the first that is younger. Raises StateError.

    They are verified on their way out. What is not as it was written goes too, and the `audit.pruned` record says so.
    """
    with journal.database.reading() as connection:
        through = _last_to_go(connection, before)
    total = Pruned()
    while (some := _prune_some(journal, through)).records:
        broken = some.broken if total.broken is None else total.broken
        total = Pruned(total.records + some.records, broken)
    return total


def _last_to_go(connection: Connection, before: float) -> int:
    young = connection.execute(select(audit.c.seq).where(audit.c.at >= before).order_by(audit.c.seq).limit(1)).scalar()
    last: int | None = connection.execute(select(func.max(audit.c.seq))).scalar() if young is None else young - 1
    return last or 0


def _prune_some(journal: Journal, through: int) -> Pruned:
    """The oldest of them, and the record that says so, in one transaction."""
    with journal.changing() as change:
        connection = change.connection
        oldest = select(audit.c.seq).where(audit.c.seq <= through).order_by(audit.c.seq).limit(_AT_ONCE).subquery()
        newest = select(func.max(oldest.c.seq)).scalar_subquery()
        last = connection.execute(select(audit.c.seq, audit.c.mac).where(audit.c.seq == newest)).first()
        if last is None:
            return Pruned()
        broken = _broken(journal, connection, last.seq)
        told = all_told(connection)
        count = connection.execute(delete(audit).where(audit.c.seq <= last.seq)).rowcount
        detail: dict[str, Any] = {"through": last.seq, "mac": last.mac.hex(), "records": count}
        detail |= {} if broken is None else {"broken": broken}
        detail |= {"seals": told} if told else {}
        change.record(Event("audit.pruned", "", detail=detail))
        return Pruned(count, broken)


def _broken(journal: Journal, connection: Connection, through: int) -> int | None:
    try:
        for _ in walk(connection, journal.keys, beginning(connection), through):
            pass
    except AuditBroken as error:
        return error.seq
    return None
