"""The gateway: a request of OpenAI's API becomes an operation, and its result or its events the answer."""

from __future__ import annotations

from collections.abc import Sequence

from host.core.names import Reference
from host.errors import Cancelled, Forbidden, HostError, InputError, OperationFailed
from host.server.asgi import Leaving, Receive, Scope, Send, encoded, final_status, header, send_whole
from host.server.auth import principal_of
from host.server.openai import answers
from host.server.openai.requests import Matched, Routes, read_content
from host.server.request_context import RequestContext, context_of
from host.server.settings import ServerSettings
from host.service.catalog import Catalog, View
from host.service.dialects import openai
from host.service.dispatch import Dispatch, Running
from host.service.models import list_models
from host.service.operations import operations_of
from host.service.principal import Principal
from host.service.request import OperationRequest
from host.store.components import Component

PREFIX = "/v1"
VIA = "gateway"
CATALYST = "x-catalyst"  # of a request: the catalyst for it, whatever its model; of an answer: the one that answered
RUN = "x-catalyst-run"


class Gateway:
    """An ASGI application, below `/v1`."""

    def __init__(self, catalog: Catalog, dispatch: Dispatch, settings: ServerSettings) -> None:
        self._catalog = catalog
        self._dispatch = dispatch
        self._settings = settings
        self._routes: tuple[View, Routes] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = context_of(scope)
        try:
            await self._answer(context, scope, receive, send)
        except Cancelled as error:
            if not context.left:
                await _send_error(context, send, error)
        except Forbidden as error:
            refused = self._dispatch.refused
            said = await refused(error, context.principal, request_id=context.request_id, route=context.route)
            await _send_error(context, send, said)
        except HostError as error:
            await _send_error(context, send, error)

    async def _answer(self, context: RequestContext, scope: Scope, receive: Receive, send: Send) -> None:
        view = await self._catalog.current()
        principal = context.principal = principal_of(scope, view.keys, self._settings)
        matched = self._matched(view, scope)
        if not isinstance(matched, Matched):
            await _send_no_route(scope, matched, send, empty=not view.components)
            return
        context.route = f"{matched.route.method} {PREFIX}{matched.route.template}"
        principal.require("run")  # before a body is read
        if matched.lists_models and header(scope, CATALYST) is None:
            ident = context.request_id
            models = await list_models(self._dispatch, view, principal, request_id=ident, via=VIA)
            await send_whole(send, 200, encoded(models))
            return
        request = await self._request(context, scope, receive, principal, matched)
        resolved = self._dispatch.resolve(request, view)
        context.catalyst, context.operation = str(resolved.reference), resolved.operation
        running = await self._dispatch.start(resolved, view)
        context.run = running.id

        def leave() -> None:
            context.left = True
            running.cancel()

        with Leaving(receive, leave):
            async with running:
                if resolved.stream and await _streamed(running, send):
                    return
                result = await running.result()
            body, media_type = answers.whole(result, resolved.spec)
            more = {**answers.handed_on(result.headers), **_about(running)}
            await send_whole(send, final_status(result.status), body, media_type, more)

    def _matched(self, view: View, scope: Scope) -> Matched | Sequence[str]:
        if self._routes is None or self._routes[0] is not view:
            self._routes = view, Routes((one.reference, operations_of(one).values()) for one in _routed_first(view))
        path = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0].decode("latin-1")
        return self._routes[1].find(scope["method"], path.removeprefix(scope.get("root_path", "")))

    async def _request(
        self, context: RequestContext, scope: Scope, receive: Receive, principal: Principal, matched: Matched
    ) -> OperationRequest:
        """For the catalyst that the header names, or else for the one that has the model. Raises InputError."""
        some = next(iter(matched.route.specs.values()))  # every catalyst of one route reads the body in the same way
        content = await read_content(scope, receive, some, self._settings.max_body_bytes)
        model = openai.model_of(matched.route.template, matched.values, content.params)
        named = header(scope, CATALYST)
        return OperationRequest(
            principal=principal,
            target=model if named is None else _reference(named),
            operation=matched,
            params=content.params,
            stream=content.stream,
            attachments=content.attachments,
            request_id=context.request_id,
            via=VIA,
            large=content.large,
        )


async def _streamed(running: Running, send: Send) -> bool:
    """Send events as they come; False where there are none. Raises HostError before the first event; an error after it
    is sent as an event."""
    try:
        texts = await running.texts()
    except OperationFailed:
        return False  # it is answered like any other result
    if not texts:
        texts = answers.gathered(await running.result())
        if not texts:
            return False
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),  # nginx's word for: hand each event on as it comes
        *((name.encode(), value.encode()) for name, value in _about(running).items()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    last = answers.DONE if answers.ends_with_done(texts[0]) else b""
    try:
        while texts:
            await send({"type": "http.response.body", "body": answers.events(texts), "more_body": True})
            texts = await running.texts()
    except HostError as error:
        last = answers.failure(answers.of_host(error)[1])
    await send({"type": "http.response.body", "body": last})
    return True


def _routed_first(view: View) -> Sequence[Component]:
    """Catalysts that the operator routes to come before others: they say how the body of a route is read, and not some
    other catalyst that declares the same route."""
    routed = [one.any_version for one in view.routing.references]
    return sorted(view.components, key=lambda one: (not one.approved, one.reference.any_version not in routed))


def _about(running: Running) -> dict[str, str]:
    return {CATALYST: running.catalyst.reference, RUN: running.id}


def _reference(given: str) -> Reference:
    try:
        return Reference.parse(given)
    except InputError as error:
        raise InputError(f"{CATALYST}: {error.message}", field=CATALYST, hint=error.hint) from None


async def _send_error(context: RequestContext, send: Send, error: HostError) -> None:
    context.error = error.code
    status, body, headers = answers.of_host(error)
    await send_whole(send, status, encoded(body), headers=headers)


async def _send_no_route(scope: Scope, allowed: Sequence[str], send: Send, *, empty: bool) -> None:
    at = f"{scope['method'][:20]} {scope['path'][:200]}"
    if allowed:
        shown = answers.body(f"Not a method of this path: {at}", answers.INVALID, code="method_not_supported")
        await send_whole(send, 405, encoded(shown), headers={"allow": ", ".join(allowed)})
    else:
        said = f"Unknown request URL: {at}"
        if empty:  # so that callers do not look for the mistake in their URL
            said += " (nothing is installed yet; the operator does it: host register FILE)"
        shown = answers.body(said, answers.INVALID, code="unknown_url")
        await send_whole(send, 404, encoded(shown))
