"""The gateway: a request of OpenAI's API becomes an operation, and its result or its events the answer.

Answers are documents, bytes, text, events (WHATWG HTML, 9.2) or errors. Every error has OpenAI's shape: `{"error":
{"message", "type", "param", "code"}}`. `type` is OpenAI's own word where there is one; for denials and failures of the
sandbox it is the host's code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from host.component.operations import OperationSpec
from host.core.names import Reference
from host.core.strict_json import Json, json_bytes
from host.errors import (
    Cancelled,
    Denied,
    Forbidden,
    HostError,
    InputError,
    LimitExceeded,
    NotFound,
    OperationFailed,
    Overloaded,
    Unauthenticated,
)
from host.openai.messages import (
    Content,
    about_bytes,
    content_of,
    events,
    failure,
    form_of,
    gathered,
    handed_on,
    instead,
    last_of,
    of_upstream,
    place_of,
    read_query,
    whole,
)
from host.run import AnswerHead, Piece
from host.runtime.events import KEEPALIVE, is_event
from host.server.asgi import (
    CONNECTION,
    KEEPALIVE_S,
    LARGE_BYTES,
    Leaving,
    Receive,
    RequestContext,
    Scope,
    Send,
    context_of,
    final_status,
    header,
    headers_by_name,
    last_words,
    principal_of,
    read_body,
    read_json,
    send_whole,
)
from host.server.http_errors import ending, headers_of, note_failure, status_of, words_outside
from host.server.settings import ServerSettings
from host.service.catalog import Catalog, Matched, Routes, View
from host.service.dialects import openai
from host.service.dispatch import Dispatch, Running
from host.service.models import list_models
from host.service.operations import operations_of
from host.service.principal import Admitted, Principal
from host.service.request import OperationRequest
from host.store.components import Component

PREFIX = "/v1"
VIA = "gateway"
CATALYST = "x-catalyst"  # of a request: the catalyst for it, whatever its model; of an answer: the one that answered
RUN = "x-catalyst-run"
TRIED = "x-catalyst-tried"  # the targets that did not serve the request: catalyst, run, and what came of it
_DOCUMENT_S = 0.25  # that the head of a stream waits: what is called a stream may be an error, which has a status then


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
                await send_error(context, send, error)
        except Forbidden as error:
            refused = self._dispatch.refused
            said = await refused(error, context.principal, request_id=context.request_id, route=context.route)
            await send_error(context, send, said)
        except HostError as error:
            if isinstance(error, Overloaded) and CONNECTION in scope:
                scope[CONNECTION].turned_away(scope)
            await send_error(context, send, error)

    async def _answer(self, context: RequestContext, scope: Scope, receive: Receive, send: Send) -> None:
        view = await self._catalog.current()
        principal = context.principal = principal_of(scope, view.keys, self._settings)
        matched = self._matched(view, scope)
        spends = isinstance(matched, Matched) and principal.key is not None and matched.spends
        async with self._dispatch.admitted(principal, spends=spends) as admitted:
            await self._answered(context, scope, receive, send, view, matched, admitted)

    async def _answered(
        self,
        context: RequestContext,
        scope: Scope,
        receive: Receive,
        send: Send,
        view: View,
        matched: Matched | Sequence[str],
        admitted: Admitted,
    ) -> None:
        principal = admitted.principal
        if not isinstance(matched, Matched):
            await _send_no_route(context, scope, matched, send, empty=not view.components)
            return
        context.route = f"{matched.route.method} {PREFIX}{matched.route.template}"
        principal.require("run")  # before a body is read
        if principal.key is not None:
            _require_route(principal, matched)
        if matched.lists_models and header(scope, CATALYST) is None:
            ident = context.request_id
            query, params = read_query(scope["query_string"])
            asked = OperationRequest(principal, params=params, query=query, request_id=ident, via=VIA)
            models = await list_models(self._dispatch, view, asked)
            await send_whole(send, 200, json_bytes(models))
            return
        request = await self._request(context, scope, receive, admitted, matched)
        if await self._answered_here(context, request, send):
            return
        if request.large:
            resolved = await admitted.off_loop(lambda: self._dispatch.resolve(request, view))
        else:
            resolved = self._dispatch.resolve(request, view)
        context.catalyst, context.operation = str(resolved.reference), resolved.operation
        running = await self._dispatch.start(resolved, view)
        context.run = running.id

        def leave() -> None:
            context.left = True
            running.cancel()

        with Leaving(receive, leave):
            try:
                async with running:
                    if resolved.flows and await _flowed(context, running, send):
                        return
                    result = await running.result()
            finally:
                context.run = running.id  # another one where an upstream was asked once more
                context.catalyst = running.catalyst.reference if running.tried else context.catalyst
                context.about = about(running)
            if not result.ok:
                note_failure(context, result)
            body, media_type = whole(result, resolved.spec)
            more = {**handed_on(result.headers), **place_of(result), **context.about}
            await send_whole(send, final_status(result.status), body, media_type, more)

    def _matched(self, view: View, scope: Scope) -> Matched | Sequence[str]:
        if self._routes is None or self._routes[0] is not view:
            self._routes = view, Routes((one.reference, operations_of(one).values()) for one in _routed_first(view))
        return self._routes[1].find(scope["method"], path_below(scope))

    async def _request(
        self, context: RequestContext, scope: Scope, receive: Receive, admitted: Admitted, matched: Matched
    ) -> OperationRequest:
        """For the catalyst that the header names, or else for the one that has the model. Raises InputError."""
        some = next(iter(matched.route.specs.values()))  # every catalyst of one route reads the body in the same way
        content = await read_content(scope, receive, some, self._settings.max_body_bytes, admitted)
        model = openai.model_of(matched.route.template, matched.values, content.params)
        named = header(scope, CATALYST)
        return OperationRequest(
            principal=admitted.principal,
            target=model if named is None else reference_of(named),
            operation=matched,
            params=content.params,
            query=content.query,
            headers=headers_by_name(scope),
            stream=content.stream,
            attachments=content.attachments,
            request_id=context.request_id,
            via=VIA,
            large=content.large,
            takes_pieces=True,
            admitted=admitted,
        )

    async def _answered_here(self, context: RequestContext, request: OperationRequest, send: Send) -> bool:  # noqa: ARG002 - for gateways that do
        """Answer a request that is for no catalyst. Returns whether this did. Raises HostError."""
        return False


def path_below(scope: Scope) -> str:
    """The path as it was sent, below the place where this is mounted."""
    path: str = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0].decode("latin-1")
    return path.removeprefix(scope.get("root_path", "")).removesuffix("/")  # clients join URLs with one too many


async def read_content(scope: Scope, receive: Receive, spec: OperationSpec, most: int, admitted: Admitted) -> Content:
    """The body is read within bounds, and a large one is parsed off the event loop. Raises InputError, which names the
    field; TooLarge; LimitExceeded, Busy; Cancelled where the client left."""
    body = await read_body(scope, receive, most, admitted)
    large, given, document = len(body) > LARGE_BYTES, header(scope, "content-type") or "", None
    form, query = form_of(spec, given, body), scope["query_string"]
    if form == "json" and body:
        document = await read_json(body, "the body", admitted, written=True)
    if large and form == "multipart":
        content = await admitted.off_loop(lambda: content_of(spec, form, given, body, query))
    else:
        content = content_of(spec, form, given, body, query, document)
    return replace(content, large=True) if large else content


async def _flowed(context: RequestContext, running: Running, send: Send) -> bool:
    """Send an answer as it comes: its head once the upstream's has come, or with the first event. An error or a
    document right behind the upstream's head is no stream. False where nothing flows. Raises HostError before the head
    is sent."""
    try:
        found = await running.pieces()
    except OperationFailed:
        return False  # it is answered like any other result
    headers: Mapping[str, str] = {}
    if found and isinstance(head := found[0], AnswerHead):
        if head.binary:
            await _send_bytes(running, send, context, head, found)
            return True
        headers = handed_on(head.headers)
        try:
            found = found[1:] or await running.pieces(_DOCUMENT_S)
        except OperationFailed:
            return False
        if found and found[0] is KEEPALIVE:
            found = [head]
    if not found:
        if not running.resolved.stream:
            return False
        found = [*gathered(result := await running.result())]
        if not found and (running.upstream_end is None or result.document is not None):
            return False  # there was no stream, not even one without events
    await _send_events(running, send, context, headers, found)
    return True


async def _send_events(
    running: Running, send: Send, context: RequestContext, headers: Mapping[str, str], found: Sequence[str | Piece]
) -> None:
    """`found` are the first pieces. An error is sent as an event."""
    fields = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),  # nginx's word for: hand each event on as it comes
        *((name.encode(), value.encode()) for name, value in {**headers, **about(running)}.items()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    first: str | None = None
    try:
        while found:
            first = first or next(filter(is_event, found), None)
            if body := events(found):
                await send({"type": "http.response.body", "body": body, "more_body": True})
            found = await running.pieces(KEEPALIVE_S)
        last = last_of(first or "", running.upstream_end)
        if first is None:
            last = events(instead(await running.result())) + last
    except HostError as error:
        note_failure(context, error)
        end = running.upstream_end
        last = last_of(first or "", end) if end is not None and end.failed else failure(of_host(error)[1])
    except asyncio.CancelledError:
        await last_words(send({"type": "http.response.body", "body": failure(of_host(ending())[1])}))
        raise
    await send({"type": "http.response.body", "body": last})


async def _send_bytes(
    running: Running, send: Send, context: RequestContext, head: AnswerHead, found: Sequence[str | Piece]
) -> None:
    """`found` are the first pieces. An answer that fails on its way is left without an end: the server breaks the
    connection off then, and nobody takes a part for the whole."""
    more = {**handed_on(head.headers), **about(running), **about_bytes(head.headers)}
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in more.items()]
    await send({"type": "http.response.start", "status": final_status(head.status), "headers": fields})
    try:
        while found:
            if body := b"".join([piece for piece in found if isinstance(piece, bytes)]):
                await send({"type": "http.response.body", "body": body, "more_body": True})
            found = await running.pieces()
    except HostError as error:
        note_failure(context, error)
        return
    await send({"type": "http.response.body", "body": b""})


def _routed_first(view: View) -> Sequence[Component]:
    """Catalysts that the operator routes to come before others: they say how the body of a route is read, and not some
    other catalyst that declares the same route. Of those that wait for approval, only what a routed name has in place
    of approved bytes is among them, and last: a request of its own routes is told of the approval."""
    routed = [one.any_version for one in view.routing.references]
    first = sorted(view.components, key=lambda one: one.reference.any_version not in routed)
    waiting = (one for one in view.all if not one.approved and one.reference.any_version in routed)
    return [*first, *(one for one in waiting if view.component(one.reference.any_version) is one)]


def _require_route(principal: Principal, matched: Matched) -> None:
    """Raises Forbidden where the key may run what no catalyst has at this route."""
    specs = matched.route.specs.values()
    if not any(principal.may_operate(one.name, one) for one in specs):
        first = next(iter(specs))
        principal.require_operation(first.name, first)


def about(running: Running) -> dict[str, str]:
    """The headers that say which run answers, at which catalyst, and which ones were asked in vain."""
    shown = {CATALYST: running.catalyst.reference, RUN: running.id}
    return {**shown, TRIED: ", ".join(map(str, running.tried))} if running.tried else shown


def reference_of(given: str) -> Reference:
    """The catalyst that the header CATALYST names. Raises InputError."""
    try:
        return Reference.parse(given)
    except InputError as error:
        raise InputError(f"{CATALYST}: {error.message}", field=CATALYST, hint=error.hint) from None


async def send_error(context: RequestContext, send: Send, error: HostError) -> None:
    """Answer the request with `error`, and note it."""
    note_failure(context, error)
    status, body, headers = of_host(error)
    await send_whole(send, status, json_bytes(body), headers={**headers, **context.about})


async def _send_no_route(
    context: RequestContext, scope: Scope, allowed: Sequence[str], send: Send, *, empty: bool
) -> None:
    at = f"{scope['method'][:20]} {scope['path'][:200]}"
    if allowed:
        context.failed("method_not_supported", f"the path has other methods: {', '.join(allowed)}")
        shown = _error_body(f"Not a method of this path: {at}", INVALID, code="method_not_supported")
        await send_whole(send, 405, json_bytes(shown), headers={"allow": ", ".join(allowed)})
    else:
        context.failed("unknown_url", "no catalyst has a route like this path")
        said = f"Unknown request URL: {at}"
        if empty:  # so that callers do not look for the mistake in their URL
            said += " (nothing is installed yet; the operator does it: host register FILE)"
        shown = _error_body(said, INVALID, code="unknown_url")
        await send_whole(send, 404, json_bytes(shown))


INVALID = "invalid_request_error"


def _error_body(message: str, kind: str, *, code: str | None = None, param: str | None = None) -> dict[str, Json]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def of_host(error: HostError) -> tuple[int, dict[str, Json], dict[str, str]]:
    """Status, body and headers. A guest's last words stay in the log."""
    headers = dict(headers_of(error))
    match error:
        case OperationFailed():
            return status_of(error), of_upstream(error.result.error), handed_on(error.result.headers)
        case Unauthenticated():
            shown = _error_body(str(error), INVALID, code="invalid_api_key")
        case LimitExceeded():
            shown = _error_body(str(error), error.unit, code="rate_limit_exceeded")
        case NotFound() if error.field == "model":
            shown = _error_body(str(error), INVALID, code="model_not_found", param="model")
        case InputError() if status_of(error) < 500:  # mistakes of the caller, not of the operator
            param = error.field.removeprefix("params.") if error.field else None
            shown = _error_body(str(error), INVALID, code=error.code, param=param)
        case Denied():
            kinds = [refusal.kind for refusal in error.refusals]
            shown = _error_body(error.message, error.code, code=kinds[0] if kinds else None)
        case _:
            shown = _error_body(words_outside(error) or str(error), error.code, code=error.code)
    return status_of(error), shown, headers
