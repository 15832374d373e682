"""One operation of one catalyst, run as any other is, for whoever has the console: its events as they arrive.

The answer is lines of JSON: `{"run": id}`, `{"event": …}` for each event, and last `{"result": …}` or `{"error": …}`,
with what it took.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from starlette.requests import Request

from host.core.names import Reference
from host.core.operation import Result
from host.core.strict_json import Json, parse_json
from host.errors import HostError, InputError, OperationFailed
from host.server.asgi import Leaving, Receive, Scope, Send, encoded, state
from host.server.console import bodies, views
from host.server.settings import ServerSettings
from host.service.catalog import Catalog, check_model, operations_of
from host.service.dialects.openai import Tokens, asking_for_usage, only_tells_usage, tokens_in
from host.service.dispatch import Dispatch, OperationRequest, Running
from host.service.principal import Principal

LINES = "application/jsonl"


class Playground:
    """One per process, for its event loop."""

    def __init__(self, catalog: Catalog, runner: Dispatch, settings: ServerSettings) -> None:
        self._catalog = catalog
        self._runner = runner
        self._settings = settings

    async def begin(self, request: Request, principal: Principal) -> Lines:
        """An ASGI application that answers the request. Raises HostError: then nothing has begun."""
        principal.require("run")
        asked = await bodies.read(request, bodies.Play, self._settings.max_body_bytes)
        view = await self._catalog.current()
        component = view.component(Reference.parse(asked.reference))
        principal.require_catalyst(component.reference)
        spec = operations_of(component).get(asked.operation)
        takes = component.manifest.schemas.get("input", True) if component.manifest else True
        given = check_model(principal, view, spec, asked.params, takes)
        known = state(request.scope)
        known |= {"catalyst": str(component.reference), "operation": asked.operation}
        params, added = asking_for_usage(asked.operation, given) if asked.stream else (given, False)
        running = await self._runner.start(
            OperationRequest(
                principal=principal,
                catalyst=await self._catalog.catalyst(view, component.reference),
                operation=asked.operation,
                params=params,
                stream=asked.stream,
                attachments=asked.attachments(),
                request=known["request_id"],
                via="console",
                more={} if asked.operation else params,
            )
        )
        known["run"] = running.id
        return Lines(running, hides_usage=added)


class Lines:
    """A run, as the answer to a request. Whoever leaves ends it. `hides_usage`: the event that tells what was used was
    not asked for."""

    def __init__(self, running: Running, *, hides_usage: bool) -> None:
        self._running = running
        self._hides_usage = hides_usage
        self._began = time.monotonic()
        self._tokens: Tokens | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        headers = [
            (b"content-type", LINES.encode()),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # nginx's word for: hand each line on as it comes
        ]
        with Leaving(receive, self._running.cancel):
            async with self._running as running:
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await _tell(send, {"run": running.id})
                try:
                    result = await self._result(send)
                    self._tokens = tokens_in(result.data) or self._tokens
                    last: dict[str, Json] = {"result": views.of_result(result)}
                except HostError as error:
                    last = {"error": error.as_dict()}
            took = round(time.monotonic() - self._began, 6)
            used = {"input": self._tokens.input, "output": self._tokens.output} if self._tokens else None
            await _tell(send, {**last, "duration_s": took, "tokens": used})
            await send({"type": "http.response.body", "body": b""})

    async def _result(self, send: Send) -> Result:
        """The run's, whatever its status, once its events were sent. Raises HostError."""
        try:
            while texts := await self._running.texts():
                await _tell(send, *self._events(texts))
        except OperationFailed:
            pass  # the result says so as well
        return await self._running.result()

    def _events(self, texts: list[str]) -> Iterator[Json]:
        for text in texts:
            event = _parsed(text)
            self._tokens = tokens_in(event) or self._tokens
            if not (self._hides_usage and only_tells_usage(text)):
                yield {"event": event}


async def _tell(send: Send, *lines: Json) -> None:
    body = b"".join(encoded(line) + b"\n" for line in lines)
    await send({"type": "http.response.body", "body": body, "more_body": True})


def _parsed(text: str) -> Json:
    try:
        return parse_json(text, "the event")
    except InputError:
        return {"raw": text}
