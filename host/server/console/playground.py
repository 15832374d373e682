"""One operation of one catalyst, for the console: its events as they come.

The answer is lines of JSON: `{"run": id}`, again where another run goes on in its place; `{"event": …}` for each
event; `{"waiting": true}` where nothing comes for a while; and last `{"result": …}` or `{"error": …}`, with its
duration and its tokens.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack

from starlette.requests import Request

from host.core.names import Reference
from host.core.operation import Attachment, Mention, Result
from host.core.strict_json import Json, json_bytes, parse_json
from host.errors import HostError, InputError, OperationFailed
from host.runtime.events import is_event
from host.server.asgi import KEEPALIVE_S, LARGE_BYTES, App, Leaving, Receive, Scope, Send, context_of
from host.server.console import bodies, views
from host.server.settings import ServerSettings
from host.service.catalog import Catalog
from host.service.dispatch import Dispatch, Running
from host.service.principal import Admitted, Principal
from host.service.request import OperationRequest

LINES = "application/jsonl"


class Playground:
    """One per process, for its event loop."""

    def __init__(self, catalog: Catalog, dispatch: Dispatch, settings: ServerSettings) -> None:
        self._catalog = catalog
        self._dispatch = dispatch
        self._settings = settings

    async def begin(self, request: Request, principal: Principal) -> App:
        """An ASGI application that answers the request. Raises HostError: then no run has begun."""
        async with AsyncExitStack() as stack:
            context = context_of(request.scope)
            admitted = context.admitted = await stack.enter_async_context(self._dispatch.admitted(principal))
            principal.require("run")  # before a body is read
            given, files = await bodies.read_play(request, self._settings.max_body_bytes, admitted)
            view = await self._catalog.current()
            asked = _request(given, files, admitted, context.request_id)
            resolved = await admitted.off_loop(lambda: self._dispatch.resolve(asked, view))
            context.catalyst, context.operation = str(resolved.component.reference), resolved.operation
            running = await self._dispatch.start(resolved, view)
            context.run = running.id
            held = stack.pop_all()

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            async with held:
                await Lines(running)(scope, receive, send)

        return answer


class Lines:
    """A run, as the answer to a request. A client that leaves ends it."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._began = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        headers = [
            (b"content-type", LINES.encode()),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # for nginx: send each line on as it comes
        ]
        with Leaving(receive, self._running.cancel):
            async with self._running as running:
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await _send_lines(send, {"run": running.id})
                last = await self._last(send)
            took, tokens = round(time.monotonic() - self._began, 6), running.tokens
            used = {"input": tokens.input, "output": tokens.output} if tokens else None
            await _send_lines(send, {**last, "duration_s": took, "tokens": used})
            await send({"type": "http.response.body", "body": b""})

    async def _last(self, send: Send) -> dict[str, Json]:
        """The last line, once the events are sent."""
        try:
            return {"result": views.of_result(await self._result(send))}
        except HostError as error:
            return {"error": error.as_dict()}

    async def _result(self, send: Send) -> Result:
        """The result, whatever its status, once the events are sent. Raises HostError."""
        said = self._running.id
        try:
            while found := await self._running.pieces(KEEPALIVE_S):
                lines: list[Json] = [{"event": _parsed(text)} for text in found if is_event(text)]
                if self._running.id != said:  # the upstream was asked once more
                    said = self._running.id
                    await _send_lines(send, {"run": said})
                await _send_lines(send, *lines or [{"waiting": True}])
        except OperationFailed:
            pass  # the result has the status, too
        return await self._running.result()


def _request(
    given: bodies.Play, files: Mapping[str, Attachment], admitted: Admitted, request_id: str
) -> OperationRequest:
    """Raises InputError."""
    params = {name: _mentioning(one, files) for name, one in given.params.items()}
    return OperationRequest(
        principal=admitted.principal,
        target=Reference.parse(given.reference),
        operation=given.operation,
        params=params if given.operation else {},
        more={} if given.operation else params,
        stream=given.stream,
        attachments=files,
        counts_tokens=True,
        request_id=request_id,
        via="console",
        large=admitted.bytes > LARGE_BYTES,
        admitted=admitted,
    )


def _mentioning(value: Json, files: Mapping[str, Attachment]) -> Json:
    """`value` with a Mention in place of each `{"$attachment": name}` of the files."""
    match value:
        case {"$attachment": str(name)} if name in files and len(value) == 1:
            return Mention(name)
        case dict():
            return {name: _mentioning(one, files) for name, one in value.items()}
        case list():
            return [_mentioning(one, files) for one in value]
    return value


async def _send_lines(send: Send, *lines: Json) -> None:
    body = b"".join(json_bytes(line) + b"\n" for line in lines)
    await send({"type": "http.response.body", "body": body, "more_body": True})


def _parsed(text: str) -> Json:
    try:
        return parse_json(text, "the event")
    except InputError:
        return {"raw": text}
