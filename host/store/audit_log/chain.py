"""The chain of records, and the checkpoint of its end.

The MAC of each record covers the record and the MAC of the record before it. So a changed, missing, added or exchanged
record breaks the chain.

A chain whose last records were cut off is still a chain. Therefore a file beside the database holds a checkpoint: the
last record that was acknowledged. Machines that share a database have a file each. The checkpoint has a MAC of its own,
so that somebody who cuts the chain cannot write a matching one. No file can show that the whole state was put back to
an earlier day, this file included.

What a crash leaves of the file. It is made beside its place, synced, renamed and its folder synced, before the first
transaction of the state is committed: so it is there, whole, whenever there is a record. From then on its one line of
fixed length is overwritten by one write within one block of the disk: a process that is killed, or a loss of power,
leaves the old line or the new one, whole. An old line is no loss: the records after it have to continue the chain.

So a line that is empty, cut short or zeroed (torn) is not what a crash leaves, unless the disk or an earlier version of
this program did not sync the file when it was made. Cutting it is also what somebody would do who removes the last
records. The two differ in one thing that nobody can write: the time at which the file was changed last (`st_ctime`). A
loss of power takes what was written shortly before it, so it can tear a file that is as old as the first record, whose
MAC covers its time (`torn_when_made`). Such a file is written anew, from a chain that was verified from its first
record on, and a record says so. A file that was cut at any later time is evidence, and stays. What is left: somebody
who cuts the file and the log within two minutes of the state's first record removes records of those two minutes.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host.core.strict_json import parse_object
from host.core.waiting import left
from host.errors import AuditBroken, AuditError, InputError, VaultError
from host.store.connections import StateConnection
from host.store.database import sync_folder
from host.store.sql import as_bytes, select
from host.store.tables import audit
from host.store.vault.keys import DataKey, Keys

FIELDS = ("seq", "at", "run", "kind", "decision", "rule", "detail", "key")
_GENESIS = bytes(32)
_MOST_BYTES = 512  # of a checkpoint file
_SOON_S = 120.0  # after the first record; Linux writes back what is older than 30 s
_LINE = re.compile(rb"[0-9\0]{20}[ \0][0-9a-f\0]{64}[ \0][0-9a-z\0-]{22}[ \0][0-9a-f\0]{64}[\n\0]")
_LINE_BYTES = 20 + 1 + 64 + 1 + 22 + 1 + 64 + 1
_LOCK_TIMEOUT_S = 3.0  # the lock is held for one append and its commit at most

_compact = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
_MAC = as_bytes(audit.c.mac).label("mac")
_CHECKED = select(*(audit.c[name] for name in FIELDS), _MAC)
_FIRST = select(audit.c.seq).order_by(audit.c.seq).limit(1)
_PRUNED = (
    select(audit.c.seq, audit.c.detail).where(audit.c.kind == "audit.pruned").order_by(audit.c.seq.desc()).limit(1)
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A record, by its number and its MAC. Number 0 is the beginning, before the first record."""

    seq: int = 0
    mac: bytes = _GENESIS

    def __str__(self) -> str:
        return f"{self.seq}:{self.mac.hex()}"


def chained(key: DataKey, before: bytes, values: Sequence[Any]) -> bytes:
    """The MAC of the record that follows the one with the MAC `before`: over the JSON array of its `values`, in the
    order of FIELDS. Raises TypeError for a value of a type that no record has."""
    return hmac.digest(key.key, b"record\0" + before + _compact(values).encode(), "sha256")


def last_pruned(connection: StateConnection) -> Checkpoint:
    """The last record that was pruned, according to the newest `audit.pruned` record."""
    row = connection.execute(_PRUNED).first()
    if row is None:
        return Checkpoint()
    try:
        detail = parse_object(row.detail, "the record")
        return Checkpoint(int(detail["through"]), bytes.fromhex(detail["mac"]))
    except (InputError, KeyError, TypeError, ValueError):
        raise _broken(row.seq) from None


def beginning(connection: StateConnection) -> Checkpoint:
    """The checkpoint that the first present record follows: the beginning, or the last pruned record. Raises
    AuditBroken if earlier records are missing and no `audit.pruned` record covers them. The `audit.pruned` record is
    not verified here: it is a part of the chain, so a caller verifies it by walking to the end."""
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
    connection: StateConnection, keys: Keys, after: Checkpoint, through: int | None = None
) -> Iterator[tuple[Checkpoint, float]]:
    """Verify the records after `after`, up to the number `through`. Yields each verified record and its time. Raises
    AuditBroken at the first record that does not verify."""
    query = _CHECKED.where(audit.c.seq > after.seq).order_by(audit.c.seq)
    if through is not None:
        query = query.where(audit.c.seq <= through)
    before = after
    for *values, mac in connection.stream(query):
        seq, at, *_, key = values
        if seq != before.seq + 1:
            raise missing(before.seq + 1, seq - 1)
        try:
            expected = chained(keys.get(connection, key), before.mac, values)
        except VaultError as error:
            said = f"record {seq} cannot be checked: {error.message}"
            raise AuditBroken(said, seq=seq, hint=error.hint) from error
        except TypeError:  # SQLite stores values of any type in any column
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


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """The content of a checkpoint file: the checkpoint, and its MAC `tag` under the key with the id `key`. All empty if
    the file cannot be parsed."""

    checkpoint: Checkpoint = Checkpoint(0, b"")
    key: str = ""
    tag: bytes = b""

    def authentic(self, key: DataKey) -> bool:
        """Whether it was written with `key`."""
        return hmac.compare_digest(self.tag, _tag(self.checkpoint, key))

    def is_ours(self, connection: StateConnection, keys: Keys) -> bool:
        """Whether it was written with the key of this state that it names."""
        try:
            return self.authentic(keys.get(connection, self.key))
        except VaultError:
            return False


class HeldCheckpoint:
    """A checkpoint file while it is locked: what is in it, `stored`, and its advance."""

    def __init__(self, file: int) -> None:
        self._file = file
        self.stored = _parsed(os.pread(file, _MOST_BYTES, 0))

    @property
    def torn_at(self) -> float | None:
        """The time of the last change (Unix time) of a file that holds no line, or a part of one; None for any other
        content."""
        return os.fstat(self._file).st_ctime if _is_torn(os.pread(self._file, _MOST_BYTES, 0)) else None

    def advance(self, checkpoint: Checkpoint, key: DataKey, *, durable: bool = False) -> None:
        """See CheckpointFile.advance."""
        if self.stored is not None and self.stored.checkpoint.seq < checkpoint.seq:
            os.pwrite(self._file, _line(checkpoint, key), 0)
            if durable:
                os.fsync(self._file)

    def replace(self, checkpoint: Checkpoint, key: DataKey) -> None:
        """See CheckpointFile.replace."""
        line = _line(checkpoint, key)
        os.pwrite(self._file, line, 0)
        os.ftruncate(self._file, len(line))
        os.fsync(self._file)


class CheckpointFile:
    """A file with the checkpoint of one database, for this machine. Thread-safe, also between processes. `database` is
    the `name` of a Database; `kind` begins the file's name. Methods raise AuditError if the file cannot be read or
    written."""

    def __init__(self, state_dir: Path, database: str = "", *, kind: str = "audit") -> None:
        self.path = state_dir / (f"{kind}-{database}.head" if database else f"{kind}.head")

    def read(self) -> StoredCheckpoint | None:
        """None without a file, and for an empty file."""
        with self._opened(os.O_RDONLY, fcntl.LOCK_SH) as held:
            return None if held is None else held.stored

    def torn_at(self) -> float | None:
        """See HeldCheckpoint; None without a file."""
        with self._opened(os.O_RDONLY, fcntl.LOCK_SH) as held:
            return None if held is None else held.torn_at

    def replace(self, checkpoint: Checkpoint, key: DataKey) -> None:
        """Write `checkpoint`, in place of any other. The file and its name are on the disk once this returns."""
        with self.held() as held:
            if held is not None:
                held.replace(checkpoint, key)
                return
        self._create(_line(checkpoint, key))

    def advance(self, checkpoint: Checkpoint, key: DataKey, *, durable: bool = False) -> None:
        """Write `checkpoint` if it is later than the stored one; a `durable` one outlives a loss of power. Does not
        create the file: a missing file is evidence."""
        with self.held() as held:
            if held is not None:
                held.advance(checkpoint, key, durable=durable)

    def _create(self, line: bytes) -> None:
        draft = self.path.with_name(f".{self.path.name}.new")
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:  # noqa: PTH123 - with its mode from the start
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise AuditError(f"{str(self.path)!r} cannot be written: {error.strerror}") from None

    def held(self) -> AbstractContextManager[HeldCheckpoint | None]:
        """The file, locked against every other thread and process; None without a file. A write transaction of the
        database, where there is one as well, begins first."""
        return self._opened(os.O_RDWR, fcntl.LOCK_EX)

    @contextmanager
    def _opened(self, flags: int, lock: int) -> Iterator[HeldCheckpoint | None]:
        try:
            try:
                file = os.open(self.path, flags | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                yield None
                return
            try:
                _lock(file, lock)
                yield HeldCheckpoint(file)
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)  # closing would leave it to a child of a fork
                os.close(file)
        except OSError as error:
            raise AuditError(f"{str(self.path)!r} cannot be read or written: {error.strerror}") from None


def _lock(file: int, kind: int) -> None:
    """Raises BlockingIOError if another process keeps the lock, for example a stopped one."""
    until = None
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            until = until or time.monotonic() + left(_LOCK_TIMEOUT_S)
            if time.monotonic() > until:
                raise
            time.sleep(0.001)
        else:
            return


def torn_when_made(connection: StateConnection, keys: Keys, file: CheckpointFile) -> bool:
    """Whether `file` is torn, and was last changed when the state was made: see the head of this module."""
    torn_at = file.torn_at()
    if torn_at is None:
        return False
    try:
        return any(abs(torn_at - at) <= _SOON_S for _, at in walk(connection, keys, Checkpoint(), through=1))
    except AuditBroken:
        return False


def _line(checkpoint: Checkpoint, key: DataKey) -> bytes:
    return f"{checkpoint.seq:020} {checkpoint.mac.hex()} {key.id} {_tag(checkpoint, key).hex()}\n".encode()


def _parsed(content: bytes) -> StoredCheckpoint | None:
    if not content:
        return None
    try:
        seq, mac, key, tag = content.decode("ascii", "replace").partition("\n")[0].split()
        return StoredCheckpoint(Checkpoint(int(seq), bytes.fromhex(mac)), key, bytes.fromhex(tag))
    except ValueError:
        return StoredCheckpoint()


def _is_torn(content: bytes) -> bool:
    """Whether bytes of a line are missing at its end, or are zeros, and the others are what a line has there."""
    padded = content.ljust(_LINE_BYTES, b"\0")
    return b"\0" in padded[:-1] and _LINE.fullmatch(padded) is not None


def _tag(checkpoint: Checkpoint, key: DataKey) -> bytes:
    return hmac.digest(key.key, b"head\0%020d" % checkpoint.seq + checkpoint.mac, "sha256")
