"""The record of every run and of everything that the operator changes: only ever appended to.

Each record's mac, HMAC-SHA256 (RFC 2104) under a key that the state holds sealed, covers the record and the mac of the
one before it. A file beside the database keeps the head of that chain: how far it had come when a record was last
acknowledged. So an edit, a deletion, a swap or a cut at the end is found (`host.state.verification`).
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, insert, select

from host.audit import Event
from host.errors import AuditError, HostError
from host.state.database import Database
from host.state.keys import DataKey, Keys
from host.state.tables import audit

HEAD_FILE = "audit.head"
_GENESIS = bytes(32)


@dataclass(frozen=True, slots=True)
class Head:
    """The last record: its number (0: there is none) and its mac."""

    seq: int = 0
    mac: bytes = _GENESIS


class Change:
    """A write transaction of the state, and the records that go with it: both are kept, or neither is."""

    def __init__(self, connection: Connection, key: DataKey, head: Head) -> None:
        self.connection = connection
        self.head = head
        self._key = key

    def record(self, event: Event) -> None:
        row = {
            "seq": self.head.seq + 1,
            "at": event.at,
            "run": event.run,
            "kind": event.kind,
            "decision": event.decision,
            "rule": event.rule,
            "detail": json.dumps(event.detail, ensure_ascii=True, separators=(",", ":")),
            "key": self._key.id,
        }
        mac = chained(self._key, self.head.mac, row)
        self.connection.execute(insert(audit).values(**row, mac=mac))
        self.head = Head(self.head.seq + 1, mac)


class Journal:
    """An audit sink that keeps what it is given. One per process, thread-safe."""

    def __init__(self, database: Database, keys: Keys, state_dir: Path) -> None:
        self.database = database
        self.keys = keys
        self._head_file = state_dir / HEAD_FILE

    def record(self, event: Event) -> None:
        """Returns once the record is kept. Raises AuditError."""
        try:
            with self.changing() as change:
                change.record(event)
        except AuditError:
            raise
        except HostError as error:
            raise AuditError(f"the record cannot be written: {error.message}", hint=error.hint) from error

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """A write transaction that records what it changes. Raises StateError."""
        with self.database.writing() as connection:
            key = self.keys.current(connection, "audit")
            last = connection.execute(select(audit.c.seq, audit.c.mac).order_by(audit.c.seq.desc()).limit(1)).first()
            change = Change(connection, key, Head(last.seq, last.mac) if last else Head())
            yield change
        self._keep(change.head)

    def _keep(self, head: Head) -> None:
        """Note how far the chain has come, unless another process has noted more."""
        with open(os.open(self._head_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b", buffering=0) as file:  # noqa: PTH123 - with its mode
            fcntl.flock(file, fcntl.LOCK_EX)
            noted = file.read(200).split()
            if not noted or int(noted[0]) < head.seq:
                os.pwrite(file.fileno(), b"%020d %s\n" % (head.seq, head.mac.hex().encode()), 0)


def chained(key: DataKey, before: bytes, row: dict[str, object]) -> bytes:
    """The mac of a record that follows the one whose mac is `before`."""
    text = json.dumps(row, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hmac.digest(key.key, before + text.encode(), "sha256")
