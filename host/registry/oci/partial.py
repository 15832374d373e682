"""A download that is not complete: a file named by the digest that it is to have, which the next attempt continues."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from host.errors import StateError
from host.names import Digest


class PartialFile:
    """`folder/<hex>`, readable by its owner alone, locked while it is open. Its content is anybody's word until it is
    verified whole. StateError where the file cannot be used, or another process is downloading the same."""

    def __init__(self, folder: Path, digest: Digest) -> None:
        self._path = folder / digest.hex
        self._digest = digest
        self._file = -1
        self.held = 0  # bytes

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            self._file = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            self._lock()
        except OSError as error:
            os.close(self._file)
            raise self._unusable(error) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._file)

    def append(self, piece: bytes) -> None:
        try:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            raise self._unusable(error) from None
        self.held += len(piece)

    def restart(self) -> None:
        """Throw away what is there."""
        os.ftruncate(self._file, 0)
        self.held = 0

    def discard(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)

    def verified(self) -> bytes | None:
        """The whole content, if it has the digest that it is to have."""
        try:
            with os.fdopen(os.dup(self._file), "rb") as file:
                file.seek(0)
                content = file.read()
        except OSError as error:
            raise self._unusable(error) from None
        return content if Digest.of(content) == self._digest else None

    def _lock(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(self._file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "not a file of ours")
        os.fchmod(self._file, 0o600)
        self.held = found.st_size

    def _unusable(self, error: OSError) -> StateError:
        if error.errno == errno.EWOULDBLOCK:
            return StateError(f"{self._digest} is being downloaded by another process")
        return StateError(f"cannot use {str(self._path)!r} for a download: {error.strerror}")
