"""A scratch folder for one test run: in memory where the system has room, and removed at the end.

A run that was killed leaves its folder behind. The next run removes it: the lock of a dead run is free.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

IN_MEMORY = Path("/dev/shm")
PREFIX = f"host-tests-{os.getuid()}-"
ROOM_BYTES = 4 << 30  # a few test processes with several copies of an 18 MB component each
BEGINNING_S = 60  # in which a run has locked its folder


class Scratch:
    """A new folder. Every test process of the run inherits its name in TMPDIR and PYTEST_DEBUG_TEMPROOT."""

    def __init__(self) -> None:
        parent = IN_MEMORY if _has_room(IN_MEMORY) else Path(tempfile.gettempdir())
        remove_abandoned(parent)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self.folder.chmod(0o711)  # PostgreSQL runs as another user, and passes through
        self._lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.environ["TMPDIR"] = os.environ["PYTEST_DEBUG_TEMPROOT"] = str(self.folder)
        tempfile.tempdir = None  # so that it reads TMPDIR again

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def remove_abandoned(parent: Path) -> None:
    """Remove the folders in `parent` of runs that have ended without removing them."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime < BEGINNING_S:
                continue
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _has_room(folder: Path) -> bool:
    try:
        return os.access(folder, os.W_OK | os.X_OK) and shutil.disk_usage(folder).free >= ROOM_BYTES
    except OSError:
        return False
