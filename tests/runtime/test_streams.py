"""A run's events for async code that hands them on: as the texts that came, as many as there are, and then the end."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from host.core.audit import Meters
from host.core.operation import Execution, Result
from host.errors import Cancelled, OperationFailed, StateError
from host.run import Run
from host.runtime.events import KEEPALIVE, MAX_TEXTS, AsyncEventStream, Channel, RunEnd, pieces
from tests.runtime.test_run import new_call


def result(status: int = 200, **more: Any) -> Result:
    execution = Execution("run_1", "c:local.x", "sha256:0", 0.0, 0.0, Meters(), (), (), ())
    return Result(status, None, None if status == 200 else {"type": "t", "message": "m"}, {}, execution, **more)


class Played:
    """The run's side of a stream, played by the test."""

    def __init__(self) -> None:
        self.call: Run = new_call()

    def start(self, arrived: Callable[[], None]) -> Channel[RunEnd]:
        self._channel: Channel[RunEnd] = Channel(arrived)
        return self._channel

    def emit(self, *events: str) -> bool:
        return all(self._channel.put(event, self.call) for event in events)

    def end(self, how: RunEnd) -> None:
        self._channel.end(how)


def consumed(consume: Callable[[Played, AsyncEventStream], Awaitable[None]]) -> Played:
    run = Played()

    async def main() -> None:
        await asyncio.wait_for(consume(run, AsyncEventStream(run.call, run.start)), 20)

    asyncio.run(main())
    return run


def test_what_has_come_by_now_comes_at_once_and_as_it_came() -> None:
    async def consume(run: Run, stream: AsyncEventStream) -> None:
        run.emit('{ "a": 1.0 }', "no JSON", "[1e2]")
        assert await stream.texts() == ['{ "a": 1.0 }', "no JSON", "[1e2]"]
        run.emit("4")
        assert await stream.texts() == ["4"]
        run.end(result())
        assert await stream.texts() == []

    consumed(consume)


def test_the_end_comes_after_what_came_before_it_and_stays() -> None:
    async def consume(run: Run, stream: AsyncEventStream) -> None:
        run.emit("1", "2")
        run.end(done := result())
        assert await stream.texts() == ["1", "2"]
        with pytest.raises(StateError):
            _ = stream.result
        assert await stream.texts() == []
        assert stream.result is done
        assert await stream.texts() == []

    run = consumed(consume)
    assert not run.call.cancelled


def test_a_stream_without_events_is_its_end() -> None:
    async def consume(run: Run, stream: AsyncEventStream) -> None:
        run.end(result())
        assert await stream.texts() == []
        assert stream.result.ok

    consumed(consume)


def test_waiting_ends_with_the_first_event_from_another_thread() -> None:
    async def consume(run: Run, stream: AsyncEventStream) -> None:
        waiting = asyncio.create_task(stream.texts())
        await asyncio.sleep(0)
        assert not waiting.done()
        thread = threading.Thread(target=run.emit, args=("1",))
        thread.start()
        assert await waiting == ["1"]
        thread.join()

    consumed(consume)


def test_every_event_of_a_run_on_another_thread_comes_once_and_in_order() -> None:
    """The run is faster, then the consumer is: what is ahead is bounded, and nobody misses being woken."""
    count = 5_000

    async def consume(run: Run, stream: AsyncEventStream) -> None:
        def work() -> None:
            for number in range(count):
                run.emit(str(number))
            run.end(result())

        thread = threading.Thread(target=work)
        thread.start()
        batches = []
        while batch := await stream.texts():
            batches.append(batch)
        thread.join()
        assert [json.loads(text) for batch in batches for text in batch] == list(range(count))
        assert max(map(len, batches)) <= MAX_TEXTS
        assert stream.result.ok

    consumed(consume)


def test_a_run_that_never_pauses_is_taken_in_turns() -> None:
    async def consume(run: Run, stream: AsyncEventStream) -> None:
        get = stream._channel.get

        def refilled(*, block: bool = True) -> Any:
            run.emit("1")  # so there is always one more
            return get(block=block)

        stream._channel.get = refilled  # type: ignore[method-assign] # a run as fast as that
        assert await stream.texts() == ["1"] * MAX_TEXTS

    consumed(consume)


def test_an_error_is_raised_after_what_came_before_it() -> None:
    async def consume(run: Run, stream: AsyncEventStream) -> None:
        run.emit("1")
        run.end(Cancelled("taken back"))
        assert await stream.texts() == ["1"]
        with pytest.raises(Cancelled, match="taken back"):
            await stream.texts()
        assert await stream.texts() == []

    consumed(consume)


def test_an_error_status_is_raised_with_its_result_and_headers() -> None:
    async def consume(run: Run, stream: AsyncEventStream) -> None:
        run.end(result(429, headers={"retry-after": "20"}))
        with pytest.raises(OperationFailed) as failed:
            await stream.texts()
        assert failed.value.result.headers == {"retry-after": "20"}
        assert stream.result is failed.value.result

    consumed(consume)


def test_the_run_is_cancelled_with_the_task_that_waits() -> None:
    async def consume(run: Run, stream: AsyncEventStream) -> None:
        waiting = asyncio.create_task(stream.texts())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert run.call.cancelled
        assert not run.emit("nobody listens")

    consumed(consume)


def test_closing_cancels_the_run_and_waits_for_its_end() -> None:
    async def consume(run: Run, stream: AsyncEventStream) -> None:
        run.emit("1", "2")
        assert await stream.texts() == ["1", "2"]
        closing = asyncio.create_task(stream.aclose())
        await asyncio.sleep(0)
        assert run.call.cancelled
        assert not closing.done()
        run.end(Cancelled("taken back"))
        await closing
        await stream.aclose()
        assert await stream.texts() == []

    consumed(consume)


def test_closing_where_the_end_was_about_to_come_waits_for_nothing() -> None:
    async def consume(run: Run, stream: AsyncEventStream) -> None:
        run.emit("1")
        run.end(result())
        assert await stream.texts() == ["1"]
        await stream.aclose()
        with pytest.raises(StateError):
            _ = stream.result

    consumed(consume)


def test_texts_and_the_iteration_may_follow_each_other() -> None:
    async def consume(run: Run, stream: AsyncEventStream) -> None:
        run.emit("1")
        assert await stream.texts() == ["1"]
        run.emit("[2]", "3")
        assert await anext(aiter(stream)) == [2]
        run.end(result())
        assert await stream.texts() == ["3"]
        assert [event async for event in stream] == []
        assert stream.result.ok

    consumed(consume)


class TestPatience:
    def test_where_nothing_comes_it_is_said_that_nothing_came(self) -> None:
        async def consume(run: Played, stream: AsyncEventStream) -> None:
            assert await pieces(stream, 0.01) == [KEEPALIVE]
            run.emit("1")
            assert await pieces(stream, 5) == ["1"]

        consumed(consume)

    @pytest.mark.parametrize("ends", [False, True])
    def test_what_comes_between_the_end_of_the_wait_and_the_look_is_not_lost(self, ends: bool) -> None:
        """On a busy machine the time is over and events are there at once. Who is told that nothing came would drop
        them."""

        async def consume(run: Played, stream: AsyncEventStream) -> None:
            async def late(patience_s: float | None = None) -> Any:
                del patience_s
                run.emit("1", "2")
                if ends:
                    run.end(result())
                return KEEPALIVE

            stream._next = late  # type: ignore[method-assign]  # the moment cannot be met otherwise
            assert await pieces(stream, 0.01) == ["1", "2"]

        consumed(consume)
