"""The requests of several threads, done by one of them in one commit."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from host.errors import HostError, InputError, StateError
from host.store.group_commit import GroupCommit

PATIENCE_S = 60


class Slow:
    """Returns squares. The first call waits until the test lets it go on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.begun.set()
        assert self.go_on.wait(PATIENCE_S)
        return [number * number for number in numbers]


def explained(error: Exception) -> StateError:
    if isinstance(error, HostError):
        return StateError(error.message, hint=error.hint)
    return StateError(f"counting failed: {type(error).__name__}")


def until_they_wait(together: GroupCommit[int, int], many: int) -> None:
    """Waits until this many threads wait for the one at work."""
    while len(together._queue) < many:
        threading.Event().wait(0.001)


def test_each_gets_its_own_answer() -> None:
    together = GroupCommit[int, int](lambda numbers: [number * number for number in numbers], explained)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(together.submit, range(200))) == [number * number for number in range(200)]


def test_those_that_wait_are_done_at_once() -> None:
    slow = Slow()
    together = GroupCommit(slow, explained)
    with ThreadPoolExecutor(6) as threads:
        first = threads.submit(together.submit, 0)
        assert slow.begun.wait(PATIENCE_S)
        others = [threads.submit(together.submit, number) for number in range(1, 6)]
        until_they_wait(together, 5)
        slow.go_on.set()
        assert [one.result(PATIENCE_S) for one in (first, *others)] == [0, 1, 4, 9, 16, 25]
    assert [sorted(batch) for batch in slow.batches] == [[0], [1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(
            StateError("the disk is full", hint="make room"), "the disk is full (make room)", id="a StateError"
        ),
        pytest.param(InputError("no"), "no", id="another of ours"),
        pytest.param(ValueError("sk-secret"), "counting failed: ValueError", id="another's, without its words"),
    ],
)
def test_what_fails_fails_for_each_with_an_error_of_its_own(error: Exception, said: str) -> None:
    slow = Slow()

    def fail(numbers: Sequence[int]) -> list[int]:
        slow(numbers)
        raise error

    together = GroupCommit(fail, explained)
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(together.submit, 0)]
        assert slow.begun.wait(PATIENCE_S)
        asked += [threads.submit(together.submit, number) for number in (1, 2)]
        until_they_wait(together, 2)
        slow.go_on.set()
        errors = [one.exception(PATIENCE_S) for one in asked]
    assert [str(one) for one in errors] == [said] * 3
    assert {type(one) for one in errors} == {StateError}
    assert len({id(one) for one in errors}) == 3


def test_after_a_thread_that_is_interrupted_others_go_on() -> None:
    interrupt = [True]

    def perform(numbers: Sequence[int]) -> list[int]:
        if interrupt:
            interrupt.clear()
            raise KeyboardInterrupt
        return list(numbers)

    together = GroupCommit(perform, explained)
    with pytest.raises(KeyboardInterrupt):
        together.submit(1)
    assert together.submit(2) == 2
