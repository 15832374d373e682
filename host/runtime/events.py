"""The events of a run, from its thread to their consumer: EventStream and AsyncEventStream over one Channel.

Only a few events wait to be consumed; then the run waits.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Generic, Self, TypeAlias, TypeGuard, TypeVar

from host.core import forks
from host.core.operation import Result
from host.core.repeating import Cause
from host.core.sse import Comment
from host.core.strict_json import Json, parse_json
from host.errors import GuestException, InputError, SandboxError, StateError, UpstreamTimeout
from host.run import Piece, Run, Stop, StreamEnd

_AHEAD = 64  # events that may wait to be consumed; then the run waits, and so does its upstream
_BYTES_AHEAD = 8  # of pieces of a body, which are of up to 64 KiB
_LOOK_S = 1.0  # how often a run that waits for its consumer checks whether it has waited for too long

KEEPALIVE: Final = Comment("keepalive")  # stands for a while without anything

End = TypeVar("End")


class Channel(Generic[End]):
    """A queue of a run's events, and of the other pieces of an answer that flows. `put` and `end` are for the run's
    thread, `get` for the consumer's. `arrived` is called after each event and the end, on the run's thread, to wake a
    consumer that cannot block."""

    def __init__(self, arrived: Callable[[], None] | None = None) -> None:
        self._items: queue.SimpleQueue[str | Piece | tuple[End]] = queue.SimpleQueue()
        self._room = threading.Semaphore(_AHEAD)
        self._room_for_bytes = threading.Semaphore(_BYTES_AHEAD)
        self._arrived = arrived
        self._abandoned = False
        self._generation = forks.generation

    def put(self, event: str | Piece, run: Run) -> bool:
        """Wait for room and add `event`. Returns False if the consumer has gone or the run is over, which a consumer
        ends who takes nothing for the run's `idle_timeout_s`."""
        room = self._room_for_bytes if isinstance(event, bytes) else self._room
        if not room.acquire(blocking=False) and not self._wait(room, run):
            return False
        if self._abandoned:
            return False
        self._items.put(event)
        if self._arrived is not None:
            self._arrived()
        return True

    def _wait(self, room: threading.Semaphore, run: Run) -> bool:
        """Whether there was room in time."""
        began = time.monotonic()
        try:
            with run.interruptible(room.release):
                while not room.acquire(timeout=max(0.0, min(_LOOK_S, run.remaining()))):
                    if time.monotonic() - began >= run.limits.idle_timeout_s:
                        run.stop(Stop.CALLER)
                    if self._abandoned or run.check() is not None:
                        return False
            return not self._abandoned and run.check() is None
        finally:
            run.meters.caller_time_s += time.monotonic() - began

    def end(self, how: End) -> None:
        self._items.put((how,))
        if self._arrived is not None:
            self._arrived()

    def get(self, *, block: bool = True, patience_s: float | None = None) -> str | Piece | tuple[End]:
        """The next event, or the argument of `end` in a tuple. Raises queue.Empty if it may not block, or none comes
        for `patience_s` seconds; StateError in a child of a fork, where none ever comes."""
        if self._generation != forks.generation:
            raise forks.made_before()
        item = self._items.get(block, patience_s)
        if isinstance(item, bytes):
            self._room_for_bytes.release()
        elif not isinstance(item, tuple):
            self._room.release()
        return item

    def abandon(self) -> None:
        """The consumer has gone."""
        self._abandoned = True
        self._room.release()
        self._room_for_bytes.release()


RunEnd: TypeAlias = Result | BaseException

MAX_TEXTS = 64


class _Stream:
    """The common part of both streams: their end, and leaving early."""

    def __init__(self, run: Run, channel: Channel[RunEnd]) -> None:
        self._run = run
        self.meters = run.meters  # of the run, until now
        self._channel = channel
        self._ended = False
        self._result: Result | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.id}, {'ended' if self._ended else 'open'}>"

    @property
    def id(self) -> str:
        """The run's id, as in its record."""
        return self._run.id

    @property
    def asked(self) -> bool:
        """Whether the run has asked anything of an upstream until now."""
        return self._run.meters.http_requests > 0

    @property
    def result(self) -> Result:
        """The run's Result, after the last event. Raises StateError before that."""
        if self._result is None:
            raise StateError("the stream has not ended", hint="iterate it to its end first")
        return self._result

    def _end(self, how: RunEnd) -> None:
        """Raises the run's exception, or OperationFailed for an error status: nothing else would report it."""
        self._ended = True
        if isinstance(how, BaseException):
            raise how
        self._result = how
        how.raise_for_status()

    def cancel(self) -> None:
        """Cancel the run, from any thread: it ends as Cancelled."""
        self._run.cancel()

    def _leave(self) -> None:
        if self._run.inherited:
            self._ended = True
            return
        self._channel.abandon()
        self._run.cancel()

    def __del__(self) -> None:
        if not getattr(self, "_ended", True):
            self._leave()


class EventStream(_Stream):
    """The events of one run, each a JSON value, as they arrive. Iterate it once; close it to leave early."""

    def __iter__(self) -> Iterator[Json]:
        return self

    def __next__(self) -> Json:
        if self._ended:
            raise StopIteration
        while not isinstance(item := self._channel.get(), tuple):
            if isinstance(item, str):
                return _event(item)
        self._end(item[0])
        raise StopIteration

    def close(self) -> None:
        """Cancel the run, unless it has ended, and wait until it has. Any number of times."""
        self._leave()
        while not self._ended:
            self._ended = isinstance(self._channel.get(), tuple)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncEventStream(_Stream):
    """`EventStream` for async code. The run is cancelled with the task that iterates, and when the iteration is
    left."""

    def __init__(self, run: Run, start: Callable[[Callable[[], None]], Channel[RunEnd]]) -> None:
        """`start` begins the run; it takes the function to call when something has arrived."""
        import asyncio  # noqa: PLC0415 - an eighth of a start-up, and only async code needs it

        self._held: tuple[RunEnd] | None = None  # the end, while events before it are handed on
        self._loop, self._arrived = asyncio.get_running_loop(), asyncio.Event()
        self._told = False  # whether the loop was told that something arrived, since it last looked
        super().__init__(run, start(self._tell))

    def __aiter__(self) -> AsyncIterator[Json]:
        return self

    async def __anext__(self) -> Json:
        if self._ended:
            raise StopAsyncIteration
        while not isinstance(item := await self._next(), tuple):
            if isinstance(item, str):
                return _event(item)
        self._end(item[0])
        raise StopAsyncIteration

    async def texts(self) -> list[str]:
        """The events that have arrived by now, as JSON texts, relayed ones as ServerSentEvents: at least one, unless
        the stream has ended, and at most MAX_TEXTS, so that other tasks have their turn beside a fast run. For a caller
        that passes events on, in place of the iteration. Raises what the iteration raises, after the last event."""
        while True:
            found = await pieces(self)
            texts = [one for one in found if is_event(one)]
            if texts or not found:
                return texts

    async def aclose(self) -> None:
        """Cancel the run, unless it has ended, and wait until it has. Any number of times."""
        self._leave()
        while not self._ended:
            self._ended = isinstance(await self._next(), tuple)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _next(self, patience_s: float | None = None) -> str | Piece | tuple[RunEnd]:
        """The next item; KEEPALIVE where none comes in time."""
        if self._held is not None:
            return self._held
        while True:
            with suppress(queue.Empty):
                return self._channel.get(block=False)
            try:
                if patience_s is None:
                    await self._arrived.wait()
                else:
                    import asyncio  # noqa: PLC0415 - as above

                    async with asyncio.timeout(patience_s) as waiting:
                        await self._arrived.wait()
            except BaseException as error:
                if patience_s is not None and isinstance(error, TimeoutError) and waiting.expired():
                    return KEEPALIVE
                self._leave()
                raise
            self._arrived.clear()
            self._told = False  # before the look: what comes after it tells again

    def _tell(self) -> None:
        """On the run's thread, after something was put: waking the loop is a system call, and one will do."""
        if not self._told:
            self._told = True
            with suppress(RuntimeError):  # the loop has closed, and nobody waits on it
                self._loop.call_soon_threadsafe(self._arrived.set)


def _event(text: str) -> Json:
    try:
        return parse_json(text, "the event")
    except InputError:
        return {"raw": text}


def is_event(piece: str | Piece) -> TypeGuard[str]:
    return isinstance(piece, str) and not isinstance(piece, Comment)


def next_piece(stream: EventStream, patience_s: float | None = None) -> str | Piece | None:
    """The next event, or other piece of an answer that flows; None at the end. Where nothing comes for `patience_s`
    seconds it is KEEPALIVE. In place of the iteration; raises what that raises."""
    if stream._ended:  # noqa: SLF001 - not for the public class
        return None
    try:
        item = stream._channel.get(patience_s=patience_s)  # noqa: SLF001 - as above
    except queue.Empty:
        return KEEPALIVE
    if not isinstance(item, tuple):
        return item
    stream._end(item[0])  # noqa: SLF001 - as above
    return None


async def pieces(stream: AsyncEventStream, patience_s: float | None = None) -> list[str | Piece]:
    """What has arrived by now, in its order: events as `AsyncEventStream.texts` has them, and the other pieces of an
    answer that flows. Where nothing comes for `patience_s` seconds it is KEEPALIVE alone."""
    found: list[str | Piece] = []
    while not stream._ended and len(found) < MAX_TEXTS:  # noqa: SLF001 - not for the public class
        try:
            item = stream._channel.get(block=False) if found else await stream._next(patience_s)  # noqa: SLF001 - as above
            if item is KEEPALIVE and (item := _come_meanwhile(stream)) is KEEPALIVE:
                return [KEEPALIVE]
        except queue.Empty:
            break
        if not isinstance(item, tuple):
            found.append(item)
        elif found:
            stream._held = item  # noqa: SLF001 - as above
            break
        else:
            stream._end(item[0])  # noqa: SLF001 - as above
    return found


def _come_meanwhile(stream: AsyncEventStream) -> str | Piece | tuple[RunEnd]:
    """What came when the wait was over and before anybody looked; KEEPALIVE for nothing."""
    try:
        return stream._channel.get(block=False)  # noqa: SLF001 - not for the public class
    except queue.Empty:
        return KEEPALIVE


def upstream_end(stream: _Stream) -> StreamEnd | None:
    """How the upstream's stream ended that the host relayed; None where it relayed none to its end."""
    return stream._run.stream_end  # noqa: SLF001 - not for the public class: faces need it alone


def upstreams_of(stream: _Stream) -> Collection[str]:
    """Of several upstreams, as origins, those where the run's work is: until now."""
    return stream._run.upstreams  # noqa: SLF001 - as above


def unserved(stream: _Stream, error: BaseException) -> tuple[Cause | None, bool]:
    """Why the upstream did not serve the run that ended in `error`, None where it did or the fault is not its own; and
    whether the run may have done there what may not be done twice."""
    run = stream._run  # noqa: SLF001 - as above
    of_the_host = isinstance(error, SandboxError | StateError) and not isinstance(
        error, UpstreamTimeout | GuestException
    )
    if run.refusals or of_the_host:
        return None, run.once_only
    return run.unserved, run.once_only
