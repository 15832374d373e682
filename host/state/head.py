"""How far the record had come when one was last acknowledged, noted in a file beside the database: without it, nobody
could tell that the last records were cut off. Each machine notes what it knows of a shared record itself, in a file for
each database.

The note carries a mac of its own, so that whoever cuts the record cannot write another to match. It is one line of
fixed length, written over the one before by one write within one block of the disk: a process that is killed leaves
the one or the other, whole. What no file can show by itself is a state put back as a whole, this file included.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from host.errors import AuditError
from host.state.keys import DataKey

_GENESIS = bytes(32)
_LONGEST = 512
_PATIENCE_S = 5.0  # for a lock that is held for microseconds


@dataclass(frozen=True, slots=True)
class Head:
    """A record by its number (0: before the first) and its mac."""

    seq: int = 0
    mac: bytes = _GENESIS

    def __str__(self) -> str:
        return f"{self.seq}:{self.mac.hex()}"


@dataclass(frozen=True, slots=True)
class Note:
    """What the file says: a head, and the mac `tag` of it under the key named `key`. All empty where it says nothing
    that can be read."""

    head: Head = Head(0, b"")
    key: str = ""
    tag: bytes = b""

    def authentic(self, key: DataKey) -> bool:
        return hmac.compare_digest(self.tag, _tag(self.head, key))


class HeadFile:
    """Thread-safe, also between processes. `database` is the name that a Database has. Methods raise AuditError where
    the file cannot be read or written."""

    def __init__(self, state_dir: Path, database: str = "", *, of: str = "audit") -> None:
        self.path = state_dir / (f"{of}-{database}.head" if database else f"{of}.head")

    def read(self) -> Note | None:
        """None where there is no file, or an empty one: made by a process that was killed before it could write."""
        with self._opened(os.O_RDONLY, fcntl.LOCK_SH) as file:
            return None if file is None else _read(file)

    def replace(self, head: Head, key: DataKey) -> None:
        """Note `head`, whatever was noted before."""
        with self._opened(os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX) as file:
            if file is not None:
                _write(file, head, key)

    def advance(self, head: Head, key: DataKey) -> None:
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


def _read(file: int) -> Note | None:
    text = os.pread(file, _LONGEST, 0).decode("ascii", "replace")
    if not text:
        return None
    try:
        seq, mac, key, tag = text.partition("\n")[0].split()
        return Note(Head(int(seq), bytes.fromhex(mac)), key, bytes.fromhex(tag))
    except ValueError:
        return Note()


def _write(file: int, head: Head, key: DataKey) -> None:
    line = f"{head.seq:020} {head.mac.hex()} {key.id} {_tag(head, key).hex()}\n".encode()
    os.pwrite(file, line, 0)


def _tag(head: Head, key: DataKey) -> bytes:
    return hmac.digest(key.key, b"head\0%020d" % head.seq + head.mac, "sha256")
