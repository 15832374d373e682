"""The gateway: a request of OpenAI's API becomes an operation, and its result or its events the answer.

Answers are documents, bytes, text, events (WHATWG HTML, 9.2) or errors. Every error has OpenAI's shape: `{"error":
{"message", "type", "param", "code"}}`. `type` is OpenAI's own word where there is one; for denials and failures of the
sandbox it is the host's code.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence

from host.component.operations import OperationSpec
from host.core.names import Reference
from host.core.operation import Result
from host.core.sse import Comment, ServerSentEvent
from host.core.strict_json import Json, parse_json, write_json
from host.errors import (
    Cancelled,
    Denied,
    Forbidden,
    HostError,
    InputError,
    LimitExceeded,
    NotFound,
    OperationFailed,
    Unauthenticated,
)
from host.run import AnswerHead, Piece, StreamEnd
from host.runtime.events import KEEPALIVE, is_event
from host.server.asgi import (
    JSON,
    KEEPALIVE_S,
    Leaving,
    Receive,
    RequestContext,
    Scope,
    Send,
    context_of,
    encoded,
    final_status,
    header,
    headers_by_name,
    last_words,
    principal_of,
    send_whole,
)
from host.server.http_errors import ending, headers_of, note_failure, status_of, words_outside
from host.server.openai.requests import path_below, read_content, read_query
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
            await send_whole(send, 200, encoded(models))
            return
        request = await self._request(context, scope, receive, admitted, matched)
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
    await send_whole(send, status, encoded(body), headers={**headers, **context.about})


async def _send_no_route(
    context: RequestContext, scope: Scope, allowed: Sequence[str], send: Send, *, empty: bool
) -> None:
    at = f"{scope['method'][:20]} {scope['path'][:200]}"
    if allowed:
        context.failed("method_not_supported", f"the path has other methods: {', '.join(allowed)}")
        shown = _error_body(f"Not a method of this path: {at}", INVALID, code="method_not_supported")
        await send_whole(send, 405, encoded(shown), headers={"allow": ", ".join(allowed)})
    else:
        context.failed("unknown_url", "no catalyst has a route like this path")
        said = f"Unknown request URL: {at}"
        if empty:  # so that callers do not look for the mistake in their URL
            said += " (nothing is installed yet; the operator does it: host register FILE)"
        shown = _error_body(said, INVALID, code="unknown_url")
        await send_whole(send, 404, encoded(shown))


DONE = b"data: [DONE]\n\n"
_DISPOSITION = re.compile(r"[ -~]{1,1000}\Z")
_TYPE = re.compile("[a-z0-9_.]{1,100}")
_TYPE_FIRST = re.compile(rf'\s*\{{\s*"type"\s*:\s*"({_TYPE.pattern})"')
_MEDIA_TYPE = re.compile(r"[a-zA-Z0-9!#$&^_.+-]+/[a-zA-Z0-9!#$&^_.+-]+(?:; ?[a-zA-Z0-9-]+=[a-zA-Z0-9._\"-]+)*\Z")
_JSON_TYPE = re.compile(r"application/(?:[a-zA-Z0-9.-]+\+)?json(?:; ?charset=[\"a-zA-Z0-9_-]+)?\Z")
_BINARY = "application/octet-stream"
_WITHOUT_BODY = frozenset({204, 205, 304})  # RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5


def whole(result: Result, spec: OperationSpec | None) -> tuple[bytes, str]:
    """The body and its media type. `spec` is that of the operation, where it is known. A document, also that of an
    error, is handed on as it came."""
    if result.status in _WITHOUT_BODY:
        return b"", JSON
    if result.document is not None:
        return result.document, result.content_type if _JSON_TYPE.match(result.content_type) else JSON
    if not result.ok:
        return encoded(of_upstream(result.error)), JSON
    if spec is not None and spec.response == "empty":
        return b"", JSON
    match result.data:
        case {"$attachment": str(ident), **more} if ident in result.attachments:
            held = result.attachments[ident]
            return held.data, _media_type(more.get("content_type") or held.content_type)
        case {"response_encoding": "base64"} if (found := _in_base64(result.data)) is not None:
            return found
        case str() as text if spec and (spec.response == "text" or spec.request == "multipart"):  # a transcription
            return text.encode("utf-8", "replace"), "text/plain; charset=utf-8"
    return encoded(result.data), JSON


def events(pieces: Iterable[str | Piece]) -> bytes:
    """JSON texts as events, and comments; other pieces are passed over. An upstream's own events have the fields that
    it sent. Of others, one whose document has a type is named by it, as OpenAI does."""
    return "".join([_event(one) for one in pieces if isinstance(one, str)]).encode("utf-8", "replace")


def gathered(result: Result) -> list[str]:
    """The events of a catalyst that gathered them and handed out none. A document in their place is none."""
    return [] if result.document is not None else [write_json(event) for event in openai.events_of(result.data)]


def instead(result: Result) -> list[str]:
    """What stands in place of events, where an upstream that began a stream sent none: a document, or nothing."""
    if result.document is not None:
        return [result.document.decode("utf-8", "replace")]
    return gathered(result)


def about_bytes(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of an answer in bytes that flows, from those of the upstream's."""
    shown = {"content-type": _media_type(headers.get("content-type"))}
    if (length := headers.get("content-length", "")).isascii() and length.isdigit():
        shown["content-length"] = length
    if _DISPOSITION.match(named := headers.get("content-disposition", "")):
        shown["content-disposition"] = named
    return shown


def last_of(first: str, end: StreamEnd | None) -> bytes:
    """What follows the events of a stream: `[DONE]` where the upstream sent it. Of a stream that was not relayed nobody
    knows. It has one if its `first` event has no type, like OpenAI's."""
    if end is not None:
        return b"" if end.done is None else events([end.done])
    return b"" if _type_of(first) else DONE


def failure(error: Mapping[str, Json]) -> bytes:
    """An error in the middle of a stream, after the status."""
    return f"event: error\ndata: {write_json(error)}\n\n".encode("utf-8", "replace")


def _event(text: str) -> str:
    if isinstance(text, Comment):
        return f": {text}\n\n"
    data = text
    if "\n" in text or "\r" in text:  # each ends a line
        data = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\ndata: ")
    if not isinstance(text, ServerSentEvent):
        named = _type_of(text)
        return f"event: {named}\ndata: {data}\n\n" if named else f"data: {data}\n\n"
    more = "" if text.event is None else f"event: {text.event}\n"
    if text.id is not None:
        more += f"id: {text.id}\n"
    if text.retry is not None:
        more += f"retry: {text.retry}\n"
    return more + "data: " + data + "\n\n"


def _type_of(text: str) -> str:
    """The type of an event's document; "" where it has none that can be a name."""
    if '"type"' not in text:
        return ""
    if named := _TYPE_FIRST.match(text):
        return named[1]
    try:
        document = parse_json(text, "the event")
    except InputError:
        return ""
    found = document.get("type") if isinstance(document, dict) else None
    return found if isinstance(found, str) and _TYPE.fullmatch(found) else ""


def _in_base64(found: Mapping[str, Json]) -> tuple[bytes, str] | None:
    """Bytes from a catalyst that knows no attachments."""
    for name, media_type in (("audio_base64", "audio/mpeg"), ("base64", _BINARY)):
        text = found.get(name)
        if isinstance(text, str):
            try:
                return base64.b64decode(text, validate=True), media_type
            except (binascii.Error, ValueError):
                return None
    return None


def _media_type(given: Json) -> str:
    """The media type that a guest gave, if it is one, and none that a browser would run."""
    text = given if isinstance(given, str) and len(given) < 200 and _MEDIA_TYPE.match(given) else _BINARY
    lowered = text.lower()
    return _BINARY if "html" in lowered or "xml" in lowered or "javascript" in lowered else text


_HANDED_ON = frozenset({"retry-after", "retry-after-ms", "x-should-retry", "x-request-id"})
_PLACE = re.compile(r"(/(?!\.{1,2}(/|\Z))[\w.~%:@+-]{1,200}){1,16}", re.ASCII)
_HANDED_ON_PREFIXES = ("x-ratelimit-", "openai-")

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


def handed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """The upstream's headers about retries, limits and the request, among those that a guest handed on. A guest may set
    no others: no cookie, no length. The upstream's id of the request is there by a second name too: a client that gave
    the request an id gets that one back by the first."""
    known = {
        name: value for name, value in headers.items() if name in _HANDED_ON or name.startswith(_HANDED_ON_PREFIXES)
    }
    upstream = headers.get("x-request-id")
    return known if upstream is None else {**known, "x-upstream-request-id": upstream}


def place_of(result: Result) -> dict[str, str]:
    """Where a success says that it made something: a path, such as that of a call, whose id is nowhere else."""
    place = result.headers.get("location", "") if 200 <= result.status < 300 else ""
    return {"location": place} if _PLACE.fullmatch(place) else {}


def of_upstream(error: Json) -> dict[str, Json]:
    """The error of an operation, with OpenAI's four fields at least."""
    known = error if isinstance(error, dict) else {"message": str(error)}
    return {"error": {"message": None, "type": "upstream_error", "param": None, "code": None, **known}}
