"""The work on one batch: so many lines at once, their answers written in groups, and an end that loses none of them."""

from __future__ import annotations

import asyncio
import math
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from host.errors import HostError
from host.runtime.threads import Workers
from host.service.batches.answers import STOPS, BatchAnswer, Engine

if TYPE_CHECKING:
    from host.service.batches.lines import BatchLine

_WINDOW: Final = 4  # times as many lines may be begun and not yet written as may run at once
_LEAST_WINDOW: Final = 64
_LAST_S: Final = 30.0  # for a group that is being written when all else has ended
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

BatchEnd: TypeAlias = HostError | Literal["done", "interrupted", "failures"]
"""How a batch ended: every line was run, a signal came, or too many lines had failed; or the error in which it
stopped."""


class AnswerSink(Protocol):
    """Where answers are kept."""

    def write(self, answers: Sequence[BatchAnswer]) -> None:
        """Once this returns, the answers outlive the process and a loss of power. Thread-safe. Raises StateError: then
        none of them count, and nothing that was written before is lost."""
        ...


class BatchWork:
    """To be run once. `concurrency` lines run at once. `ordered`: answers are written in the order of the lines, so a
    few wait for one that takes long. It stops once `most_failures` lines have failed. `written` is called with each
    answer that was written."""

    def __init__(
        self,
        batch: str,
        engine: Engine,
        sink: AnswerSink,
        *,
        concurrency: int,
        ordered: bool = False,
        most_failures: float = math.inf,
        written: Callable[[BatchAnswer], object] = lambda _: None,
    ) -> None:
        self.under_way = 0
        self._batch = batch
        self._engine = engine
        self._sink = sink
        self._slots = asyncio.Semaphore(concurrency)
        self._window = asyncio.Semaphore(max(_LEAST_WINDOW, _WINDOW * concurrency))
        self._most_failures = most_failures
        self._written = written
        self._order: deque[int] | None = deque() if ordered else None
        self._held: dict[int, BatchAnswer] = {}  # answers that wait for those of earlier lines
        self._unwritten: list[BatchAnswer] = []
        self._some = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ended = False
        self._why: HostError | None = None
        self._failures = 0

    def stop(self) -> None:
        """Begin no more lines. Those under way go on to their end, but for those that wait for a limit."""
        self._stopping.set()

    async def run(self, lines: AsyncIterator[BatchLine]) -> bool:
        """Run the lines. Returns whether all of them were. Raises one of STOPS once those under way have ended. When
        its task is cancelled, lines under way are cancelled, and answers that are there are written."""
        writers = Workers("host-batch", 1)
        try:
            whole = await self._run(lines, writers)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None  # of the writer, or of the source: the lines raise nothing
        finally:
            last = asyncio.ensure_future(self._write_last(writers))
            try:
                await asyncio.shield(last)
            except asyncio.CancelledError:
                await last  # it ends soon
                raise
        if self._why is not None:
            raise self._why
        return whole

    async def _run(self, lines: AsyncIterator[BatchLine], writers: Workers) -> bool:
        whole = True
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_on(writers))
            running: set[asyncio.Task[None]] = set()
            async for line in lines:
                await self._window.acquire()
                await self._slots.acquire()
                if self._stopping.is_set():
                    whole = False
                    break
                if self._order is not None:
                    self._order.append(line.number)
                running.add(task := tasks.create_task(self._one(line)))
                task.add_done_callback(running.discard)
            if running:
                await asyncio.wait(running)
            self._ended = True
            self._some.set()
        return whole

    async def _one(self, line: BatchLine) -> None:
        self.under_way += 1
        answer = None
        try:
            answer = await self._engine.answer(self._batch, line, self._stopping)
        except STOPS as error:
            self._why = self._why or error
            self.stop()
        finally:
            self.under_way -= 1
            self._slots.release()
            if answer is None:
                self._window.release()
        if answer is None:
            return
        self._failures += answer.failed
        if self._failures >= self._most_failures:
            self.stop()
        if self._order is None:
            self._unwritten.append(answer)
        else:
            self._held[line.number] = answer
            while self._order and (first := self._held.pop(self._order[0], None)) is not None:
                self._order.popleft()
                self._unwritten.append(first)
        self._some.set()

    async def _write_on(self, writers: Workers) -> None:
        """Write what is there, as one group, again and again."""
        while not self._ended or self._unwritten:
            await self._some.wait()
            self._some.clear()
            if group := self._taken():
                await writers.answer(partial(self._write, group), math.inf)
                for answer in group:
                    self._window.release()
                    self._written(answer)

    async def _write_last(self, writers: Workers) -> None:
        """What the writer had not taken, once the group before it is written."""
        with suppress(HostError, TimeoutError):  # the writer has said it
            if group := self._taken():
                async with asyncio.timeout(_LAST_S):
                    await writers.answer(partial(self._write, group), math.inf)
        writers.close()

    def _taken(self) -> list[BatchAnswer]:
        group, self._unwritten = self._unwritten, []
        return group

    def _write(self, group: Sequence[BatchAnswer]) -> None:
        if group:
            self._sink.write(group)


def finish(
    begin: Callable[[], Awaitable[BatchWork]],
    lines: Iterable[BatchLine],
    end: Callable[[], Awaitable[None]],
    stopping: Callable[[int], object],
) -> BatchEnd:
    """`BatchWork.run`, for callers without an event loop. `begin` makes the work, `end` is awaited after it. The first
    SIGINT or SIGTERM stops it, and `stopping` is called with the number of lines that are under way; the second one
    cancels these. Raises what `begin` raises."""
    return asyncio.run(_finish(begin, lines, end, stopping))


async def _finish(
    begin: Callable[[], Awaitable[BatchWork]],
    lines: Iterable[BatchLine],
    end: Callable[[], Awaitable[None]],
    stopping: Callable[[int], object],
) -> BatchEnd:
    work, times = await begin(), 0
    running = asyncio.ensure_future(work.run(_each(lines)))

    def arrived() -> None:
        nonlocal times
        times += 1
        if times > 1:
            running.cancel()
            return
        work.stop()
        stopping(work.under_way)

    for number in _SIGNALS:
        with suppress(RuntimeError, ValueError):  # not the main thread: nobody sends it signals
            asyncio.get_running_loop().add_signal_handler(number, arrived)
    try:
        whole = await running
    except asyncio.CancelledError:
        return "interrupted"
    except HostError as error:
        return error
    finally:
        await end()
    if times:
        return "interrupted"
    return "done" if whole else "failures"


async def _each(lines: Iterable[BatchLine]) -> AsyncIterator[BatchLine]:
    for line in lines:
        yield line
