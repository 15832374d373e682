"""The chain of records: what each record's mac covers, and walking along it.

How far the record had come when one was last acknowledged, noted in a file beside the database: without it, nobody
could tell that the last records were cut off. Each machine notes what it knows of a shared record itself, in a file for
each database.

The note carries a mac of its own, so that whoever cuts the record cannot write another to match. It is one line of
fixed length, written over the one before by one write within one block of the disk: a process that is killed leaves the
one or the other, whole. What no file can show by itself is a state put back as a whole, this file included.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, LargeBinary, cast, select

from host.core.strict_json import parse_object
from host.errors import AuditBroken, AuditError, InputError, VaultError
from host.store.tables import audit
from host.store.vault.keys import DataKey, Keys

FIELDS = ("seq", "at", "run", "kind", "decision", "rule", "detail", "key")
_AT_ONCE = 1_000  # rows in memory

_compact = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
_MAC = cast(audit.c.mac, LargeBinary).label("mac")  # bytes, whatever somebody put there
_CHECKED = select(*(audit.c[name] for name in FIELDS), _MAC)
_FIRST = select(audit.c.seq).order_by(audit.c.seq).limit(1)
_PRUNED = (
    select(audit.c.seq, audit.c.detail).where(audit.c.kind == "audit.pruned").order_by(audit.c.seq.desc()).limit(1)
)


def chained(key: DataKey, before: bytes, values: Sequence[Any]) -> bytes:
    """The mac of a record that follows the one whose mac is `before`: over the JSON array of its values, which are in
    the order of FIELDS. Raises TypeError for a value that no record has."""
    return hmac.digest(key.key, b"record\0" + before + _compact(values).encode(), "sha256")


def last_pruned(connection: Connection) -> Checkpoint:
    """The last record that was pruned, as the newest `audit.pruned` record names it."""
    row = connection.execute(_PRUNED).first()
    if row is None:
        return Checkpoint()
    try:
        detail = parse_object(row.detail, "the record")
        return Checkpoint(int(detail["through"]), bytes.fromhex(detail["mac"]))
    except (InputError, KeyError, TypeError, ValueError):
        raise _broken(row.seq) from None


def beginning(connection: Connection) -> Checkpoint:
    """What the first record that is there follows: nothing, or the last one that was pruned. Raises AuditBroken where
    records before it are gone that no `audit.pruned` record names. That record is one of the chain, and as good as it:
    whoever relies on it walks on to the end."""
    first = connection.execute(_FIRST).scalar()
    if first is None or first == 1:
        return Checkpoint()
    pruned = last_pruned(connection)
    if first <= pruned.seq:
        raise _broken(first)
    if first != pruned.seq + 1:
        raise missing(pruned.seq + 1, first - 1)
    return pruned


def walk(
    connection: Connection, keys: Keys, after: Checkpoint, through: int | None = None
) -> Iterator[tuple[Checkpoint, float]]:
    """Along the records after `after`, up to the number `through`: each, and when it was written, once it is found to
    be as it was then. Raises AuditBroken at the first that is not."""
    query = _CHECKED.where(audit.c.seq > after.seq).order_by(audit.c.seq)
    if through is not None:
        query = query.where(audit.c.seq <= through)
    before = after
    with connection.execute(query.execution_options(yield_per=_AT_ONCE)) as rows:
        for *values, mac in rows:
            seq, at, *_, key = values
            if seq != before.seq + 1:
                raise missing(before.seq + 1, seq - 1)
            try:
                expected = chained(keys.get(connection, key), before.mac, values)
            except VaultError as error:
                said = f"record {seq} cannot be checked: {error.message}"
                raise AuditBroken(said, seq=seq, hint=error.hint) from error
            except TypeError:  # a value of another type, which SQLite lets anybody put there
                raise _broken(seq) from None
            if not hmac.compare_digest(expected, mac):
                raise _broken(seq)
            before = Checkpoint(seq, mac)
            yield before, at


def missing(first: int, last: int) -> AuditBroken:
    which = f"record {first} is" if first == last else f"records {first} to {last} are"
    return AuditBroken(f"{which} missing", seq=first)


def _broken(seq: int) -> AuditBroken:
    return AuditBroken(f"record {seq} is not as it was written: it was changed, exchanged or put there", seq=seq)


_GENESIS = bytes(32)
_LONGEST = 512
_PATIENCE_S = 5.0  # for a lock that is held for microseconds


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A record by its number (0: before the first) and its mac."""

    seq: int = 0
    mac: bytes = _GENESIS

    def __str__(self) -> str:
        return f"{self.seq}:{self.mac.hex()}"


@dataclass(frozen=True, slots=True)
class NotedCheckpoint:
    """What the file says: a head, and the mac `tag` of it under the key named `key`. All empty where it says nothing
    that can be read."""

    head: Checkpoint = Checkpoint(0, b"")
    key: str = ""
    tag: bytes = b""

    def authentic(self, key: DataKey) -> bool:
        return hmac.compare_digest(self.tag, _tag(self.head, key))


class CheckpointFile:
    """Thread-safe, also between processes. `database` is the name that a Database has. Methods raise AuditError where
    the file cannot be read or written."""

    def __init__(self, state_dir: Path, database: str = "", *, of: str = "audit") -> None:
        self.path = state_dir / (f"{of}-{database}.head" if database else f"{of}.head")

    def read(self) -> NotedCheckpoint | None:
        """None where there is no file, or an empty one: made by a process that was killed before it could write."""
        with self._opened(os.O_RDONLY, fcntl.LOCK_SH) as file:
            return None if file is None else _read(file)

    def replace(self, head: Checkpoint, key: DataKey) -> None:
        """Note `head`, whatever was noted before."""
        with self._opened(os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX) as file:
            if file is not None:
                _write(file, head, key)

    def advance(self, head: Checkpoint, key: DataKey) -> None:
        """Note `head`, unless another process has noted a later one. A file that has gone stays away."""
        with self._opened(os.O_RDWR, fcntl.LOCK_EX) as file:
            if file is not None and (noted := _read(file)) is not None and noted.head.seq < head.seq:
                _write(file, head, key)

    @contextmanager
    def _opened(self, flags: int, lock: int) -> Iterator[int | None]:
        try:
            try:
                file = os.open(self.path, flags | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                yield None
                return
            try:
                _lock(file, lock)
                yield file
            finally:
                os.close(file)
        except OSError as error:
            raise AuditError(f"{str(self.path)!r} cannot be read or written: {error.strerror}") from None


def _lock(file: int, kind: int) -> None:
    """Raises BlockingIOError where a process holds the lock that does not go on: one that was stopped, say."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(0.001)
        else:
            return


def _read(file: int) -> NotedCheckpoint | None:
    text = os.pread(file, _LONGEST, 0).decode("ascii", "replace")
    if not text:
        return None
    try:
        seq, mac, key, tag = text.partition("\n")[0].split()
        return NotedCheckpoint(Checkpoint(int(seq), bytes.fromhex(mac)), key, bytes.fromhex(tag))
    except ValueError:
        return NotedCheckpoint()


def _write(file: int, head: Checkpoint, key: DataKey) -> None:
    line = f"{head.seq:020} {head.mac.hex()} {key.id} {_tag(head, key).hex()}\n".encode()
    os.pwrite(file, line, 0)


def _tag(head: Checkpoint, key: DataKey) -> bytes:
    return hmac.digest(key.key, b"head\0%020d" % head.seq + head.mac, "sha256")
