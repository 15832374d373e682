"""What flows where the official SDK is not installed: streams of events, and connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Self

from host.core.conversation import NORMAL
from host.core.sse import ServerSentEvent
from host.core.strict_json import Json, parse_json
from host.errors import UpstreamTimeout
from host.openai.exchange import in_time
from host.openai.plain_objects import plain, unplain
from host.runtime.events import is_event, next_piece, pieces

if TYPE_CHECKING:
    from host.runtime.connections import AsyncEventConnection, EventConnection
    from host.runtime.events import AsyncEventStream, EventStream


def _of_event(text: str) -> Any:
    found = parse_json(text, "the event")
    named = text.event if isinstance(text, ServerSentEvent) else None
    return plain({"event": named, "data": found} if named and named.startswith("thread.") else found)


class PlainStream:
    """The events of one run. Iterate it once; close it, or leave the `with`, to end the run. Where no event comes for
    `patience_s` seconds the run ends too."""

    def __init__(self, stream: EventStream, patience_s: float | None = None) -> None:
        self._stream, self._patience_s = stream, patience_s

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """Raises HostError, of which OperationFailed is for an error status, and UpstreamTimeout for a wait that was
        too long."""
        try:
            while (piece := in_time(next_piece(self._stream, self._patience_s), self._patience_s)) is not None:
                if is_event(piece):
                    return _of_event(piece)
        except UpstreamTimeout:
            self.close()
            raise
        raise StopIteration

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PlainAsyncStream:
    """As `PlainStream`."""

    def __init__(self, stream: AsyncEventStream, patience_s: float | None = None) -> None:
        self._stream, self._patience_s = stream, patience_s
        self._ahead: Iterator[Any] = iter(())

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while True:
            for piece in self._ahead:
                if is_event(piece):
                    return _of_event(piece)
            if not (several := await pieces(self._stream, self._patience_s)):
                raise StopAsyncIteration
            try:
                in_time(several[0], self._patience_s)
            except UpstreamTimeout:
                await self.close()
                raise
            self._ahead = iter(several)

    async def close(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Sends:
    """`connection.response.create(…)` sends an event of the type `response.create`."""

    def __init__(self, connection: Any, name: str) -> None:
        self._connection, self._name = connection, name

    def __getattr__(self, name: str) -> _Sends:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Sends(self._connection, f"{self._name}.{name}")

    def __call__(self, **fields: Json) -> Any:
        return self._connection.send({"type": self._name, **fields})


class PlainConnection:
    """An open connection: `send`, `recv`, iteration and `close`, and events by their types."""

    def __init__(self, connection: EventConnection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> _Sends:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Sends(self, name)

    def send(self, event: Json) -> None:
        self._connection.send(unplain(event))

    def recv(self) -> Any:
        """The next event. Raises EOFError at the end, and HostError."""
        for event in self._connection:
            return plain(event)
        raise EOFError("the connection has ended")

    def __iter__(self) -> Iterator[Any]:
        return (plain(event) for event in self._connection)

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        self._connection.close(code, reason)


class PlainAsyncConnection:
    """As `PlainConnection`."""

    def __init__(self, connection: AsyncEventConnection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> _Sends:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Sends(self, name)

    async def send(self, event: Json) -> None:
        await self._connection.send(unplain(event))

    async def recv(self) -> Any:
        async for event in self._connection:
            return plain(event)
        raise EOFError("the connection has ended")

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for event in self._connection:
            yield plain(event)

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        await self._connection.aclose(code, reason)
