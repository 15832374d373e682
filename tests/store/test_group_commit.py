"""The requests of several threads, done by one of them in one commit."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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


def explained(error: BaseException) -> StateError:
    if isinstance(error, HostError):
        return StateError(error.message, hint=error.hint)
    return StateError(f"counting failed: {type(error).__name__}")


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        threading.Event().wait(0.001)


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


def test_after_a_batch_that_is_interrupted_others_go_on() -> None:
    interrupt = [True]

    def perform(numbers: Sequence[int]) -> list[int]:
        if interrupt:
            interrupt.clear()
            raise KeyboardInterrupt
        return list(numbers)

    together = GroupCommit(perform, explained)
    with pytest.raises(StateError, match="KeyboardInterrupt"):
        together.submit(1)
    assert together.submit(2) == 2


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    """Does not answer until the test ends, or lets it."""
    monkeypatch.setattr(GroupCommit.submit, "__defaults__", (0.3,))
    monkeypatch.setattr("host.store.group_commit.ANSWER_S", 0.3)
    slow = Slow()
    yield slow
    slow.go_on.set()


def given_up(together: GroupCommit[int, int], number: int) -> tuple[str, float]:
    """What a caller is told, and after how long."""
    began = time.monotonic()
    with pytest.raises(StateError) as caught:
        together.submit(number)
    return str(caught.value), time.monotonic() - began


def test_no_caller_waits_longer_than_it_may_however_long_the_database_takes(
    stuck: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GroupCommit.submit, "__defaults__", (1.0,))
    monkeypatch.setattr("host.store.group_commit.ANSWER_S", 1.0)
    together = GroupCommit(stuck, explained)
    with ThreadPoolExecutor(33) as threads:
        first = threads.submit(given_up, together, 0)
        assert stuck.begun.wait(PATIENCE_S)
        others = [threads.submit(given_up, together, number) for number in range(1, 33)]
        told = [one.result(PATIENCE_S) for one in (first, *others)]
    assert "it may still be done" in told[0][0]
    assert all("it was not begun" in said for said, _ in told[1:])
    assert max(took for _, took in told) < 20, "one after the other they would wait for 33 seconds"


def test_what_its_caller_gave_up_before_it_was_begun_is_never_done(stuck: Slow) -> None:
    together = GroupCommit(stuck, explained)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(given_up, together, 0)
        assert stuck.begun.wait(PATIENCE_S)
        assert "it was not begun" in given_up(together, 1)[0]
        assert "it may still be done" in first.result(PATIENCE_S)[0]
    stuck.go_on.set()
    until(lambda: together._began_at is None)
    assert together.submit(2, PATIENCE_S) == 4, "it is back, and goes on"
    assert stuck.batches == [[0], [2]]


def test_where_the_database_is_known_to_be_stuck_nobody_waits_at_all(stuck: Slow) -> None:
    together = GroupCommit(stuck, explained)
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(given_up, together, 0).result(PATIENCE_S)
        threading.Event().wait(0.1)  # it is over by a little more than its time
        began = time.monotonic()
        with pytest.raises(StateError, match="it was not begun"):
            together.submit(1, PATIENCE_S)
    assert time.monotonic() - began < PATIENCE_S / 2
    assert stuck.batches == [[0]]


def test_a_caller_that_is_interrupted_takes_its_request_back(stuck: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host.store.group_commit.ANSWER_S", float(PATIENCE_S))
    together, caller = GroupCommit(stuck, explained), threading.get_ident()

    def interrupt() -> None:
        until(lambda: len(together._queue) == 1)
        threading.Event().wait(0.05)  # from the queue to the wait it is not far
        signal.pthread_kill(caller, signal.SIGALRM)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(given_up, together, 0)
        assert stuck.begun.wait(PATIENCE_S)
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            interrupting = threads.submit(interrupt)
            with pytest.raises(KeyboardInterrupt):
                together.submit(1, PATIENCE_S)
            interrupting.result(PATIENCE_S)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert together._queue == []
        assert first.result(PATIENCE_S)
    stuck.go_on.set()
    until(lambda: together._began_at is None)
    assert stuck.batches == [[0]]


def test_without_a_thread_nothing_is_queued_and_nothing_is_done_later(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    def perform(numbers: Sequence[int]) -> list[int]:
        done.extend(numbers)
        return list(numbers)

    together = GroupCommit(perform, explained)
    with monkeypatch.context() as patched:
        patched.setattr("threading._start_new_thread", none_left)
        with pytest.raises(StateError, match="no thread can be started"):
            together.submit(1)
    assert together.submit(2) == 2
    assert done == [2]


def none_left(*_: object) -> int:
    raise RuntimeError("can't start new thread")


def test_its_thread_ends_with_the_last_reference_to_it() -> None:
    together = GroupCommit[int, int](list, explained)
    assert together.submit(1) == 1
    thread = together._thread
    assert thread is not None
    del together
    gc.collect()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
