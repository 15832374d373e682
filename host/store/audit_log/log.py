"""The audit log: an append-only record of every run and of every change by the operator.

The MAC of each record, HMAC-SHA256 (RFC 2104) under a key of the state, covers the record and the MAC before it
(`host.store.audit_log.chain`). A checkpoint file beside the database holds the last acknowledged record. So an edit, a
deletion, a swap or a cut at the end is found (`host.store.audit_log.verification`).
"""

from __future__ import annotations

import hmac
import json
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from host.core.audit import CHANGES, Event
from host.core.strict_json import clean_text
from host.core.waiting import within
from host.errors import AuditBroken, AuditError, HostError, StateError
from host.store import schema
from host.store.access.counters import accept_counts, checkpoint_file
from host.store.audit_log.chain import (
    FIELDS,
    Checkpoint,
    CheckpointFile,
    StoredCheckpoint,
    chained,
    last_pruned,
    torn_when_made,
    walk,
)
from host.store.connections import StateConnection
from host.store.database import Database
from host.store.group_commit import GroupCommit
from host.store.sql import Delete, Expression, Insert, Table, Update, delete, exists, insert, select, update
from host.store.state_digest import State, check_digest, last_digest, write_digest
from host.store.tables import audit, cancellations, keys
from host.store.vault.keys import DataKey, Keys

_APPEND = insert(audit)
_CURRENT_KEY = select(keys.c.id).where(keys.c.purpose == "audit", keys.c.current).scalar_subquery()
_END = select(audit.c.seq, audit.c.mac, _CURRENT_KEY.label("key")).order_by(audit.c.seq.desc()).limit(1)
_QUICK_END = (
    "SELECT seq, mac, (SELECT id FROM keys WHERE purpose = 'audit' AND current) FROM audit ORDER BY seq DESC LIMIT 1"
)
_QUICK_APPEND = (  # in the order of FIELDS
    "INSERT INTO audit (seq, at, run, kind, decision, rule, detail, key, mac) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_QUICK_MAC = "SELECT mac FROM audit WHERE seq = ?"
_ANY_KEY = select(exists().select_from(keys))  # the first record makes the first key, and some key always remains


class Change:
    """A write transaction of the state with its records: both are committed, or neither. `last` is the last record so
    far, `key` the key for the next ones, `state` what the state digest covers, as this change leaves it: tables of it
    are written by `insert`, `delete` and `update` alone. Methods raise StateError if the database writes other rows."""

    def __init__(self, connection: StateConnection, key: DataKey, last: Checkpoint) -> None:
        self.connection = connection
        self.key = key
        self.last = last
        self.state: State | None = None

    def insert(self, table: Table, **values: Any) -> None:
        """Add one row."""
        self._written(insert(table).values(values), 1)
        self._covered.insert(table, values)

    def delete(self, table: Table, **where: Any) -> int:
        """Delete the rows whose columns equal `where`. Returns their number."""
        count = self._covered.delete(table, where)
        self._written(delete(table).where(*_equal(table, where)), count)
        return count

    def update(self, table: Table, where: Mapping[str, Any], **values: Any) -> int:
        """Set `values` in the rows whose columns equal `where`. Returns their number."""
        count = self._covered.update(table, where, values)
        self._written(update(table).where(*_equal(table, where)).values(values), count)
        return count

    @property
    def _covered(self) -> State:
        assert self.state is not None, "there is one in AuditLog.changing"
        return self.state

    def _written(self, statement: Insert | Delete | Update, count: int) -> None:
        written = self.connection.execute(statement).rowcount
        if written != count:
            raise StateError(
                f"the state's database wrote {written} rows in the place of {count}", hint="host audit verify says more"
            )

    def record(self, event: Event) -> None:
        """Record a change. Raises ValueError for an event that is not one of `host.core.audit.CHANGES`."""
        if event.kind not in CHANGES:
            raise ValueError(f"{event.kind} is not a change")
        self.append([as_row(event)])

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows from `as_row`, in this order. Raises AuditError if the database does not say that it wrote them
        and no others."""
        for row in rows:
            row |= {"seq": self.last.seq + 1, "key": self.key.id}
            row["mac"] = chained(self.key, self.last.mac, [row[name] for name in FIELDS])
            self.last = Checkpoint(row["seq"], row["mac"])
        if (written := self.connection.execute(_APPEND, rows).rowcount) != len(rows):
            raise _miscounted(written, len(rows))


class AuditLog:
    """The audit sink that writes to the state. One per process, thread-safe."""

    def __init__(self, database: Database, keys: Keys, state_dir: Path) -> None:
        self.database = database
        self.keys = keys
        self.checkpoint_file = CheckpointFile(state_dir, database.name)
        self.counters_file = checkpoint_file(state_dir, database)
        self.digest_file = CheckpointFile(state_dir, database.name, kind="seal")
        self._appends: GroupCommit[Sequence[dict[str, Any]], None] = GroupCommit(self._append, _unwritten)

    def record(self, event: Event) -> None:
        """Returns once the record is committed. Records of threads that wait meanwhile share a transaction. Raises
        AuditError, and ValueError for a change: its record belongs into `changing`."""
        self.record_all((event,))

    def record_all(self, events: Sequence[Event]) -> None:
        """The same for several records, in this order: all of them are committed, or none."""
        for event in events:
            if event.kind in CHANGES:
                raise ValueError(f"{event.kind} is a change")
        self._appends.submit([*map(as_row, events)])

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """A write transaction for a change by the operator, with its records. It checks the state digest at the
        beginning. At the end it compares the tables with the state that was checked and what the change wrote, and
        writes a new digest (`host.store.state_digest`). An exception inside rolls back the change
        and its records. Raises StateError."""
        with self._appending() as change:
            key = self.keys.current(change.connection, "state")
            change.state = self.check(change.connection)
            if self.digest_file.read() is None or self.digest_file.torn_at() is not None:
                self.digest_file.replace(last_digest(change.connection), key)  # it exists before there is a new digest
            before = change.last
            yield change
            written = None
            if change.last != before:
                written = write_digest(change.connection, key, change.last.seq, change.state)
        if written is not None:
            self.digest_file.advance(written, key, durable=True)

    def check(self, connection: StateConnection) -> State:
        """Check the state digest (`host.store.state_digest`), and return what it covers. Raises StateError if other
        hands changed the state."""
        return check_digest(connection, self.keys, self.digest_file, shared=self.database.shared)

    @contextmanager
    def _appending(self, *, durable: bool = True) -> Iterator[Change]:
        """A write transaction at the end of the chain. A `durable` one may seal the state, so it begins with a check of
        the schema: nothing that others put there acts in it."""
        with self.database.writing(durable=durable) as connection:
            if durable:
                schema.check(connection)
            key, last, begun = self._end(connection)
            agrees = self._agrees_with_checkpoint(connection, last, key, begun=begun)
            change = Change(connection, key, last)
            if not agrees and begun and self._mended(connection, last, key):
                agrees = True
                change.append([as_row(Event("audit.mended", "", detail={"found": last.seq}))])
            yield change
        if agrees:
            self.checkpoint_file.advance(change.last, change.key, durable=durable)

    def _mended(self, connection: StateConnection, last: Checkpoint, key: DataKey) -> bool:
        """Write a checkpoint file anew that was torn when the state was made (`host.store.audit_log.chain`), if the
        chain verifies from its beginning to `last`. Returns whether it was."""
        if not torn_when_made(connection, self.keys, self.checkpoint_file):
            return False
        try:
            for _ in walk(connection, self.keys, Checkpoint()):
                pass
        except AuditBroken:
            return False
        self.checkpoint_file.replace(last, key)
        return True

    def accept(self) -> Checkpoint:
        """Accept the end of the audit log, the state, and the counts of limits, as they are: in place of what the
        checkpoints, the state digest and the MAC of the counts say. For a restored older copy, and after a power
        failure. Records that it was done, and returns the checkpoint of that record. Raises StateError."""
        stored = self.checkpoint_file.read()
        with self._appending() as change:
            detail = {"noted": None if stored is None else stored.checkpoint.seq, "found": change.last.seq}
            change.record(Event("audit.accepted", "", detail=detail))
            key = self.keys.current(change.connection, "state")
            written = write_digest(change.connection, key, change.last.seq, State(change.connection))
            counted = accept_counts(change.connection, self.keys, self.counters_file)
        self.checkpoint_file.replace(change.last, change.key)
        if counted is not None:
            self.counters_file.replace(*counted)
        self.digest_file.replace(written, key)
        return change.last

    def head(self) -> Checkpoint:
        """The last record, as the database has it: number 0 where there is none. Verifies nothing. Raises
        StateError."""
        with self.database.reading() as connection:
            row = connection.execute(_END).first()
        return Checkpoint() if row is None else Checkpoint(row.seq, row.mac)

    def check_writable(self) -> None:
        """Raises StateError if no record could be written now, or a key of the state does not open. It writes and
        removes a row, as a record would be written, and so finds a full disk and a database that may only be read."""
        with self.database.writing(durable=False) as connection:
            for ident in connection.execute(select(keys.c.id).where(keys.c.current)).scalars():
                self.keys.get(connection, ident)
            row = f"check-{secrets.token_hex(8)}"
            connection.execute(insert(cancellations).values(run=row, asked_at=0.0))
            connection.execute(delete(cancellations).where(cancellations.c.run == row))
        with self.checkpoint_file.held():
            pass

    def begun(self, connection: StateConnection) -> bool:
        """Whether there ever was a record, even if all are gone."""
        return bool(connection.execute(_ANY_KEY).scalar())

    def _append(self, given: Sequence[Sequence[dict[str, Any]]]) -> list[None]:
        """Write the records of all that was given in one transaction."""
        rows = [row for rows in given for row in rows]
        if not (self.database.quick and self._append_quickly(rows)):
            with within(self._appends.patience_s()), self._appending(durable=False) as change:
                change.append(rows)
        return [None] * len(given)

    def _append_quickly(self, rows: Sequence[dict[str, Any]]) -> bool:
        """The same as `_appending`, in plain SQL, for the usual case: the keys are open, and the checkpoint agrees with
        the end of the chain. Returns False in any other case, and has done nothing then."""
        with ExitStack() as stack:
            with self.database.appending() as connection:
                held = stack.enter_context(self.checkpoint_file.held())
                appended = self._appended(connection, None if held is None else held.stored, rows)
            if held is None or appended is None:
                return False
            held.advance(*appended)
        return True

    def _appended(
        self, connection: sqlite3.Connection, stored: StoredCheckpoint | None, rows: Sequence[dict[str, Any]]
    ) -> tuple[Checkpoint, DataKey] | None:
        """Appends `rows` to the chain and returns its new end and their key; None, with nothing done, in any but the
        usual case."""
        found = connection.execute(_QUICK_END).fetchone()
        key = self.keys.decrypted.get(found[2]) if found else None
        if key is None or stored is None or not isinstance(found[1], bytes):
            return None
        stored_key = key if stored.key == key.id else self.keys.decrypted.get(stored.key)
        if stored_key is None or not stored.authentic(stored_key):
            return None
        last = Checkpoint(found[0], found[1])
        if stored.checkpoint != last and not self._precedes(connection, stored.checkpoint, last):
            return None
        records = []
        for row in rows:
            row |= {"seq": last.seq + 1, "key": key.id}
            fields = [row[name] for name in FIELDS]
            last = Checkpoint(row["seq"], chained(key, last.mac, fields))
            records.append((*fields, last.mac))
        before = connection.total_changes
        connection.executemany(_QUICK_APPEND, records)
        if (written := connection.total_changes - before) != len(records):
            raise _miscounted(written, len(records))
        return last, key

    def _precedes(self, connection: sqlite3.Connection, checkpoint: Checkpoint, last: Checkpoint) -> bool:
        """Whether the checkpoint is a present record before `last`: another process is about to write the last one's
        checkpoint."""
        found = connection.execute(_QUICK_MAC, (checkpoint.seq,)).fetchone() if checkpoint.seq < last.seq else None
        return found is not None and isinstance(found[0], bytes) and hmac.compare_digest(found[0], checkpoint.mac)

    def _end(self, connection: StateConnection) -> tuple[DataKey, Checkpoint, bool]:
        """The key for the next record, the last record, and whether there ever was a record."""
        row = connection.execute(_END).first()
        begun = row is not None or self.begun(connection)  # asked before `current` makes a key
        last = Checkpoint() if row is None else Checkpoint(row.seq, row.mac)
        if row is None or row.key is None:
            return self.keys.current(connection, "audit"), last, begun
        return self.keys.get(connection, row.key), last, begun

    def _agrees_with_checkpoint(
        self, connection: StateConnection, last: Checkpoint, key: DataKey, *, begun: bool
    ) -> bool:
        """Whether the checkpoint may move on from `last`. It stays if its record is gone, or if the file is gone: that
        is evidence for `verify` to find and for the operator to decide on."""
        stored = self.checkpoint_file.read()
        unused = stored is None or not (stored.checkpoint.seq or last.seq)  # its first record was never committed
        if unused and (not begun or self.database.shared):  # a new state, or new to this machine
            self.checkpoint_file.replace(last, key)
            return True
        return (
            stored is not None and stored.is_ours(connection, self.keys) and _has(connection, last, stored.checkpoint)
        )


def as_row(event: Event) -> dict[str, Any]:
    """The event as a row of the table, without its place in the chain. Raises TypeError for a detail that is not
    JSON."""
    rule = event.rule and clean_text(event.rule).replace("\0", "\ufffd")  # PostgreSQL stores neither surrogates nor NUL
    return {
        "at": float(event.at),
        "run": event.run,
        "kind": event.kind,
        "decision": event.decision,
        "rule": rule,
        "detail": json.dumps(event.detail, separators=(",", ":")),
    }


def _equal(table: Table, where: Mapping[str, Any]) -> list[Expression]:
    return [table.c[name] == value for name, value in where.items()]


def _miscounted(written: int, expected: int) -> AuditError:
    return AuditError(
        f"{written} rows were written in the place of {expected}",
        hint="something in the database swallows or adds records: host audit verify",
    )


def _has(connection: StateConnection, last: Checkpoint, checkpoint: Checkpoint) -> bool:
    """Whether the record of the checkpoint is present, or was pruned."""
    if checkpoint.seq >= last.seq:
        return checkpoint == last
    mac = connection.execute(select(audit.c.mac).where(audit.c.seq == checkpoint.seq)).scalar()
    return checkpoint.seq <= last_pruned(connection).seq if mac is None else hmac.compare_digest(mac, checkpoint.mac)


def _unwritten(error: BaseException) -> AuditError:
    if isinstance(error, HostError):
        return AuditError(f"the record cannot be written: {error.message}", hint=error.hint)
    return AuditError(f"the record cannot be written: {type(error).__name__}")
