"""The connections of the official SDK's clients: it says what is sent and what comes, and the host opens them.

The SDK's managers open a WebSocket by a method of their own. Here each of them gets another one, which runs the
operation at the catalyst.
"""

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import httpx2
import openai

from host.core.conversation import NORMAL, Closed, SocketMessage
from host.core.operation import Result
from host.core.strict_json import Json
from host.errors import HostError, InputError, OperationFailed
from host.openai import both
from host.openai.exchange import CALLER, HttpOperations, lower
from host.openai.messages import handed_on, of_upstream
from host.runtime.catalyst import Catalyst

if TYPE_CHECKING:
    from host.runtime.connections import AsyncEventConnection, EventConnection

WITHIN: Final[Mapping[str, tuple[str, ...]]] = {
    "realtime": ("translations",),
    "responses": (),
    "live": ("sideband", "forks"),
    "beta": ("realtime", "responses"),
}
"""The resources of a client that have connections, or of which some within have."""


class ClientConnections:
    """Opens the connections of one client."""

    def __init__(self, client: Any, catalyst: Catalyst, operations: HttpOperations) -> None:
        self._client, self._catalyst, self._operations = client, catalyst, operations
        self._resources: dict[str, Any] = {}
        self._lock = threading.Lock()

    def resource(self, name: str, theirs: Callable[[], Any]) -> Any:
        """The client's resource `name`, which `theirs` makes, with connections that the host opens. Thread-safe: no
        thread gets one whose connections are still the SDK's."""
        if (known := self._resources.get(name)) is not None:
            return known
        with self._lock:
            if name not in self._resources:
                self._resources[name] = self._through(theirs(), name)
            return self._resources[name]

    def _through(self, resource: Any, name: str) -> Any:
        for inner in WITHIN.get(name, ()):
            self._through(getattr(resource, inner), f"{name}.{inner}")
        if (theirs := getattr(resource, "connect", None)) is not None:
            resource.connect = lambda *args, **given: self._manager(f"{name}.connect", theirs, args, given)
        return resource

    def _manager(self, name: str, theirs: Callable[..., Any], args: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
        """The SDK's manager of a connection. Raises InputError."""
        bound = inspect.signature(theirs).bind(*args, **given).arguments
        spec = self._catalyst.operation(name)
        if spec is None or not spec.websocket:
            raise both.of_host(InputError(f"{self._catalyst.reference} has no connection {name}", field="operation"))
        if bound.get("websocket_connection_options"):
            raise both.of_host(
                InputError(
                    "websocket_connection_options are not for a connection that the host opens",
                    field="websocket_connection_options",
                    hint="its bounds are the policy's: max_message_size, idle_timeout, stream_timeout",
                )
            )
        given_here = {one: value for one, value in bound.items() if one not in _OF_THE_MANAGER and _is_given(value)}
        if others := given_here.keys() - (spec.parameters or ()):
            raise both.of_host(InputError(f"{name} takes no {', '.join(sorted(others))}", field=min(others)))

        def asked(extra_query: Mapping[str, Any], extra_headers: Mapping[str, Any]) -> dict[str, Json]:
            query, headers = self._query(extra_query), self._headers(extra_headers)
            return self._operations.input(spec, given_here, {}, query, headers, stream=True)

        manager = theirs(*args, **given)
        opens: Callable[..., Any] = self._opened
        if isinstance(self._client, openai.AsyncOpenAI):
            opens = self._aopened
        if hasattr(manager, "_connect_ws"):
            manager._connect_ws = lambda query, headers: opens(asked, query, headers)  # noqa: SLF001 - see above
            return manager
        kind = inspect.signature(type(manager).enter).return_annotation
        connection = getattr(inspect.getmodule(type(manager)), kind)
        return _Manager(connection, lambda: opens(asked, bound.get("extra_query", {}), bound.get("extra_headers", {})))

    def _query(self, more: Mapping[str, Any]) -> str:
        """The client's own query and `more` of it, as the SDK writes them: a list is repeated in `more` alone."""
        own = {name: value for name, value in self._client.default_query.items() if name not in more}
        given = {name: "" if value is None else value for name, value in more.items()}
        parts = (self._client.qs.stringify(own), self._client.qs.stringify(given, array_format="repeat"))
        return "&".join(part for part in parts if part)

    def _headers(self, more: Mapping[str, Any]) -> dict[str, str]:
        """Those that the caller gave to the client, and `more` of them, which may take some away."""
        own = lower(self._client.default_headers)
        named = lower(self._client._custom_headers)  # noqa: SLF001 - the SDK's own are of no interest
        return _given({**self._operations.without_the_sdks(_given(own)), **named, **lower(more)})

    def _opened(self, asked: Callable[..., dict[str, Json]], query: Any, headers: Any) -> _Socket:
        try:
            return _Socket(self._catalyst.connect(asked(query, headers), caller=CALLER))
        except HostError as error:
            raise self._refused(error) from error.__cause__

    async def _aopened(self, asked: Callable[..., dict[str, Json]], query: Any, headers: Any) -> _AsyncSocket:
        try:
            return _AsyncSocket(await self._catalyst.aconnect(asked(query, headers), caller=CALLER))
        except HostError as error:
            raise self._refused(error) from error.__cause__

    def _refused(self, error: HostError) -> Exception:
        """The error of a connection that was not opened, which an error status is too."""
        request = httpx2.Request("GET", self._client.base_url)
        if not isinstance(error, OperationFailed) or not isinstance(error.result, Result):
            return both.of_host(error, request)
        result, about = error.result, handed_on(error.result.headers)
        response = httpx2.Response(result.status, headers=about, json=of_upstream(result.error), request=request)
        response.extensions["result"] = result
        found: Exception = self._client._make_status_error_from_response(response)  # noqa: SLF001 - as for other answers
        return found


_OF_THE_MANAGER: Final = frozenset(  # which does what they say
    {
        *("extra_query", "extra_headers", "websocket_connection_options", "on_reconnecting"),
        *("max_retries", "initial_delay", "max_delay", "max_queue_size"),
    }
)


def _is_given(value: object) -> bool:
    return value is not None and not isinstance(value, openai.Omit | openai.NotGiven)


def _given(headers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in headers.items() if _is_given(value)}


def _end(closed: Closed | None) -> Exception:
    """The exception by which the SDK's loops know the end of a connection."""
    from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK  # noqa: PLC0415 - connections alone need it
    from websockets.frames import Close  # noqa: PLC0415 - as above

    if closed is None:
        return ConnectionClosedError(None, None)
    frame = Close(closed.code, closed.reason)
    return (ConnectionClosedOK if closed.ok else ConnectionClosedError)(frame, frame, rcvd_then_sent=True)


def _shown(message: SocketMessage, decode: bool | None) -> SocketMessage:
    if decode is None:
        return message
    if decode:
        return message if isinstance(message, str) else message.decode()
    return message.encode() if isinstance(message, str) else message


class _Socket:
    """A connection as the SDK knows it: one of `websockets`."""

    def __init__(self, connection: EventConnection) -> None:
        self._connection = connection

    def send(self, data: SocketMessage) -> None:
        if self._connection.closed is not None:
            raise _end(self._connection.closed)
        self._connection.send(data)

    def recv(self, timeout: float | None = None, *, decode: bool | None = None) -> SocketMessage:
        """Raises what `_end` returns, and HostError as one of the SDK's."""
        if timeout is not None:
            raise InputError("recv has no timeout here", field="timeout", hint="the policy has one: idle_timeout")
        try:
            message = self._connection.message()
        except HostError as error:
            raise _last(error, self._connection.closed) from error.__cause__
        if message is None:
            raise _end(self._connection.closed)
        return _shown(message, decode)

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        self._connection.close(code, reason)


class _AsyncSocket:
    """As `_Socket`."""

    def __init__(self, connection: AsyncEventConnection) -> None:
        self._connection = connection
        self._ahead: deque[SocketMessage] = deque()

    async def send(self, data: SocketMessage) -> None:
        if self._connection.closed is not None:
            raise _end(self._connection.closed)
        await self._connection.send(data)

    async def recv(self, decode: bool | None = None) -> SocketMessage:
        try:
            if not self._ahead:
                self._ahead.extend(await self._connection.messages())
        except HostError as error:
            raise _last(error, self._connection.closed) from error.__cause__
        if not self._ahead:
            raise _end(self._connection.closed)
        return _shown(self._ahead.popleft(), decode)

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        await self._connection.aclose(code, reason)


def _last(error: HostError, closed: Closed | None) -> Exception:
    """The error of a connection that was open: where the upstream ended it, its code says more."""
    return _end(closed) if closed is not None and isinstance(error, OperationFailed) else both.of_host(error)


class _Manager:
    """In place of a manager that has no method of its own for opening a connection."""

    def __init__(self, connection: Callable[[Any], Any], opens: Callable[[], Any]) -> None:
        self._kind, self._opens = connection, opens
        self._connection: Any = None

    def __enter__(self) -> Any:
        self._connection = self._kind(self._opens())
        return self._connection

    async def __aenter__(self) -> Any:
        self._connection = self._kind(await self._opens())
        return self._connection

    enter = __enter__

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()
