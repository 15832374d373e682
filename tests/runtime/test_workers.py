"""Threads for work that blocks: nothing is done whose caller was told that it is not, and no caller waits for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from host.core.waiting import left, start, within
from host.errors import Busy, StateError
from host.runtime.executor import RunExecutor
from host.runtime.threads import Workers
from tests.conftest import late, with_enough_time
from tests.server.conftest import until

PATIENCE_S = 60.0


def none_left(*_: object) -> int:
    raise RuntimeError("can't start new thread")


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """The system has no thread left, until it is called."""
    with monkeypatch.context() as patched:
        patched.setattr("threading._start_new_thread", none_left)
        yield patched.undo


class Stuck:
    """Work that does not end before the test lets it."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.time_left: list[float] = []

    def __call__(self) -> None:
        self.time_left.append(left(1e9))
        self.begun.release()
        assert self.go_on.wait(PATIENCE_S)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    made = Stuck()
    yield made
    made.go_on.set()


@pytest.mark.parametrize("waits", [True, False])
def test_work_that_no_thread_can_be_started_for_is_refused_and_never_done(
    no_threads: Callable[[], None], *, waits: bool
) -> None:
    done: list[int] = []
    workers = Workers("test", 4, waits=waits)
    with pytest.raises(Busy, match="no thread can be started"):
        workers.submit(lambda: done.append(1))
    no_threads()
    workers.submit(lambda: done.append(2)).result(PATIENCE_S)
    assert done == [2]


def test_a_run_that_no_thread_can_be_started_for_is_refused_and_never_begins(no_threads: Callable[[], None]) -> None:
    done: list[int] = []
    executor = RunExecutor(2)
    with pytest.raises(Busy):
        executor.submit(lambda: done.append(1))
    no_threads()
    executor.submit(lambda: done.append(2)).result(PATIENCE_S)
    executor.close()
    assert done == [2]


def test_with_fewer_threads_than_allowed_work_waits_for_those_there_are(stuck: Stuck) -> None:
    workers = Workers("test", 4)
    first = workers.submit(stuck)
    assert stuck.begun.acquire(timeout=PATIENCE_S)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("threading._start_new_thread", none_left)
        second = workers.submit(lambda: "done")
        stuck.go_on.set()
        assert second.result(PATIENCE_S) == "done"
    assert first.result(PATIENCE_S) is None


def test_where_nothing_may_wait_work_beyond_the_threads_is_refused_at_once(stuck: Stuck) -> None:
    workers = Workers("test", 1, waits=False)
    workers.submit(stuck)
    with pytest.raises(Busy, match="all 1 threads are at work"):
        workers.submit(lambda: None)


def test_however_many_wait_for_what_is_stuck_each_is_told_in_time_and_none_is_done_later() -> None:
    with_enough_time(_many_wait_for_what_is_stuck, 0.6)


def _many_wait_for_what_is_stuck(within_s: float) -> None:
    stuck, workers, done = Stuck(), Workers("test", 4), list[int]()

    async def ask(number: int) -> float:
        began = time.monotonic()
        with pytest.raises(StateError if number < 4 else Busy):
            await workers.answer(stuck if number < 4 else lambda: done.append(number), within_s)
        return time.monotonic() - began

    async def all_of_them() -> list[float]:
        return list(await asyncio.gather(*(ask(number) for number in range(64))))

    took = asyncio.run(all_of_them())
    assert max(took) < within_s + late(0.5)
    assert all(0 < left_s <= within_s - 0.25 for left_s in stuck.time_left), "the work knows when its caller leaves"
    with pytest.raises(Busy, match="does not answer"):  # at once
        workers.submit(lambda: done.append(-1))
    stuck.go_on.set()
    until(lambda: not workers._stuck)
    assert workers.submit(lambda: "back").result(PATIENCE_S) == "back"
    workers.close(PATIENCE_S)
    assert done == []


def test_work_that_waited_beyond_its_time_is_not_begun(stuck: Stuck) -> None:
    workers, done = Workers("test", 1), []
    workers.submit(stuck)
    late = workers.submit(lambda: done.append(1), within_s=0.01)
    threading.Event().wait(0.05)
    stuck.go_on.set()
    with pytest.raises(Busy, match="no thread was free in time"):
        late.result(PATIENCE_S)
    assert done == []


def test_a_caller_that_goes_away_takes_its_work_out_of_the_queue(stuck: Stuck) -> None:
    workers, done = Workers("test", 1), []

    async def leave() -> None:
        first = asyncio.ensure_future(workers.answer(stuck, PATIENCE_S))
        waiting = asyncio.ensure_future(workers.answer(lambda: done.append(1), PATIENCE_S))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        stuck.go_on.set()
        await first

    asyncio.run(leave())
    workers.close(PATIENCE_S)
    assert done == []


def test_closing_does_not_wait_for_what_is_stuck_and_tells_what_waits(stuck: Stuck) -> None:
    workers = Workers("test", 1)
    workers.submit(stuck)
    waiting = workers.submit(lambda: None)
    began = time.monotonic()
    workers.close(0.1)
    assert time.monotonic() - began < late(1.0)
    with pytest.raises(StateError, match="closed"):
        waiting.result(0)
    with pytest.raises(StateError, match="closed"):
        workers.submit(lambda: None)


def test_its_threads_keep_no_process_from_ending(stuck: Stuck) -> None:
    workers = Workers("of the test", 1)
    workers.submit(stuck)
    assert [one.daemon for one in threading.enumerate() if one.name == "of the test"] == [True]


def test_an_error_of_the_work_is_its_own_also_when_it_is_about_time() -> None:
    async def ask() -> None:
        def late() -> None:
            raise TimeoutError("its own")

        with pytest.raises(TimeoutError, match="its own"):
            await Workers("test", 1).answer(late, PATIENCE_S)

    asyncio.run(ask())


def test_a_deadline_inside_another_is_never_later_than_that() -> None:
    assert left(7.0) == 7.0
    with within(200.0):
        assert 100.0 < left(700.0) <= 200.0
        with within(6_000.0):
            assert left(700.0) <= 200.0
        with within(0.0):
            assert left(700.0) == 0.0
        assert left(700.0) > 100.0
    assert left(7.0) == 7.0


def test_a_thread_with_a_large_stack_leaves_the_size_of_others_as_it_was(no_threads: Callable[[], None]) -> None:
    before = threading.stack_size()
    with pytest.raises(Busy):
        start(lambda: None, name="test", stack_bytes=8 << 20)
    assert threading.stack_size() == before
    no_threads()
    start(lambda: None, name="test", stack_bytes=8 << 20).join()
    assert threading.stack_size() == before


def test_threads_that_have_nothing_to_do_end_but_for_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host.runtime.threads._IDLE_S", 0.01)
    monkeypatch.setattr("host.runtime.threads._KEPT", 2)
    workers, together = Workers("few", 20), threading.Barrier(20, timeout=PATIENCE_S)
    for _ in range(3):
        for done in [workers.submit(together.wait) for _ in range(20)]:
            done.result(PATIENCE_S)
        until(lambda: (workers._threads, len(workers._free)) == (2, 2))
    workers.close(PATIENCE_S)
    assert workers._threads == 0
