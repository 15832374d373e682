"""The two lanes: a few slots that are there from the start, and many for a crowd."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from wasmtime import WasmtimeError, wat2wasm

from host import errors
from host.core.names import Digest
from host.sandbox import Instances, Sandbox, engine
from host.sandbox.lanes import Lanes
from tests.sandbox.conftest import component_text

MARKS = """
  (if (i32.load (i32.const 100)) (then unreachable))
  (if (i32.load (i32.const 70000)) (then unreachable))
  (i32.store (i32.const 100) (i32.const 1))
  (i32.store (i32.const 70000) (i32.const 1))
"""
"""Traps where it finds the marks of another run."""


@pytest.fixture
def places(places: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(engine, "NARROW_SANDBOXES", 2)
    return places


def linked(sandbox: Sandbox, body: str) -> Instances:
    wasm = bytes(wat2wasm(component_text(body=body)))
    return sandbox.load(wasm, Digest.of(wasm)).link({})


@pytest.mark.parametrize("held", [0, 1, 2], ids=["narrow", "the last narrow one", "wide"])
def test_nothing_of_a_run_is_left_for_the_next_one_in_its_slot(sandbox: Sandbox, new_call: Any, held: int) -> None:
    marks = linked(sandbox, MARKS)
    with ExitStack() as others:
        for _ in range(held):
            assert others.enter_context(sandbox.lanes.taken()).narrow
        for _ in range(20):
            assert marks.run("x", new_call()) == "x"


def test_runs_beyond_the_narrow_slots_run_all_the_same_and_end_at_their_deadline(
    sandbox: Sandbox, new_call: Any
) -> None:
    spins = linked(sandbox, "(loop $l (br $l))")
    started = threading.Barrier(12)

    def run() -> None:
        started.wait(30)
        with pytest.raises(errors.DeadlineExceeded):
            spins.run("x", new_call(timeout_s=0.5))

    with ThreadPoolExecutor(12) as threads:
        for done in [threads.submit(run) for _ in range(12)]:
            done.result(60)
    assert spins._wide is not None
    with sandbox.lanes.taken() as slot:
        assert slot.narrow, "they gave their slots back"


def test_the_wide_lane_is_not_made_before_it_is_needed(sandbox: Sandbox, new_call: Any) -> None:
    echo = linked(sandbox, "")
    for _ in range(5):
        assert echo.run("x", new_call()) == "x"
    assert "wide" not in vars(sandbox.lanes)


def test_without_room_for_the_wide_lane_a_run_is_told_that_there_is_none(
    sandbox: Sandbox, new_call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(lanes: Lanes) -> None:
        raise WasmtimeError("mmap failed")

    monkeypatch.setattr(Lanes, "wide", property(none))
    echo = linked(sandbox, "")
    with sandbox.lanes.taken(), sandbox.lanes.taken(), pytest.raises(errors.Busy):
        echo.run("x", new_call())
    assert echo.run("x", new_call()) == "x"


def test_as_many_slots_are_there_as_the_address_space_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reserved = engine.MEMORY_RESERVATION + engine.MEMORY_GUARD
    monkeypatch.setattr(engine, "_reservable", lambda wanted: wanted < 300 * reserved)
    assert engine.wide_slots() == 250
    monkeypatch.setattr(engine, "_reservable", lambda wanted: wanted < 100 * reserved)
    assert engine.wide_slots() == 0
    assert Lanes(pooling=True).slots == engine.NARROW_SANDBOXES


def test_a_pool_without_room_is_a_refusal_and_not_the_end_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_reservable", lambda _: False)
    with pytest.raises(errors.Busy, match="no address space"):
        Lanes(pooling=True)
    assert Lanes(pooling=False).slots == engine.UNPOOLED_SANDBOXES


def test_engines_that_are_made_at_once_do_not_end_the_process() -> None:
    """Each sees the same room; in a process of its own, with room for some."""
    program = (
        "import resource, threading; from host.errors import Busy; from host.sandbox import engine\n"
        "resource.setrlimit(resource.RLIMIT_AS, (300 << 30,) * 2)\n"
        "made, start = [], threading.Barrier(16)\n"
        "def make():\n"
        "    start.wait()\n"
        "    try: made.append(engine.new_engine(engine.NARROW_SANDBOXES))\n"
        "    except Busy: pass\n"
        "threads = [threading.Thread(target=make) for _ in range(16)]\n"
        "[one.start() for one in threads]; [one.join() for one in threads]\n"
        "print(len(made))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 1 <= int(done.stdout) < 16


def test_a_child_of_a_fork_makes_engines_although_the_parent_was_making_one() -> None:
    program = (
        "import os, sys; from host.sandbox import engine\n"
        "engine._making.acquire()\n"
        "if (child := os.fork()) == 0:\n"
        "    engine.new_engine(engine.NARROW_SANDBOXES); os._exit(0)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("gib", [20, 40, 50, 60, 80])
def test_little_address_space_does_not_end_the_process(gib: int) -> None:
    program = (
        "import resource, sys; from host.sandbox import engine; from host.sandbox.lanes import Lanes;"
        "resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]) << 30,) * 2);"
        "print(Lanes(pooling=engine.pool_fits()).slots)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(gib)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 8
