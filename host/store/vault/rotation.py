"""A note of a rotation of the master key, so that what a killed one leaves behind is cleared.

A rotation makes a new master key, encrypts the data keys with it in one transaction, and removes the old one. A process
that is killed before the commit leaves the new key behind, one that is killed after it the old key. Neither can be told
by itself from the key of another state in the same folder, or in the same keyring. So the rotation notes both ids
first, in a file of the state directory that it keeps locked. Whoever opens the state next and can lock the note removes
the key of the two that no data key is encrypted with, and the note.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from host.core.strict_json import parse_object
from host.errors import HostError, InputError, VaultError
from host.store.database import sync_folder

_PATTERN: Final = "rotation-*.note"
_MOST_BYTES: Final = 1024

Note = Callable[[str, str], None]


@contextmanager
def noted(state_dir: Path) -> Iterator[Note]:
    """Inside, a rotation is under way. Calls the given function with the ids of the old and the new master key before
    the new one is stored anywhere. The note is removed at the end; an exception leaves it to `unfinished`, as does the
    end of the process. Raises VaultError."""
    path = state_dir / f"rotation-{secrets.token_hex(4)}.note"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise VaultError(f"cannot write {str(path)!r}: {error.strerror}") from None

    def note(before: str, after: str) -> None:
        try:
            os.pwrite(file, json.dumps({"before": before, "after": after}).encode(), 0)
            os.fsync(file)
            sync_folder(state_dir)
        except OSError as error:
            raise VaultError(f"cannot write {str(path)!r}: {error.strerror}") from None

    try:
        yield note
        path.unlink(missing_ok=True)
    finally:
        if not os.fstat(file).st_size:
            path.unlink(missing_ok=True)
        fcntl.flock(file, fcntl.LOCK_UN)  # closing would leave it to a child of a fork
        os.close(file)


def unfinished(state_dir: Path, clear: Note) -> None:
    """Call `clear` with the ids of the two master keys of each rotation that was killed, and remove its note. `clear`
    raises HostError where it cannot say now which one is in use: then the note stays."""
    for path in state_dir.glob(_PATTERN):
        with suppress(OSError):
            _finish(path, clear)


def _finish(path: Path, clear: Note) -> None:
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises BlockingIOError while the rotation is alive
        try:
            said = parse_object(os.pread(file, _MOST_BYTES, 0), "the note", most=10)
            both: tuple[str, str] | None = (str(said["before"]), str(said["after"]))
        except (InputError, KeyError):
            both = None  # killed before there was a key
        with suppress(HostError):
            if both is not None:
                clear(*both)
            path.unlink(missing_ok=True)
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)  # closing would leave it to a child of a fork
        os.close(file)
