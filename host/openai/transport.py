"""The transports of the official SDK's clients: each of their requests runs as an operation of a catalyst."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, Final

import httpx2

from host.core.operation import Result
from host.core.strict_json import Json
from host.errors import HostError, InputError, OperationFailed
from host.openai import both
from host.openai.exchange import CALLER, Asked, Flow, HttpAnswer, HttpOperations, Next, answer_of, in_time, opening
from host.openai.home import ClientHome
from host.runtime.events import AsyncEventStream, EventStream, next_piece, pieces, upstream_end

BASE: Final = httpx2.URL("https://api.openai.com/v1/")


class Calls:
    """The common part of both transports."""

    def __init__(self, home: ClientHome) -> None:
        self.home = home
        self.operations = HttpOperations(home.catalyst)

    def asked(self, request: httpx2.Request, body: bytes) -> Asked:
        """Raises InputError, of which NotFound is one."""
        path, _, query = request.url.raw_path.partition(b"?")
        if request.url.host != BASE.host or not path.startswith(BASE.raw_path):
            raise InputError(
                f"a request to {request.url.host[:200]!r} is no operation of the catalyst",
                field="base_url",
                hint="the server is the operator's choice: base_url in the catalyst's configuration",
            )
        headers = dict(request.headers)
        return self.operations.asked(request.method, "/" + path[len(BASE.raw_path) :].decode(), query, headers, body)


def _caller(asked: Asked) -> dict[str, Json]:
    model = asked.input["params"].get("model")
    return {**CALLER, "operation": asked.spec.name, **({"model": model[:200]} if isinstance(model, str) else {})}


def _patience(request: httpx2.Request) -> float | None:
    """The seconds that the caller waits: for an answer, or for each piece of one that flows. None: the policy does."""
    found: float | None = request.extensions.get("timeout", {}).get("read")
    return found


def _response(answer: HttpAnswer, request: httpx2.Request, stream: Any = None) -> httpx2.Response:
    more: dict[str, Any] = {"content": answer.body} if stream is None else {"stream": stream}
    extensions = {"result": answer.result, "http_version": b"HTTP/1.1"}
    return httpx2.Response(answer.status, headers=answer.headers, request=request, extensions=extensions, **more)


class Transport(Calls, httpx2.BaseTransport):
    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises HostError, as one of the SDK's."""
        try:
            asked, patience = self.asked(request, request.read()), _patience(request)
            known: dict[str, Any] = {"attachments": asked.attachments, "caller": _caller(asked)}
            catalyst = self.home.catalyst
            if not asked.flows:
                return _response(answer_of(catalyst.run(asked.input, timeout=patience, **known), asked.spec), request)
            stream = catalyst.stream(asked.input, asks=False, takes_pieces=True, **known)
            try:
                answer = _fed(opening(asked), lambda: _next(stream, patience))
            except BaseException:
                stream.close()
                raise
        except HostError as error:
            raise both.of_host(error, request) from error.__cause__
        if answer.body is not None:
            return _response(answer, request)
        return _response(answer, request, _Body(stream, answer, patience, request))

    def close(self) -> None:
        self.home.close()


def _fed(gathering: Generator[None, Next, HttpAnswer], following: Callable[[], Next]) -> HttpAnswer:
    next(gathering)
    while (answer := _sent(gathering, following())) is None:
        pass
    return answer


def _sent(gathering: Generator[None, Next, HttpAnswer], piece: Next) -> HttpAnswer | None:
    """The answer, once `gathering` has it."""
    try:
        gathering.send(piece)
    except StopIteration as done:
        answer: HttpAnswer = done.value
        return answer
    return None


def _result(failed: OperationFailed) -> Result:
    assert isinstance(failed.result, Result)
    return failed.result


def _next(stream: EventStream, patience: float | None) -> Next:
    """Raises HostError; an error status is a Result like any other."""
    try:
        piece = in_time(next_piece(stream, patience), patience)
    except OperationFailed as failed:
        return _result(failed)
    return stream.result if piece is None else piece


class _Body(httpx2.SyncByteStream):
    """The bytes of an answer that flows. Closing it ends the run."""

    def __init__(
        self, stream: EventStream, answer: HttpAnswer, patience: float | None, request: httpx2.Request
    ) -> None:
        self._stream, self._answer, self._patience, self._request = stream, answer, patience, request

    def __iter__(self) -> Iterator[bytes]:
        flow, begun = Flow(self._answer), iter(self._answer.begun)
        try:
            while True:
                piece = next(begun, None)
                if piece is None:
                    piece = _next(self._stream, self._patience)
                if isinstance(piece, Result):
                    break
                yield flow.bytes_of(piece)
            end = upstream_end(self._stream)
            if not piece.ok and (end is None or not end.failed):
                raise OperationFailed(piece)
            yield from flow.end(piece, end)
        except HostError as error:
            raise both.of_host(error, self._request) from error.__cause__

    def close(self) -> None:
        self._stream.close()


class AsyncTransport(Calls, httpx2.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises HostError, as one of the SDK's."""
        try:
            asked, patience = self.asked(request, await request.aread()), _patience(request)
            known: dict[str, Any] = {"attachments": asked.attachments, "caller": _caller(asked)}
            catalyst = self.home.catalyst
            if not asked.flows:
                result = await catalyst.arun(asked.input, timeout=patience, **known)
                return _response(answer_of(result, asked.spec), request)
            stream = catalyst.astream(asked.input, asks=False, takes_pieces=True, **known)
            coming = _Coming(stream, patience)
            try:
                gathering = opening(asked)
                next(gathering)
                while (answer := _sent(gathering, await coming.next())) is None:
                    pass
            except BaseException:
                await stream.aclose()
                raise
        except HostError as error:
            raise both.of_host(error, request) from error.__cause__
        if answer.body is not None:
            return _response(answer, request)
        return _response(answer, request, _AsyncBody(coming, answer, request))

    async def aclose(self) -> None:
        self.home.close()


class _Coming:
    """The pieces of a stream, one by one."""

    def __init__(self, stream: AsyncEventStream, patience: float | None) -> None:
        self.stream, self._patience = stream, patience
        self._ahead: Iterator[Any] = iter(())

    async def next(self) -> Next:
        """As `_next`."""
        for piece in self._ahead:
            found: Next = piece
            return found
        try:
            several = await pieces(self.stream, self._patience)
        except OperationFailed as failed:
            return _result(failed)
        if not several:
            return self.stream.result
        self._ahead = iter(several[1:])
        first = in_time(several[0], self._patience)
        assert first is not None
        return first


class _AsyncBody(httpx2.AsyncByteStream):
    """As `_Body`."""

    def __init__(self, coming: _Coming, answer: HttpAnswer, request: httpx2.Request) -> None:
        self._coming, self._answer, self._request = coming, answer, request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        flow, begun = Flow(self._answer), iter(self._answer.begun)
        try:
            while True:
                piece = next(begun, None)
                if piece is None:
                    piece = await self._coming.next()
                if isinstance(piece, Result):
                    break
                yield flow.bytes_of(piece)
            end = upstream_end(self._coming.stream)
            if not piece.ok and (end is None or not end.failed):
                raise OperationFailed(piece)
            for last in flow.end(piece, end):
                yield last
        except HostError as error:
            raise both.of_host(error, self._request) from error.__cause__

    async def aclose(self) -> None:
        await self._coming.stream.aclose()
