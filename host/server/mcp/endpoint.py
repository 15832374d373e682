"""`/mcp` by Streamable HTTP, without sessions: each POST stands alone, so that any worker can answer it.

A client that accepts events gets them where there are any: progress notifications, and since the version 2026-07-28
pings during a long wait. Other clients, such as `curl`, get plain JSON of any size: the SDK's client takes an event of
1 MiB at most. A client that leaves ends its run. So does `notifications/cancelled` of the versions before 2026-07-28,
where it comes to the worker that has the call: there is no session that would lead it there.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from sse_starlette.sse import AppStatus

from host.core.strict_json import Json, WrittenObject, json_bytes
from host.errors import Cancelled, HostError, InputError
from host.runtime.workspace import Workspace
from host.server.asgi import (
    LARGE_BYTES,
    UNANSWERED,
    Leaving,
    Message,
    Receive,
    RequestContext,
    Scope,
    Send,
    client_address,
    context_of,
    header,
    last_words,
    principal_of,
    read_body,
    read_json,
    send_whole,
)
from host.server.http_errors import ending, headers_of, note_failure, status_of
from host.server.mcp import results
from host.server.mcp.messages import RpcMessage, RpcRefusal, read_message
from host.server.mcp.server import ToolServer
from host.server.settings import ServerSettings
from host.service.catalog import Catalog
from host.service.dispatch import Dispatch

_EVENTS = "text/event-stream"
_VERSION = "mcp-protocol-version"
_BEFORE_2026 = (None, *HANDSHAKE_PROTOCOL_VERSIONS)
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_NO_BATCHES = "batches are not answered here: send each message in a request of its own"
_LONGEST_BEGINNING = 1024  # of a body, to look for its first character in
_CANCELLED = -32800  # as the Language Server Protocol has it: JSON-RPC and MCP have no code for it
_WAS_CANCELLED = "the client cancelled the request"
_UNAUTHENTICATED = -32001  # of the range that JSON-RPC leaves to servers: there is no agreed code


class McpEndpoint:
    """An ASGI application for one path. Its owner calls `aclose` at the end of the lifespan."""

    def __init__(self, catalog: Catalog, dispatch: Dispatch, workspace: Workspace, settings: ServerSettings) -> None:
        self._catalog = catalog
        self._dispatch = dispatch
        self._settings = settings
        tools = ToolServer(catalog, dispatch, workspace, listed=settings.mcp_tools)
        self._json, self._events = (
            StreamableHTTPSessionManager(
                tools.server,
                json_response=as_json,
                stateless=True,
                security_settings=_security(settings),
                max_request_body_size=settings.max_body_bytes,
            )
            for as_json in (True, False)
        )
        AppStatus.enable_automatic_graceful_drain = False  # streams end by their runs' deadlines
        self._holding: asyncio.Task[None] | None = None
        self._held = asyncio.Event()
        self._closing = asyncio.Event()
        self._under_way = _UnderWay()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = context_of(scope)
        context.route = f"{'POST' if scope['method'] == 'POST' else 'other'} /mcp"
        try:
            view = await self._catalog.current()
            context.principal = principal_of(scope, view.keys, self._settings)
            if scope["method"] != "POST":
                said = "only POST is answered here"
                context.failed("method_not_supported", said)
                await _send_error(send, 405, INVALID_REQUEST, said, headers={"allow": "POST"})
                return
            async with self._dispatch.admitted(context.principal) as context.admitted:
                body = await read_body(scope, receive, self._settings.max_body_bytes, context.admitted)
                context.large = len(body) > LARGE_BYTES
                if body[:_LONGEST_BEGINNING].removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"[":
                    await _send_no_message(context, send, RpcRefusal(INVALID_REQUEST, _NO_BATCHES))
                    return
                value = await read_json(body, "the body", context.admitted, written=True)
                read = read_message(value)
                if isinstance(read, RpcRefusal):
                    await _send_no_message(context, send, read)
                    return
                message = _Message.of(read, body)
                context.arguments = message.arguments
                if read.method == "tools/call" and isinstance(value, WrittenObject):
                    context.arguments = await _arguments(value, context) or message.arguments
                caller = context.principal.id, str(client_address(scope, self._settings))
                if read.cancels is not None and header(scope, _VERSION) in _BEFORE_2026:
                    self._under_way.cancel((*caller, read.cancels))
                await self._answer(scope, message, receive, send, caller)
        except asyncio.CancelledError:
            if context.status == UNANSWERED and not context.left:
                await last_words(_send_refusal(send, ending()))
            raise
        except Cancelled:
            raise
        except HostError as error:
            note_failure(context, error)
            await _send_refusal(send, error)

    async def aclose(self) -> None:
        """End the requests under way. Any number of times."""
        self._closing.set()
        if self._holding is not None:
            await self._holding

    async def _answer(
        self, scope: Scope, message: _Message, receive: Receive, send: Send, caller: tuple[str, str]
    ) -> None:
        await self._hold()
        accepts = header(scope, "accept") or ""
        wanted = _EVENTS in accepts and (message.reports or header(scope, _VERSION) not in _BEFORE_2026)
        if wanted or not accepts:
            scope = {
                **scope,
                "headers": [*_without_accept(scope), (b"accept", f"application/json, {_EVENTS}".encode())],
            }
        manager = self._events if wanted else self._json
        answering = _Answering(send)
        with Leaving(receive, answering.leave), self._under_way.held((*caller, message.ident), answering):
            try:
                await manager.handle_request(scope, _replayed(message.body), answering.send)
            except asyncio.CancelledError:
                if answering.cancelled and not answering.left:
                    answering.task.uncancel()
                    await answering.end_cancelled(message.ident)
                    return
                if not answering.left:
                    if answering.begun:
                        await last_words(answering.end(message.ident))
                    raise
                answering.task.uncancel()
                raise Cancelled("the client left") from None

    async def _hold(self) -> None:
        """Enters the SDK's managers at the first request, and leaves them in the same task, as they require."""
        if self._holding is None:
            self._holding = asyncio.get_running_loop().create_task(self._hold_open())
        await self._held.wait()

    async def _hold_open(self) -> None:
        async with AsyncExitStack() as stack:
            for manager in (self._json, self._events):
                await stack.enter_async_context(manager.run())
            self._held.set()
            await self._closing.wait()


class _UnderWay:
    """The calls of this worker that are not answered yet, by caller, address and id."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str, Json], list[_Answering]] = {}

    @contextmanager
    def held(self, call: tuple[str, str, Json], answering: _Answering) -> Iterator[None]:
        calls = self._calls.setdefault(call, [])
        calls.append(answering)
        try:
            yield
        finally:
            calls.remove(answering)
            if not calls:
                self._calls.pop(call, None)

    def cancel(self, call: tuple[str, str, Json]) -> None:
        """Cancel the call. Where several clients of one key and address have one of that id, it is nobody's to end."""
        match self._calls.get(call):
            case [answering]:
                answering.cancel()


class _Answering:
    """The task that answers. A client that leaves cancels it, but not after the whole answer: then the server reports
    every client as gone, while the SDK still tidies up."""

    def __init__(self, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task: asyncio.Task[Any] = task
        self.left = self.cancelled = False
        self._send = send
        self._begun = self._whole = False

    @property
    def begun(self) -> bool:
        """Whether events were begun, and not ended."""
        return self._begun and not self._whole

    async def end(self, ident: Json) -> None:
        """End the events with an error, as the answer to the message `ident`."""
        error = {"code": INTERNAL_ERROR, "message": str(ending()), "data": results.facts_of(ending())}
        await self._end_with(ident, error)

    async def end_cancelled(self, ident: Json) -> None:
        """Answer the call that the client has cancelled: its request is still there."""
        if self.begun:
            await self._end_with(ident, {"code": _CANCELLED, "message": _WAS_CANCELLED})
        else:
            await _send_error(self._send, 200, _CANCELLED, _WAS_CANCELLED, ident=ident)

    async def _end_with(self, ident: Json, error: dict[str, Json]) -> None:
        said = json_bytes({"jsonrpc": "2.0", "id": ident, "error": error})
        await self._send({"type": "http.response.body", "body": b"event: message\ndata: " + said + b"\n\n"})

    def cancel(self) -> None:
        if not self._whole:
            self.cancelled = True
            self.task.cancel()

    async def send(self, message: Message) -> None:
        self._begun = True
        self._whole = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    def leave(self) -> None:
        if not self._whole:
            self.left = True
            self.task.cancel()


def _security(settings: ServerSettings) -> TransportSecuritySettings:
    """The SDK's checks of host and origin. Those of the middleware come before them, and are as strict or stricter."""
    if "*" in settings.allowed_hosts:
        return TransportSecuritySettings(enable_dns_rebinding_protection=False)
    hosts = [*_LOOPBACK, *settings.allowed_hosts]
    with_ports = [text for name in hosts for text in (name, f"{name}:*")]
    own = [f"{scheme}://{name}" for scheme in ("http", "https") for name in with_ports]
    return TransportSecuritySettings(allowed_hosts=with_ports, allowed_origins=[*own, *settings.cors_origins])


@dataclass(frozen=True, slots=True)
class _Message:
    """A JSON-RPC message. `reports`: the client asked for progress notifications. `ident` is its id, None for none.
    `arguments` of a large message are those of a tool; `body` is without them then: the SDK would parse and write them
    on the event loop."""

    body: bytes
    reports: bool
    ident: Json
    arguments: Mapping[str, Json] | None = None

    @classmethod
    def of(cls, read: RpcMessage, body: bytes) -> _Message:
        """The message that was read from `body`; written anew where the SDK would not take it as it is. Raises
        InputError."""
        value, ident = read.value, read.ident
        arguments: Mapping[str, Json] | None = None
        match value:
            case {"params": {"_meta": {"progressToken": _}}}:
                reports = True
            case _:
                reports = False
        if len(body) <= LARGE_BYTES:
            as_it_is = not body.startswith(codecs.BOM_UTF8) and b"\\ud" not in body.lower() and not read.changed
            return cls(body if as_it_is else json_bytes(value), reports, ident)
        match value:
            case {"method": "tools/call", "params": {"arguments": dict(arguments)}}:
                value = {**value, "params": {**value["params"], "arguments": {}}}
        body = json_bytes(value)
        if len(body) > LARGE_BYTES:
            raise InputError(
                f"the message has more than {LARGE_BYTES} bytes beside the arguments of a tool",
                field="body",
                hint="only the arguments of tools/call may be large",
            )
        return cls(body, reports, ident, arguments)


async def _arguments(value: WrittenObject, context: RequestContext) -> WrittenObject | None:
    """The arguments of a tool, which know how they were written. Raises InputError."""

    def read() -> WrittenObject | None:
        params = value.within("params", "the message")
        return None if params is None else params.within("arguments", "the message")

    return await context.admitted.off_loop(read) if context.large and context.admitted else read()


def _replayed(body: bytes) -> Receive:
    """The body that was read, once more. `Leaving` notices when the client leaves."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if parts:
            return parts.pop()
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    return receive


def _without_accept(scope: Scope) -> Sequence[tuple[bytes, bytes]]:
    return [(name, value) for name, value in scope["headers"] if name != b"accept"]


async def _send_refusal(send: Send, error: HostError) -> None:
    status = status_of(error)
    code = PARSE_ERROR if isinstance(error, InputError) else _UNAUTHENTICATED if status == 401 else INTERNAL_ERROR
    shown = results.facts_of(error)
    message = f"{shown['message']} ({shown['hint']})" if "hint" in shown else str(shown["message"])
    await _send_error(send, status, code, message, shown, dict(headers_of(error)))


async def _send_no_message(context: RequestContext, send: Send, refusal: RpcRefusal) -> None:
    context.failed("invalid_message", refusal.text)
    await _send_error(send, 400, refusal.code, refusal.text, ident=refusal.ident)


async def _send_error(
    send: Send,
    status: int,
    code: int,
    message: str,
    data: Json = None,
    headers: dict[str, str] | None = None,
    *,
    ident: Json = None,
) -> None:
    error = {"code": code, "message": message, **({} if data is None else {"data": data})}
    body = json_bytes({"jsonrpc": "2.0", "id": ident, "error": error})
    await send_whole(send, status, body, headers=headers or {})
