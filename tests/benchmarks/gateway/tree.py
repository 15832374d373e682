"""What a process and all that it started hold and have spent, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_GONE = (FileNotFoundError, ProcessLookupError)  # it ended while it was looked at


@dataclass(frozen=True)
class Tree:
    """The process `pid` and those below it, whichever there are at the moment."""

    pid: int

    def pids(self) -> list[int]:
        parents = {pid: int(fields[1]) for pid, fields in _all_stats()}
        found = [self.pid] if self.pid in parents else []
        for parent in found:  # grows as it goes
            found += [pid for pid, of in parents.items() if of == parent]
        return found

    def cpu_s(self) -> float:
        """User and system time, that of children which have ended included: it never falls while the root lives."""
        return sum(sum(map(int, fields[11:15])) for fields in map(_stat, self.pids()) if fields) * _TICK_S

    def rss_bytes(self) -> int:
        """Resident memory; what processes share counts for each of them."""
        return sum(int(fields[21]) for fields in map(_stat, self.pids()) if fields) * _PAGE

    def threads(self) -> int:
        return sum(int(fields[17]) for fields in map(_stat, self.pids()) if fields)

    def descriptors(self) -> int:
        return sum(len(self.open_files(pid)) for pid in self.pids())

    def open_files(self, pid: int) -> list[str]:
        """What the descriptors of one process stand for."""
        found = []
        with suppress(*_GONE):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(*_GONE):
                    found.append(str(descriptor.readlink()))
        return found


def _stat(pid: int) -> list[str]:
    """The fields of its `stat` from the third on (its state; then its parent's pid): none where it has ended. The second
    is a name in parentheses that may hold any character."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except _GONE:
        return []


def _all_stats() -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and (fields := _stat(int(folder.name))):
            yield int(folder.name), fields
