"""How many runs the system has room for at once, beside what the sandbox has; and whether it has memory for another."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from host.errors import Busy

_LEAST: Final = 8  # whatever the system says: each is refused by itself where there is no room
_OWN_DESCRIPTORS: Final = 128  # of the process itself: its database, its log, its listeners
_OF_A_RUN: Final = 3  # descriptors: its caller's connection, the upstream's, and one to wake it
_OWN_THREADS: Final = 64
_OF_THREADS: Final = 2  # for each run one, and one for another that waits for its slot
_CGROUP: Final = Path("/sys/fs/cgroup")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")
_MEMORY: Final = Path("/proc/meminfo")
_LOOK_S: Final = 0.25  # between two looks at the memory
_LEAST_SHARE: Final = 0.08  # of the memory, that is kept free of new runs; and no more than this many bytes
_LEAST_BYTES: Final = 512 << 20
_RECLAIMABLE: Final = ("inactive_file", "active_file", "slab_reclaimable")  # of a cgroup, when it needs them


def most_runs(slots: int) -> int:
    """At most `slots`, and as many as there are descriptors (`ulimit -n`) and threads (the cgroup's `pids.max`) for."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = slots
    if descriptors != resource.RLIM_INFINITY:
        room = min(room, (descriptors - _OWN_DESCRIPTORS) // _OF_A_RUN)
    if (threads := _most_threads()) is not None:
        room = min(room, (threads - _OWN_THREADS) // _OF_THREADS)
    return min(slots, max(_LEAST, room))


class Memory:
    """Whether there is memory for another run: runs may each have as much as their policy says, and a system without
    any ends one of its processes. Thread-safe."""

    def __init__(
        self, look: Callable[[], tuple[int, int]] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`look` returns the bytes that are free, and those that there are."""
        self._look, self._clock = look or memory, clock
        self._lock = threading.Lock()
        self._next, self._short = 0.0, False

    def check(self) -> None:
        """Raises Busy where there is too little."""
        if (now := self._clock()) >= self._next and self._lock.acquire(blocking=False):
            try:
                free, whole = self._look()
                self._short, self._next = free < min(_LEAST_SHARE * whole, _LEAST_BYTES), now + _LOOK_S
            finally:
                self._lock.release()
        if self._short:
            raise Busy("there is too little memory for another run", hint="set max_runs, or a lower max_memory_bytes")


def memory() -> tuple[int, int]:
    """The bytes of memory that are free or can be made so, and those that there are: of the cgroup, if it has a limit,
    or of the system. As much as there is, where nobody says."""
    group = _cgroup()
    if (most := _number(group / "memory.max")) is not None and (held := _number(group / "memory.current")):
        known = _fields(group / "memory.stat")
        return most - held + sum(known.get(name, 0) for name in _RECLAIMABLE), most
    known = _fields(_MEMORY)
    return 1024 * known.get("MemAvailable:", 1), 1024 * known.get("MemTotal:", 1)


def _cgroup() -> Path:
    """Of this process: version 2 of cgroups."""
    try:
        lines = _OWN_CGROUP.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return _CGROUP
    below = next((line.removeprefix("0::").lstrip("/") for line in lines if line.startswith("0::")), "")
    return found if (found := _CGROUP / below).is_dir() else _CGROUP


def most_waiting(threads: int) -> int:
    """At most so many `threads` for runs that wait for a slot, and as many as are left beside the others'."""
    most = _most_threads()
    return threads if most is None else min(threads, max(_LEAST, (most - _OWN_THREADS) // _OF_THREADS))


def _most_threads() -> int | None:
    return _number(_cgroup() / "pids.max")


def _number(file: Path) -> int | None:
    """The number in the file; None for `max`, and where there is none."""
    try:
        said = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(said) if said.isdigit() else None


def _fields(file: Path) -> dict[str, int]:
    try:
        lines = [line.split() for line in file.read_text(encoding="ascii").splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}
