"""Sandboxes that the runs of one API key share, where a policy says so."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from wasmtime import wat2wasm

from host import errors
from host.core.names import Digest
from host.run import Run
from host.sandbox import Instances, Sandbox, engine, instance, lanes
from tests.sandbox.conftest import component_text

COUNTS = """
  (i32.store (i32.const 100) (i32.add (i32.load (i32.const 100)) (i32.const 1)))
  (local.set $size (i32.load (i32.const 100)))
"""
"""Answers with as many bytes of its input as there were runs in its sandbox, this one included."""

SPINS_ON_AN_EMPTY_INPUT = "(if (i32.eqz (local.get $size)) (then (loop $l (br $l))))" + COUNTS


@pytest.fixture(autouse=True)
def two_narrow_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "NARROW_SANDBOXES", 2)


def linked(sandbox: Sandbox, body: str = COUNTS, *, shared_by_key: bool = True) -> Instances:
    wasm = bytes(wat2wasm(component_text(body=body)))
    return sandbox.load(wasm, Digest.of(wasm)).link({}, shared_by_key=shared_by_key)


@pytest.fixture
def for_key(new_call: Any) -> Any:
    def make(key: str, **limits: float) -> Run:
        run: Run = new_call(**limits)
        run.key = key
        return run

    return make


def seen(guest: Instances, run: Run) -> int:
    return len(guest.run("x" * 50, run))


def test_the_runs_of_a_key_share_a_sandbox_and_others_have_their_own(sandbox: Sandbox, for_key: Any) -> None:
    guest = linked(sandbox)
    runs = [for_key(key) for key in ("a", "a", "b", "a", "b", "", "")]
    assert [seen(guest, run) for run in runs] == [1, 2, 1, 3, 2, 1, 1]
    assert [run.meters.earlier_runs for run in runs] == [0, 1, 0, 2, 1, 0, 0]


def test_without_the_policy_a_key_has_a_fresh_sandbox_each_time(sandbox: Sandbox, for_key: Any) -> None:
    guest = linked(sandbox, shared_by_key=False)
    assert [seen(guest, for_key("a")) for _ in range(3)] == [1, 1, 1]


def test_the_same_component_linked_for_another_catalyst_shares_nothing(sandbox: Sandbox, for_key: Any) -> None:
    one, other = linked(sandbox), linked(sandbox)
    assert [seen(guest, for_key("a")) for guest in (one, other, one, other)] == [1, 1, 2, 2]


def test_runs_at_once_of_one_key_each_have_a_sandbox_of_their_own(sandbox: Sandbox, for_key: Any) -> None:
    guest = linked(sandbox)
    inside = threading.Barrier(2)

    def run(_: int) -> int:
        with sandbox.lanes.taken(lanes.Whose(guest._shared, "a")) as slot:  # type: ignore[arg-type]
            inside.wait(30)
            slot.kept, kept = None, slot.kept
            assert kept is None
        return 1

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(run, range(2))) == [1, 1]


@pytest.mark.parametrize("ending", ["a trap", "the deadline", "a long answer"])
def test_a_sandbox_whose_run_failed_is_not_shared_any_more(sandbox: Sandbox, for_key: Any, ending: str) -> None:
    guest = linked(sandbox, SPINS_ON_AN_EMPTY_INPUT)
    assert [seen(guest, for_key("a")) for _ in range(2)] == [1, 2]
    if ending == "a trap":
        with pytest.raises(errors.GuestTrap):
            guest.run("x" * (1 << 20), for_key("a"))
    elif ending == "the deadline":
        with pytest.raises(errors.DeadlineExceeded):
            guest.run("", for_key("a", timeout_s=0.2))
    else:
        with pytest.raises(errors.OutputTooLarge):
            guest.run("x" * 50, for_key("a", max_output_bytes=1))
    assert seen(guest, for_key("a")) == 1


def test_a_kept_sandbox_is_given_up_for_a_run_that_needs_its_slot(sandbox: Sandbox, for_key: Any) -> None:
    guest = linked(sandbox)
    assert [seen(guest, for_key(key)) for key in "ab"] == [1, 1]
    with sandbox.lanes.taken() as slot:
        assert slot.narrow
        assert seen(guest, for_key("b")) == 2, "the one that was idle for longest was given up"
    assert seen(guest, for_key("a")) == 1


def test_so_many_sandboxes_are_kept_and_no_more(places: Any, for_key: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "NARROW_SANDBOXES", 8)
    monkeypatch.setattr(lanes, "_MOST_IDLE", 2)
    sandbox = Sandbox(*places)
    guest = linked(sandbox)
    assert [seen(guest, for_key(key)) for key in "abcabc"] == [1] * 6, "each was given up for another key's"
    assert [seen(guest, for_key(key)) for key in "bcbc"] == [2, 2, 3, 3]
    assert sandbox.lanes._free == 8 - 2
    sandbox.close()
    assert sandbox.lanes._free == 8


def test_what_runs_on_the_wide_lane_is_not_kept(sandbox: Sandbox, for_key: Any) -> None:
    guest = linked(sandbox)
    with sandbox.lanes.taken(), sandbox.lanes.taken():
        assert [seen(guest, for_key("a")) for _ in range(3)] == [1, 1, 1]


def test_a_sandbox_has_so_many_runs_and_no_more(
    sandbox: Sandbox, for_key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance, "_MOST_RUNS", 3)
    guest = linked(sandbox)
    assert [seen(guest, for_key("a")) for _ in range(7)] == [1, 2, 3, 1, 2, 3, 1]


def test_a_sandbox_that_waited_for_too_long_is_not_used_again(
    sandbox: Sandbox, for_key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = linked(sandbox)
    assert seen(guest, for_key("a")) == 1
    monkeypatch.setattr(lanes, "_LONGEST_IDLE_S", 0.0)
    assert seen(guest, for_key("a")) == 1


def test_the_sandboxes_of_a_catalyst_that_is_gone_are_given_up_by_the_next_run(sandbox: Sandbox, for_key: Any) -> None:
    gone, guest = linked(sandbox), linked(sandbox)
    assert [seen(gone, for_key(key)) for key in "ab"] == [1, 1]
    last = weakref.ref(gone)
    del gone
    gc.collect()
    assert last() is None
    assert seen(guest, for_key("c")) == 1
    with sandbox.lanes.taken() as slot:
        assert slot.narrow
    assert seen(guest, for_key("c")) == 2


def test_a_closed_host_keeps_no_sandbox(sandbox: Sandbox, for_key: Any) -> None:
    guest = linked(sandbox)
    assert seen(guest, for_key("a")) == 1
    with sandbox.lanes.taken(lanes.Whose(guest._shared, "a")) as slot:  # type: ignore[arg-type]
        sandbox.close()
        assert slot.kept is not None
    assert sandbox.lanes._idle == []
    assert sandbox.lanes._free == 2


def test_without_a_pool_nothing_is_shared(places: Any, for_key: Any) -> None:
    sandbox = Sandbox(*places, pooling=False)
    guest = linked(sandbox)
    assert [seen(guest, for_key("a")) for _ in range(3)] == [1, 1, 1]
    sandbox.close()


def test_a_run_in_a_shared_sandbox_has_its_own_deadline(sandbox: Sandbox, for_key: Any) -> None:
    guest = linked(sandbox, SPINS_ON_AN_EMPTY_INPUT)
    assert seen(guest, for_key("a")) == 1
    for _ in range(2):
        with pytest.raises(errors.DeadlineExceeded):
            guest.run("", for_key("a", timeout_s=0.2))
        assert seen(guest, for_key("a")) == 1
