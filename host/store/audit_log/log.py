"""The record of every run and of everything that the operator changes: only ever appended to.

Each record's mac, HMAC-SHA256 (RFC 2104) under a key that the state holds sealed, covers the record and the mac of the
one before it (`host.store.audit_log.chain`). A file beside the database notes how far the chain has come. So an edit, a
deletion, a swap or a cut at the end is found (`host.store.audit_log.verification`).
"""

from __future__ import annotations

import hmac
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, exists, insert, select

from host.core.audit import CHANGES, Event
from host.core.strict_json import clean_text
from host.errors import AuditError, HostError, VaultError
from host.store.audit_log.chain import FIELDS, Checkpoint, CheckpointFile, NotedCheckpoint, chained, last_pruned
from host.store.database import Database
from host.store.group_commit import GroupCommit
from host.store.state_digest import check, seal
from host.store.tables import audit, keys
from host.store.vault.keys import DataKey, Keys

_APPEND = insert(audit)
_KEY = select(keys.c.id).where(keys.c.purpose == "audit", keys.c.current).scalar_subquery()
_END = select(audit.c.seq, audit.c.mac, _KEY.label("key")).order_by(audit.c.seq.desc()).limit(1)
_QUICK_END = (
    "SELECT seq, mac, (SELECT id FROM keys WHERE purpose = 'audit' AND current) FROM audit ORDER BY seq DESC LIMIT 1"
)
_QUICK_APPEND = (  # in the order of FIELDS
    "INSERT INTO audit (seq, at, run, kind, decision, rule, detail, key, mac) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_QUICK_MAC = "SELECT mac FROM audit WHERE seq = ?"
_ANY_KEY = select(exists().select_from(keys))  # the first is made with the first record, and all of them never go


class Change:
    """A write transaction of the state, and the records that go with it: both are kept, or neither is. `head` is the
    last record so far."""

    def __init__(self, connection: Connection, key: DataKey, head: Checkpoint) -> None:
        self.connection = connection
        self.key = key
        self.head = head

    def record(self, event: Event) -> None:
        """One of `host.core.audit.CHANGES`."""
        if event.kind not in CHANGES:
            raise ValueError(f"{event.kind} is not a change")
        self.append([as_row(event)])

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Records that `as_row` made, in this order."""
        for row in rows:
            row |= {"seq": self.head.seq + 1, "key": self.key.id}
            row["mac"] = chained(self.key, self.head.mac, [row[name] for name in FIELDS])
            self.head = Checkpoint(row["seq"], row["mac"])
        self.connection.execute(_APPEND, rows)


class AuditLog:
    """An audit sink that keeps what it is given. One per process, thread-safe."""

    def __init__(self, database: Database, keys: Keys, state_dir: Path) -> None:
        self.database = database
        self.keys = keys
        self.head_file = CheckpointFile(state_dir, database.name)
        self.seal_file = CheckpointFile(state_dir, database.name, of="seal")
        self._appends: GroupCommit[dict[str, Any], None] = GroupCommit(self._append, _unwritten)

    def record(self, event: Event) -> None:
        """Returns once the record is kept. Raises AuditError. (Of a change, the record is kept with it: `changing`.)

        A thread that finds another one writing waits; one of those that wait then writes for all of them, in one
        transaction.
        """
        if event.kind in CHANGES:
            raise ValueError(f"{event.kind} is a change")
        self._appends.submit(as_row(event))

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """A write transaction that records what it changes, and seals the outcome (`host.store.state_digest`). Raises
        StateError, also where what is there is not what was sealed. What is raised inside takes the change back, and
        its records with it."""
        with self._appending() as change:
            key = self.keys.current(change.connection, "state")
            self.check(change.connection)
            if self.seal_file.read() is None:  # a new state, or one that this machine is new to
                self.seal_file.replace(
                    Checkpoint(), key
                )  # so that there is a file before there is a seal to note in it
            before = change.head
            yield change
            made = None if change.head == before else seal(change.connection, key, change.head.seq)
        if made is not None:
            self.seal_file.advance(made, key)

    def check(self, connection: Connection) -> None:
        """That what is kept is what was sealed last (`host.store.state_digest`). Raises StateError."""
        check(connection, self.keys, self.seal_file, shared=self.database.shared)

    @contextmanager
    def _appending(self, *, durable: bool = True) -> Iterator[Change]:
        """A write transaction at the end of the chain."""
        with self.database.writing(durable=durable) as connection:
            key, last, begun = self._end(connection)
            follows = self._follows_note(connection, last, key, begun=begun)
            change = Change(connection, key, last)
            yield change
        if follows:
            self.head_file.advance(change.head, change.key)

    def accept(self) -> Checkpoint:
        """Take the end of the record as it is where the note of it says otherwise, and what is kept as it is where its
        seal does: after an older copy was restored, or a power failure. A record says that it was done. Returns the new
        head. Raises StateError."""
        noted = self.head_file.read()
        with self._appending() as change:
            detail = {"noted": None if noted is None else noted.head.seq, "found": change.head.seq}
            change.record(Event("audit.accepted", "", detail=detail))
            key = self.keys.current(change.connection, "state")
            made = seal(change.connection, key, change.head.seq)
        self.head_file.replace(change.head, change.key)
        self.seal_file.replace(made, key)
        return change.head

    def authentic(self, connection: Connection, note: NotedCheckpoint) -> bool:
        """Whether it was written with a key of this state."""
        try:
            return note.authentic(self.keys.get(connection, note.key))
        except VaultError:
            return False

    def begun(self, connection: Connection) -> bool:
        """Whether there ever was a record, though they may all be gone."""
        return bool(connection.execute(_ANY_KEY).scalar())

    def _append(self, rows: Sequence[dict[str, Any]]) -> list[None]:
        """Write the records `rows` in one transaction."""
        if not (self.database.quick and self._append_quickly(rows)):
            with self._appending(durable=False) as change:
                change.append(rows)
        return [None] * len(rows)

    def _append_quickly(self, rows: Sequence[dict[str, Any]]) -> bool:
        """What `_appending` does, in plain SQL, where all is as this program left it; False where it is not, or where
        that takes more to find out. Then nothing was done."""
        with self.database.appending() as connection:
            found = connection.execute(_QUICK_END).fetchone()
            note = self.head_file.read()
            key = self.keys.opened(found[2]) if found else None
            if key is None or note is None or not isinstance(found[1], bytes):
                return False
            noting = self.keys.opened(note.key)
            if noting is None or not note.authentic(noting):
                return False
            head = Checkpoint(found[0], found[1])
            if note.head != head and not self._noted_before(connection, note.head, head):
                return False
            records = []
            for row in rows:
                row |= {"seq": head.seq + 1, "key": key.id}
                head = Checkpoint(row["seq"], chained(key, head.mac, [row[name] for name in FIELDS]))
                records.append((*(row[name] for name in FIELDS), head.mac))
            connection.executemany(_QUICK_APPEND, records)
        self.head_file.advance(head, key)
        return True

    def _noted_before(self, connection: sqlite3.Connection, noted: Checkpoint, last: Checkpoint) -> bool:
        """Whether what was noted is a record before the last one: another process is about to note that."""
        found = connection.execute(_QUICK_MAC, (noted.seq,)).fetchone() if noted.seq < last.seq else None
        return found is not None and isinstance(found[0], bytes) and hmac.compare_digest(found[0], noted.mac)

    def _end(self, connection: Connection) -> tuple[DataKey, Checkpoint, bool]:
        """The key for the next record, the last one, and whether there ever was one."""
        row = connection.execute(_END).first()
        begun = row is not None or self.begun(connection)  # before there is a key for the next
        head = Checkpoint() if row is None else Checkpoint(row.seq, row.mac)
        if row is None or row.key is None:
            return self.keys.current(connection, "audit"), head, begun
        return self.keys.get(connection, row.key), head, begun

    def _follows_note(self, connection: Connection, last: Checkpoint, key: DataKey, *, begun: bool) -> bool:
        """Whether what comes after `last` may be noted. Not where the note speaks of records that are gone, or has gone
        itself, be it with all of them: that is evidence then, for `verify` to find and for the operator to decide on.
        """
        note = self.head_file.read()
        unused = note is None or (not note.head.seq and not last.seq)  # by a first record that was never committed
        if unused and (not begun or self.database.shared):  # a new state, or one that this machine is new to
            self.head_file.replace(last, key)
            return True
        return note is not None and self.authentic(connection, note) and _has(connection, last, note.head)


def as_row(event: Event) -> dict[str, Any]:
    """What an event is in the table, without its place in the chain. Raises TypeError for a detail that is not JSON."""
    return {
        "at": float(event.at),
        "run": event.run,
        "kind": event.kind,
        "decision": event.decision,
        "rule": clean_text(event.rule).replace("\0", "\ufffd"),  # neither of which PostgreSQL can hold
        "detail": json.dumps(event.detail, separators=(",", ":")),
    }


def _has(connection: Connection, last: Checkpoint, noted: Checkpoint) -> bool:
    """Whether the record that was noted is there, or was pruned."""
    if noted.seq >= last.seq:
        return noted == last
    mac = connection.execute(select(audit.c.mac).where(audit.c.seq == noted.seq)).scalar()
    return noted.seq <= last_pruned(connection).seq if mac is None else hmac.compare_digest(mac, noted.mac)


def _unwritten(error: Exception) -> AuditError:
    if isinstance(error, HostError):
        return AuditError(f"the record cannot be written: {error.message}", hint=error.hint)
    return AuditError(f"the record cannot be written: {type(error).__name__}")
