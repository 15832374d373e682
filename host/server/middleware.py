"""Around every request, also one for a WebSocket: its id, its log line, its metrics and its span; the check of its host
and its origin; and an answer for every error.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from host.core.waiting import lacking
from host.errors import Cancelled, HostError, ShuttingDown
from host.server.asgi import (
    UNANSWERED,
    App,
    Message,
    Receive,
    RequestContext,
    Scope,
    Send,
    context_of,
    header,
    last_words,
    send_json,
)
from host.server.http_errors import ending, headers_of, note_failure, shown_outside, status_of
from host.server.observability.logs import REQUEST
from host.server.observability.metrics import Metrics
from host.server.observability.tracing import Tracing
from host.server.settings import ServerSettings

_log = logging.getLogger("host.server")

_ID = re.compile(r"[A-Za-z0-9_.:-]{8,128}\Z")
_ID_HEADER, _OWN_ID_HEADER = b"x-request-id", b"x-catalyst-request-id"
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", ""})  # "": of a client of HTTP/1.0, or a Unix socket
UPGRADED: Final = 101
_HEALTH = "/health"
_OPEN = frozenset({_HEALTH, "/ready"})  # probes come by address
_SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Middleware:
    """`tracing` is None where no traces are wanted. Once `stopping` is set, a new request is answered with 503, and its
    connection closed; only `/health` goes on. A request that the end of the server cuts short gets the same answer, if
    it has none yet; a face ends an answer that has begun."""

    def __init__(self, app: App, settings: ServerSettings, metrics: Metrics, tracing: Tracing | None) -> None:
        self._app = app
        self._settings = settings
        self._hosts = _LOOPBACK | {host.lower() for host in settings.allowed_hosts}
        self._metrics = metrics
        self._tracing = tracing
        self.stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] != "websocket":
                await self._app(scope, receive, send)
                return
            scope["method"] = "GET"
            send = _denying(send, able="websocket.http.response" in (scope.get("extensions") or {}))
        began = time.monotonic()
        context = context_of(scope)
        given = header(scope, "x-request-id") or ""
        context.request_id = ident = given if _ID.match(given) else "req_" + secrets.token_hex(12)
        token = REQUEST.set(context.request_id)
        try:
            await self._traced(context, scope, receive, _with_headers(context, send, echoes=ident == given))
        finally:
            self._note(context, scope, time.monotonic() - began)
            REQUEST.reset(token)

    async def _traced(self, context: RequestContext, scope: Scope, receive: Receive, send: Send) -> None:
        if self._tracing is None:
            await self._guarded(context, scope, receive, send)
            return
        with self._tracing.request(scope, context.request_id) as span:
            try:
                await self._guarded(context, scope, receive, send)
            finally:
                self._tracing.answered(span, context.route, context.status)

    async def _guarded(self, context: RequestContext, scope: Scope, receive: Receive, send: Send) -> None:
        """An answer for every fault of ours, without its words."""
        try:
            await self._checked(context, scope, receive, send)
        except asyncio.CancelledError:
            _log.warning("the request was cut short by the end of the server")
            context.failed("cut_short", "the server ended")
            if context.status == UNANSWERED and not context.left:
                await last_words(_send_ending(send))
        except Exception as failure:
            if context.status == UNANSWERED and (busy := lacking(failure)) is not None:
                _log.error("the request failed: %s", busy)
                context.failed(busy.code, str(busy))
                await send_json(send, status_of(busy), {"error": shown_outside(busy)}, dict(headers_of(busy)))
                return
            _log.exception("the request failed")
            context.failed("internal_error", f"a fault of the server: {type(failure).__name__}")
            if context.status == UPGRADED:
                await send({"type": "websocket.close", "code": 1011})
                return
            if context.status != UNANSWERED:
                raise  # in the middle of an answer: the connection breaks off, so that the client sees that it is cut
            said = f"the server failed (its log has {context.request_id})"
            await send_json(send, 500, _error("internal_error", said))

    async def _checked(self, context: RequestContext, scope: Scope, receive: Receive, send: Send) -> None:
        """An answer for every error of the host."""
        if self.stopping and scope["path"] != _HEALTH:
            context.failed(ShuttingDown.code, "the server ends")
            await _send_ending(send)
            return
        if scope["path"] not in _OPEN and (refused := self._refused(scope)):
            status, code, said = refused
            context.failed(code, said)
            await send_json(send, status, _error(code, said))
            return
        try:
            await self._app(scope, receive, send)
        except Cancelled:
            return  # the client left
        except HostError as error:
            note_failure(context, error)
            await send_json(send, status_of(error), {"error": shown_outside(error)}, dict(headers_of(error)))

    def _note(self, context: RequestContext, scope: Scope, took_s: float) -> None:
        """Metrics, and a line in the log."""
        method = _method(scope)
        if context.status >= 400 and context.status != UNANSWERED and context.error is None:  # a library's answer
            context.failed(f"status_{context.status}", _PHRASES.get(context.status, "no reason was given"))
        self._metrics.answered(context.route, method, context.status, took_s)
        if scope["path"] not in _OPEN:
            facts = {"method": method, "route": context.route, "status": context.status, "ms": round(took_s * 1e3, 2)}
            level = logging.WARNING if context.status >= 500 else logging.INFO
            _log.log(level, "request", extra={"facts": facts | context.facts()})

    def _refused(self, scope: Scope) -> tuple[int, str, str] | None:
        """The status, code and words of the answer to a request that a browser sends for a page of another site: under
        a name that is not one of this server (DNS rebinding), or from an origin that the operator did not allow."""
        host = (header(scope, "host") or "").lower()
        if "*" not in self._hosts and _name(host) not in self._hosts:
            said = f"this server does not go by the name {_name(host)[:200]!r}"
            return 421, "unknown_host", f"{said} (the operator adds it: host serve --allowed-host NAME)"
        origin = header(scope, "origin")
        strange = origin and origin not in self._settings.cors_origins and _site(origin) != host
        if strange or _embedded(scope, origin):
            said = f"pages of {(origin or 'another site')[:200]!r} may not use this server"
            return 403, "unknown_origin", f"{said} (the operator adds it to cors_origins)"
        return None


async def _send_ending(send: Send) -> None:
    error = ending()
    headers = {**dict(headers_of(error)), "connection": "close"}
    shown = {**shown_outside(error), "code": error.code, "param": None}  # OpenAI's four fields, for any face
    await send_json(send, status_of(error), {"error": shown}, headers)


def _with_headers(context: RequestContext, send: Send, *, echoes: bool) -> Send:
    """`send`, with the request's id and safe defaults in the head of the answer. Notes the status.

    `x-request-id` is the upstream's where it has one: its makers ask for it. Then ours is in another header. With
    `echoes` it is the one that the client gave."""

    async def sent(message: Message) -> None:
        if message["type"] == "websocket.accept":
            context.status = UPGRADED
            message["headers"] = [*message.get("headers", ()), (_ID_HEADER, context.request_id.encode())]
        elif message["type"] == "http.response.start":
            context.status = message["status"]
            ident, headers = context.request_id.encode(), message["headers"]
            named = _ID_HEADER in dict(headers)
            if named and echoes:
                headers, named = [field for field in headers if field[0] != _ID_HEADER], False
            message["headers"] = [*headers, (_OWN_ID_HEADER if named else _ID_HEADER, ident), *_SAFE]
        await send(message)

    return sent


def _denying(send: Send, *, able: bool) -> Send:
    """`send` for a request for a WebSocket: an answer over HTTP refuses it (the WebSocket Denial Response of ASGI). A
    server that is not `able` to do that refuses with 403."""

    async def sent(message: Message) -> None:
        if message["type"].startswith("http.response."):
            if not able:
                if message["type"] == "http.response.body":
                    return
                message = {"type": "websocket.close", "code": 1008}
            else:
                message = {**message, "type": f"websocket.{message['type']}"}
        await send(message)

    return sent


def _name(host: str) -> str:
    """The host without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host


def _site(origin: str) -> str | None:
    """The host and port of an origin; None where it names none."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _embedded(scope: Scope, origin: str | None) -> bool:
    """Whether a page of another site asks without an origin: by an image, a script, a frame or a link (Fetch Metadata,
    w3.org/TR/fetch-metadata). A link may lead to the console's page."""
    return not origin and header(scope, "sec-fetch-site") in ("cross-site", "same-site") and scope["path"] != "/"


def _error(code: str, message: str) -> dict[str, object]:
    return {"error": {"type": code, "code": code, "message": message, "param": None}}


def _method(scope: Scope) -> str:
    """One of few, for the label of a metric: a client can send any method."""
    known = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"
