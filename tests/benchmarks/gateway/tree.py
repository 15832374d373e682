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

    def pss_bytes(self) -> int:
        """Resident memory, with a page that several mappings share counted once: that of a component, for example, which
        all its sandboxes map."""
        return sum(map(_proportional, self.pids()))

    def own_bytes(self) -> int:
        """Resident memory that maps no file: heaps and stacks. Not the sandboxes', which map their component's file."""
        return sum(map(_without_files, self.pids()))

    def threads(self) -> int:
        return sum(int(fields[17]) for fields in map(_stat, self.pids()) if fields)

    def descriptors(self) -> int:
        return sum(map(_descriptors, self.pids()))


def _proportional(pid: int) -> int:
    with suppress(*_GONE):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0


def _descriptors(pid: int) -> int:
    with suppress(*_GONE):
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return 0


def _without_files(pid: int) -> int:
    found, counts = 0, False
    with suppress(*_GONE):
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            name, _, rest = line.partition(" ")
            if not name.endswith(":"):  # the head of a mapping: addresses, and at the end the path, if it has one
                counts = len(fields := rest.split()) < 5 or fields[4].startswith("[")
            elif counts and name == "Rss:":
                found += int(rest.split()[0]) << 10
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
