"""How many runs the system has room for."""

from __future__ import annotations

import resource
from contextlib import nullcontext
from pathlib import Path

import pytest

from host.errors import Busy
from host.runtime import room
from host.runtime.room import Memory, memory, most_runs


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(room, "_CGROUP", tmp_path)
    monkeypatch.setattr(room, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(room, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return tmp_path


@pytest.mark.parametrize(("descriptors", "runs"), [(1_024, 298), (64, 8), (1 << 20, 2_000)])
def test_as_many_as_there_are_descriptors_for(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch, descriptors: int, runs: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    assert most_runs(2_000) == runs


@pytest.mark.parametrize(("said", "runs"), [("1024\n", 480), ("max\n", 2_000), ("60\n", 8)])
def test_as_many_as_there_are_threads_for(cgroup: Path, said: str, runs: int) -> None:
    (cgroup / "pids.max").write_text(said)
    assert most_runs(2_000) == runs


def test_no_more_than_the_sandbox_has(cgroup: Path) -> None:
    assert most_runs(5) == 5


def test_the_memory_of_a_cgroup_counts_without_what_can_be_dropped(cgroup: Path) -> None:
    (cgroup / "memory.max").write_text("1000\n")
    (cgroup / "memory.current").write_text("990\n")
    (cgroup / "memory.stat").write_text("anon 100\nactive_file 500\ninactive_file 300\nslab_reclaimable 50\n")
    assert memory() == (860, 1_000)


def test_a_cgroup_is_found_where_the_process_is_in_one_below(cgroup: Path) -> None:
    (cgroup / "own").write_text("0::/system.slice/host.service\n")
    below = cgroup / "system.slice" / "host.service"
    below.mkdir(parents=True)
    (below / "pids.max").write_text("264\n")
    assert most_runs(2_000) == 100


def test_without_a_limit_of_a_cgroup_the_system_s_memory_counts(cgroup: Path) -> None:
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "meminfo").write_text("MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:  250 kB\n")
    assert memory() == (250 * 1024, 1000 * 1024)


def test_where_nobody_says_there_is_memory(cgroup: Path) -> None:
    free, whole = memory()
    assert free == whole


@pytest.mark.parametrize(
    ("free", "whole", "refused"),
    [
        pytest.param(50, 1_000, True, id="too small a part"),
        pytest.param(100, 1_000, False, id="a tenth"),
        pytest.param(80 << 30, 1 << 40, False, id="a small part of very much"),
        pytest.param(400 << 20, 1 << 40, True, id="next to nothing of very much"),
    ],
)
def test_attack_many_large_guests_do_not_take_the_last_memory(free: int, whole: int, refused: bool) -> None:
    found, now = [(whole, whole)], [100.0]
    one = Memory(lambda: found[0], lambda: now[0])
    one.check()
    found[0] = free, whole
    one.check()  # it was looked at a moment ago
    now[0] += 0.3
    with pytest.raises(Busy, match="too little memory") if refused else nullcontext():
        one.check()
    found[0] = whole, whole
    now[0] += 0.3
    one.check()
