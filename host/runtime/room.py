"""How many runs the system has room for at once, beside what the sandbox has."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

_LEAST: Final = 8  # whatever the system says: each is refused by itself where there is no room
_OWN_DESCRIPTORS: Final = 128  # of the process itself: its database, its log, its listeners
_OF_A_RUN: Final = 3  # descriptors: its caller's connection, the upstream's, and one to wake it
_OWN_THREADS: Final = 64
_OF_THREADS: Final = 2  # for each run one, and one for another that waits for its slot
_MOST_PROCESSES: Final = Path("/sys/fs/cgroup/pids.max")  # threads count, too


def most_runs(slots: int) -> int:
    """At most `slots`, and as many as there are descriptors (`ulimit -n`) and threads (the cgroup's `pids.max`) for."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = slots
    if descriptors != resource.RLIM_INFINITY:
        room = min(room, (descriptors - _OWN_DESCRIPTORS) // _OF_A_RUN)
    if (threads := _most_threads()) is not None:
        room = min(room, (threads - _OWN_THREADS) // _OF_THREADS)
    return min(slots, max(_LEAST, room))


def _most_threads() -> int | None:
    try:
        said = _MOST_PROCESSES.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(said) if said.isdigit() else None
