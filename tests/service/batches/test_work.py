"""The work on a batch: how many lines at once, in which order, and how it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from host.errors import StateError
from host.service.batches.answers import BatchAnswer
from host.service.batches.lines import BatchLine
from host.service.batches.work import BatchWork


class Kept:
    """A sink in memory."""

    def __init__(self, fails_after: int | None = None) -> None:
        self.groups: list[list[int]] = []
        self._fails_after = fails_after

    def write(self, answers: Sequence[BatchAnswer]) -> None:
        if self._fails_after is not None and len(self.numbers) >= self._fails_after:
            raise StateError("the disk is full")
        self.groups.append([one.number for one in answers])

    @property
    def numbers(self) -> list[int]:
        return [number for group in self.groups for number in group]


class Gated:
    """An engine whose lines wait until they are let go."""

    def __init__(self, wrong: Callable[[int], bool] = lambda _: False) -> None:
        self.under_way: dict[int, asyncio.Event] = {}
        self.begun: list[int] = []
        self.most = 0
        self._wrong = wrong

    async def answer(self, batch: str, line: BatchLine, stopping: asyncio.Event) -> BatchAnswer | None:
        gate = self.under_way[line.number] = asyncio.Event()
        self.begun.append(line.number)
        self.most = max(self.most, len(self.under_way))
        try:
            await gate.wait()
        finally:
            del self.under_way[line.number]
        return BatchAnswer(line.number, b"{}", failed=self._wrong(line.number))

    async def let_go(self, *numbers: int) -> None:
        for number in numbers:
            await _until(lambda number=number: number in self.under_way)
            self.under_way[number].set()


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - what others do sets no event of ours
            await asyncio.sleep(0.001)


async def numbered(count: int) -> AsyncIterator[BatchLine]:
    for number in range(1, count + 1):
        yield BatchLine(number, b"{}")


def working(engine: Any, sink: Any, **more: Any) -> BatchWork:
    return BatchWork("b", engine, sink, **{"concurrency": 3, **more})


def test_so_many_lines_run_at_once_and_no_more() -> None:
    async def main() -> None:
        engine, sink = Gated(), Kept()
        running = asyncio.create_task(working(engine, sink).run(numbered(10)))
        for number in range(1, 11):
            await engine.let_go(number)
        assert await running
        assert engine.most == 3
        assert sorted(sink.numbers) == [*range(1, 11)]

    asyncio.run(main())


def test_in_order_a_slow_line_holds_the_answers_behind_it_and_a_bounded_number_of_lines() -> None:
    async def main() -> None:
        engine, sink = Gated(), Kept()
        running = asyncio.create_task(working(engine, sink, ordered=True).run(numbered(200)))
        for number in range(2, 65):
            await engine.let_go(number)
        await asyncio.sleep(0.05)
        assert sink.numbers == []
        assert max(engine.begun) == 64, "the window is full"
        await engine.let_go(1)
        for number in range(65, 201):
            await engine.let_go(number)
        assert await running
        assert sink.numbers == [*range(1, 201)]

    asyncio.run(main())


def test_after_so_many_failures_no_line_is_begun_and_those_under_way_are_kept() -> None:
    async def main() -> None:
        engine, sink = Gated(lambda number: number <= 2), Kept()
        running = asyncio.create_task(working(engine, sink, most_failures=2).run(numbered(100)))
        await engine.let_go(1, 2)
        begun = set(engine.begun)
        for number in sorted(begun - {1, 2}):
            await engine.let_go(number)
        for number in sorted(set(engine.begun) - begun):  # a place was free before the second failure
            await engine.let_go(number)
        assert not await running
        assert sorted(sink.numbers) == sorted(engine.begun)
        assert len(engine.begun) <= 5

    asyncio.run(main())


def test_an_error_of_the_host_stops_the_batch_once_the_others_have_ended() -> None:
    class Broken(Gated):
        async def answer(self, batch: str, line: BatchLine, stopping: asyncio.Event) -> BatchAnswer | None:
            if line.number == 2:
                raise StateError("the records cannot be written")
            return await super().answer(batch, line, stopping)

    async def main() -> None:
        engine, sink = Broken(), Kept()
        running = asyncio.create_task(working(engine, sink).run(numbered(100)))
        await engine.let_go(1, *([3] if 3 in engine.under_way else []))
        for number in [*engine.under_way]:
            await engine.let_go(number)
        with pytest.raises(StateError, match="cannot be written"):
            await running
        assert 1 in sink.numbers
        assert 2 not in sink.numbers

    asyncio.run(main())


def test_what_cannot_be_written_ends_the_batch_and_cancels_the_rest() -> None:
    async def main() -> None:
        engine, sink = Gated(), Kept(fails_after=1)
        running = asyncio.create_task(working(engine, sink).run(numbered(100)))
        await engine.let_go(1)
        await _until(lambda: sink.numbers == [1])
        await engine.let_go(2)
        with pytest.raises(StateError, match="disk is full"):
            await running
        assert sink.numbers == [1]
        assert engine.under_way == {}

    asyncio.run(main())


def test_a_cancelled_batch_writes_the_answers_that_are_there() -> None:
    async def main() -> None:
        engine, sink = Gated(), Kept()
        running = asyncio.create_task(working(engine, sink).run(numbered(100)))
        await engine.let_go(1)
        await _until(lambda: len(engine.begun) > 3)  # the first has ended
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert sink.numbers == [1]
        assert engine.under_way == {}

    asyncio.run(main())


def test_the_last_write_of_a_cancelled_batch_does_not_hold_the_event_loop() -> None:
    """It may wait for the database: a server answers others meanwhile."""

    class Slow(Kept):
        def __init__(self) -> None:
            super().__init__()
            self.writing, self.go_on = threading.Event(), threading.Event()

        def write(self, answers: Sequence[BatchAnswer]) -> None:
            self.writing.set()
            assert self.go_on.wait(60)
            super().write(answers)

    async def main() -> None:
        engine, sink = Gated(), Slow()
        running = asyncio.create_task(working(engine, sink).run(numbered(3)))
        await engine.let_go(1)
        await _until(sink.writing.is_set)  # the writer is at work
        await engine.let_go(2)
        await _until(lambda: 2 not in engine.under_way)
        running.cancel()
        await asyncio.sleep(0.02)  # the loop turns while the writer is held up
        assert not running.done()
        sink.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert sorted(sink.numbers) == [1, 2], "and what was there is written"

    asyncio.run(main())
