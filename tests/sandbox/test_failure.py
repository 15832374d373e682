"""A failed run is classified from what the host knows and what the guest reported, never from an error's words."""

from __future__ import annotations

import pytest

from host import Catalyst, Host, Policy, errors
from tests.conftest import GUESTS, python_guest, wat


@pytest.fixture(scope="module")
def raises(host: Host) -> Catalyst:
    return host.load(python_guest(GUESTS / "raises"), policy=Policy(timeout="60s"))


def test_an_exception_comes_with_its_python_traceback(raises: Catalyst) -> None:
    with pytest.raises(errors.GuestException) as caught:
        raises.run({"how": "exception"})
    assert caught.value.exception == "ValueError"
    assert "a value that will not do" in caught.value.message
    assert 'app.py", line ' in caught.value.traceback
    assert "_answer" in caught.value.traceback


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        pytest.param("memory", errors.MemoryExceeded, id="a Python guest that runs out of memory"),
        pytest.param("recursion", errors.StackExhausted, id="a Python guest that recurses forever"),
        pytest.param("exit", errors.GuestException, id="a Python guest that wants to exit"),
    ],
)
def test_each_end_has_its_class(raises: Catalyst, how: str, expected: type[errors.HostError]) -> None:
    with pytest.raises(expected):
        raises.run({"how": how})
    assert raises.run({"how": "well"}).data == "well"


def test_a_python_loop_ends_at_its_deadline_and_at_its_cpu_time(host: Host) -> None:
    wasm = python_guest(GUESTS / "raises")
    with pytest.raises(errors.DeadlineExceeded):
        host.load(wasm, policy=Policy(timeout="300ms")).run({"how": "loop"})
    with pytest.raises(errors.CpuTimeExceeded):
        host.load(wasm, policy=Policy(cpu_time="300ms")).run({"how": "loop"})


def test_a_guest_cannot_pass_for_a_deadline_or_a_denial_by_what_it_says(raises: Catalyst, host: Host) -> None:
    with pytest.raises(errors.GuestTrap) as caught:
        host.load(wat("hostile/traps_at_once")).run({})
    assert type(caught.value) is errors.GuestTrap
