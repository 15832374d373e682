"""How many runs have a sandbox at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from host import Limits, errors
from host.run import Placeholders, Run, Stop
from host.runtime.threads import Slots
from host.secrets.redaction import Redactor


@pytest.fixture
def new_run() -> Callable[..., Run]:
    """A run with some limits set and nothing else of interest."""

    def make(**limits: float) -> Run:
        return Run(limits=Limits(**limits), sink=None, redactor=Redactor({}), placeholders=Placeholders())

    return make


def test_a_run_that_finds_no_sandbox_is_told_so_when_its_time_is_up(new_run) -> None:
    slots = Slots(1)
    with slots.taken(new_run()), pytest.raises(errors.Busy), slots.taken(new_run(timeout_s=0.1)):
        pass


def test_a_run_that_waits_for_a_sandbox_can_be_cancelled(new_run) -> None:
    slots = Slots(1)
    run = new_run(timeout_s=30)
    with slots.taken(new_run()):
        threading.Timer(0.05, run.cancel).start()
        with pytest.raises(errors.Cancelled), slots.taken(run):
            pass


def test_waiting_costs_no_cpu_time_of_the_run_however_long_its_thread_has_lived(new_run) -> None:
    slots = Slots(1)
    while time.thread_time() < 0.02:
        pass
    run = new_run(timeout_s=0.1, cpu_time_s=0.01)
    with slots.taken(new_run()), pytest.raises(errors.Busy), slots.taken(run):
        pass
    assert run.stopped is not Stop.CPU_TIME


def test_a_slot_is_given_back_however_the_run_ends(new_run) -> None:
    slots = Slots(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="x"), slots.taken(new_run()):
            raise ValueError("x")
    with slots.taken(new_run()):
        pass


def test_a_waiting_run_gets_the_slot_that_becomes_free(new_run) -> None:
    slots = Slots(1)
    got = threading.Event()

    def wait() -> None:
        with slots.taken(new_run(timeout_s=10)):
            got.set()

    with slots.taken(new_run()):
        thread = threading.Thread(target=wait)
        thread.start()
        assert not got.is_set()
    assert got.wait(5)
    thread.join()
