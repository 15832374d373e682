"""Connections: a run whose caller exchanges messages with an upstream, over a WebSocket that the host relays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from host.core.conversation import NORMAL, Closed, SocketMessage, size_of
from host.core.operation import Result
from host.core.strict_json import Json, clean_text, parse_json, write_strictly
from host.errors import InputError, StateError, TooLarge
from host.run import Run
from host.runtime.dialogue import Dialogue

if TYPE_CHECKING:
    from concurrent.futures import Future

    from host.core.operation import Input
    from host.core.slots import Share
    from host.run import CancelToken, Counting
    from host.runtime.executor import RunExecutor

_MOST_AT_ONCE: Final = 64


class _AnyConnection:
    """The common part of both connections. Made by `Catalyst.connect` and `Catalyst.aconnect`."""

    def __init__(self, run: Run, dialogue: Dialogue) -> None:
        self._run = run
        self.meters = run.meters  # of the run, until now
        self._dialogue = dialogue
        self._ended = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.id}, {'ended' if self._ended else 'open'}>"

    @property
    def id(self) -> str:
        """The run's id, as in its record."""
        return self._run.id

    @property
    def subprotocol(self) -> str:
        """The subprotocol that the upstream chose; "" for none."""
        return self._dialogue.head[0] if self._dialogue.head else ""

    @property
    def headers(self) -> Mapping[str, str]:
        """Of the answer that opened the connection, with names in lower case."""
        return self._dialogue.head[1] if self._dialogue.head else {}

    @property
    def closed(self) -> Closed | None:
        """The code and reason that the connection ended with; None before that, and where the run ended otherwise."""
        return self._dialogue.end

    @property
    def result(self) -> Result:
        """The run's Result, after its end. Raises StateError before that, and what the run raised."""
        outcome = self._dialogue.outcome
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is None:
            raise StateError("the connection has not ended", hint="close it, or iterate it to its end first")
        return outcome

    def cancel(self) -> None:
        """Cancel the run, from any thread: it ends as Cancelled, and the connection without a farewell."""
        self._run.cancel()

    def _finish(self) -> None:
        """After the last message. Raises the run's exception, or OperationFailed for an error status: nothing else
        would report it."""
        self._ended = True
        self.result.raise_for_status()

    def _refused(self) -> BaseException | None:
        """The error of a run that ended before the connection was open; None for one that is open."""
        outcome = self._dialogue.outcome
        if self._dialogue.head is not None or outcome is None:
            return None
        self._ended = True
        if isinstance(outcome, BaseException):
            return outcome
        try:
            outcome.raise_for_status()
        except Exception as error:  # noqa: BLE001 - whatever it says of the status
            return error
        return InputError("this operation opens no connection", field="operation", hint="run or stream do it")

    def _message(self, event: Json) -> SocketMessage:
        """The message for `event`. Raises InputError, TooLarge."""
        message: SocketMessage
        try:
            message = event if isinstance(event, bytes) else _text_of(event)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"the event is not JSON: {error}", field="event") from None
        if (size := size_of(message)) > (most := self._run.limits.max_message_bytes):
            raise TooLarge(
                f"a message of {size} bytes is over {most}",
                hint=self._run.raising("max_message_size", f"{size // 1024 // 1024 + 1}MiB"),
            )
        return message

    def __del__(self) -> None:
        if not getattr(self, "_ended", True):
            self._dialogue.abandon()
            self._run.cancel()


class EventConnection(_AnyConnection):
    """An open connection. Iterating yields the upstream's messages: texts as JSON values, binary ones as bytes. `send`
    may be called from another thread than the one that iterates."""

    def send(self, event: Json) -> None:
        """Send a JSON value, a text as it is, or bytes. Waits while the upstream takes no more. Raises InputError,
        TooLarge, and StateError where the connection has ended."""
        self._dialogue.say(self._message(event))

    def __iter__(self) -> Iterator[Json]:
        return self

    def __next__(self) -> Json:
        if (message := self.message()) is not None:
            return _value_of(message)
        raise StopIteration

    def message(self) -> SocketMessage | None:
        """The next message as it came, in place of the iteration; None at the end. Raises what the iteration raises."""
        if self._ended:
            return None
        if (message := self._dialogue.get()) is None:
            self._finish()
        return message

    def hang_up(self, code: int = NORMAL, reason: str = "") -> None:
        """End the connection behind all that was sent. The messages that still come can be iterated."""
        self._dialogue.hang_up(Closed(code, reason))

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """End the connection behind all that was sent, drop what still comes, and wait for the end of the run, whose
        `result` is there then. Any number of times."""
        self.hang_up(code, reason)
        while not self._run.inherited and self._dialogue.get() is not None:
            pass
        self._ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._ended:
            self.cancel()
        self.close()


class AsyncEventConnection(_AnyConnection):
    """`EventConnection` for async code. One task may send while another iterates. Leaving the `async with` by an
    exception cancels the run."""

    def __init__(self, start: Callable[[Callable[[], None]], tuple[Run, Dialogue]]) -> None:
        """`start` begins the run; it takes the function to call when something has changed."""
        import asyncio  # noqa: PLC0415 - an eighth of a start-up, and only async code needs it

        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        self._told = False  # whether the loop was told that something changed, since it last looked
        super().__init__(*start(self._tell))

    async def send(self, event: Json) -> None:
        """As `EventConnection.send`."""
        message = self._message(event)
        while not self._dialogue.say(message, block=False):
            await self._change()

    def __aiter__(self) -> AsyncIterator[Json]:
        return self

    async def __anext__(self) -> Json:
        if self._ended:
            raise StopAsyncIteration
        if (message := await self._next()) is not None:
            return _value_of(message)
        self._finish()
        raise StopAsyncIteration

    async def messages(self) -> list[SocketMessage]:
        """The messages that have arrived by now, as they came: at least one, unless the connection has ended, and at
        most 64. For a caller that passes them on, in place of the iteration. Raises what the iteration raises, after
        the last one; then, and after the end, the list is empty."""
        if self._ended:
            return []
        found = []
        message = await self._next()
        while message is not None:
            found.append(message)
            message = self._dialogue.get(block=False) if len(found) < _MOST_AT_ONCE else None
        if not found:
            self._finish()
        return found

    def hang_up(self, code: int = NORMAL, reason: str = "") -> None:
        """As `EventConnection.hang_up`."""
        self._dialogue.hang_up(Closed(code, reason))

    async def aclose(self, code: int = NORMAL, reason: str = "") -> None:
        """As `EventConnection.close`."""
        self.hang_up(code, reason)
        while not self._run.inherited and await self._next() is not None:
            pass
        self._ended = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._ended:
            self.cancel()
        await self.aclose()

    async def opening(self) -> None:
        """Wait until the connection is open. Raises what `run` raises, and OperationFailed."""
        try:
            while not self._dialogue.open_or_over:
                await self._change()
        except BaseException:
            self._dialogue.abandon()
            self.cancel()
            raise
        if (error := self._refused()) is not None:
            raise error

    async def _next(self) -> SocketMessage | None:
        """The next message; None at the end."""
        while True:
            if (message := self._dialogue.get(block=False)) is not None:
                return message
            if self._dialogue.over:
                return None
            await self._change()

    async def _change(self) -> None:
        """Wait for a change since the last look at the dialogue, which was made without an await after it."""
        self._news.clear()
        await self._news.wait()

    def _tell(self) -> None:
        """On the run's thread: waking the loop is a system call, and one will do."""
        if not self._told:
            self._told = True
            with suppress(RuntimeError):  # the loop has closed, and nobody waits on it
                self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        self._told = False  # before the look: what comes after it tells again
        self._news.set()


class _Connecting:
    """The part of a Catalyst that opens connections; the rest of it says what a run is."""

    if TYPE_CHECKING:
        _executor: RunExecutor

        def _new_run(
            self,
            timeout: str | float | None,
            caller: Mapping[str, Json] | None,
            counting: Counting | None = ...,
            upstreams: Collection[str] = ...,
        ) -> Run: ...

        def _text(
            self,
            operation: Input,
            run: Run,
            attachments: Mapping[str, object] | None,
            *,
            stream: bool = ...,
            checked: bool = ...,
        ) -> str: ...

        def _execute(self, run: Run, text: str, cancel: CancelToken | None, share: Share | None = ...) -> Result: ...

    def connect(
        self,
        operation: Input,
        *,
        timeout: str | float | None = None,
        cancel: CancelToken | None = None,
        caller: Mapping[str, Json] | None = None,
        counting: Counting | None = None,
    ) -> EventConnection:
        """Run an operation that opens a connection (`realtime.connect`), and return that once it is open. Raises what
        `run` raises, and OperationFailed where the upstream refuses it. Iterating raises the same, where the connection
        ends by a failure, or by an end that is not `ok` (see Closed)."""
        run = self._new_run(timeout, caller, counting)
        text = self._text(operation, run, None, stream=True)
        return opened(run, self._conversing(run, text, cancel))

    async def aconnect(
        self,
        operation: Input,
        *,
        timeout: str | float | None = None,  # noqa: ASYNC109 - the sandbox enforces it, not the event loop
        cancel: CancelToken | None = None,
        caller: Mapping[str, Json] | None = None,
        counting: Counting | None = None,
        checked: bool = False,
        share: Share | None = None,
    ) -> AsyncEventConnection:
        """`connect` for async code. `checked`: the caller has called `check`. `share` says what the run's slot counts
        for."""
        given: dict[str, Any] = {"timeout": timeout, "cancel": cancel, "caller": caller, "counting": counting}
        connection = self.connecting(operation, checked=checked, share=share, **given)
        await connection.opening()
        return connection

    def connecting(
        self,
        operation: Input,
        *,
        timeout: str | float | None = None,
        cancel: CancelToken | None = None,
        caller: Mapping[str, Json] | None = None,
        counting: Counting | None = None,
        checked: bool = False,
        share: Share | None = None,
        upstreams: Collection[str] = (),
    ) -> AsyncEventConnection:
        """The connection of `aconnect` before it is open: to be awaited by its `opening`. Called in a running event
        loop. Its run has begun, and can be cancelled. `upstreams`: as in `Catalyst.arun`."""
        run = self._new_run(timeout, caller, counting, upstreams)
        text = self._text(operation, run, None, stream=True, checked=checked)
        return AsyncEventConnection(lambda told: (run, self._conversing(run, text, cancel, share, told)))

    def _conversing(
        self,
        run: Run,
        text: str,
        cancel: CancelToken | None,
        share: Share | None = None,
        told: Callable[[], None] | None = None,
    ) -> Dialogue:
        dialogue = Dialogue(told)
        run.conversation = dialogue
        run.listener = lambda event: dialogue.emitted(event, run)

        def finished(future: Future[Result]) -> None:
            dialogue.ended(future.exception() or future.result())

        try:
            self._executor.submit(lambda: self._execute(run, text, cancel, share)).add_done_callback(finished)
        except BaseException as error:
            dialogue.ended(error)
            raise
        return dialogue


def opened(run: Run, dialogue: Dialogue) -> EventConnection:
    """The connection, once it is open. Raises what `run` raises, and OperationFailed."""
    connection = EventConnection(run, dialogue)
    try:
        dialogue.await_opening()
    except BaseException:
        dialogue.abandon()
        run.cancel()
        raise
    if (error := connection._refused()) is not None:  # noqa: SLF001 - of this file
        raise error
    return connection


def _text_of(event: Json) -> str:
    return clean_text(event) if isinstance(event, str) else write_strictly(event)


def _value_of(message: SocketMessage) -> Json:
    if isinstance(message, bytes):
        return message
    try:
        return parse_json(message, "the event")
    except InputError:
        return {"raw": message}
