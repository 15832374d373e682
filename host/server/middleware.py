"""Around every request: its id, its log line, its metrics and its span; which hosts and origins it may come by; and an
answer for whatever is raised below.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from urllib.parse import urlsplit

from host.errors import Cancelled, HostError
from host.server.asgi import App, Message, Receive, Scope, Send, header, send_json, state
from host.server.http_errors import headers_of, status_of, told
from host.server.observability.logs import REQUEST
from host.server.observability.metrics import Metrics
from host.server.observability.tracing import Tracing
from host.server.settings import ServerSettings

_log = logging.getLogger("host.server")

_ID = re.compile(r"[A-Za-z0-9_.:-]{8,128}\Z")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", ""})  # "": of a client of HTTP/1.0, or a Unix socket
_OPEN = frozenset({"/health", "/ready"})  # probes come by address
_FACTS = ("key", "catalyst", "operation", "run", "error")
_UNANSWERED = 499  # as nginx logs a client that left before there was an answer
_SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Middleware:
    def __init__(self, app: App, settings: ServerSettings, metrics: Metrics, tracing: Tracing) -> None:
        self._app = app
        self._settings = settings
        self._hosts = _LOOPBACK | {host.lower() for host in settings.allowed_hosts}
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        given = header(scope, "x-request-id") or ""
        request_id = given if _ID.match(given) else "req_" + secrets.token_hex(12)
        known = state(scope)
        known["request_id"] = request_id
        status = _UNANSWERED

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode()), *_SAFE]
            await send(message)

        token = REQUEST.set(request_id)
        try:
            with self._tracing.request(scope, request_id) as span:
                try:
                    await self._checked(scope, receive, sent)
                except asyncio.CancelledError:
                    _log.warning("the request was cut short by the end of the server")
                    known["error"] = "cut_short"
                except Exception:
                    _log.exception("the request failed")
                    known["error"] = "internal_error"
                    if status != _UNANSWERED:
                        raise  # in the middle of its answer: the connection ends, so that nobody takes it for whole
                    said = _error("internal_error", "the server failed", f"its log has {request_id}")
                    await send_json(sent, 500, said)
                finally:
                    route = known.get("route", "other")
                    self._tracing.answered(span, route, status)
        finally:
            took = time.monotonic() - began
            self._metrics.answered(route, _method(scope), status, took)
            if scope["path"] not in _OPEN:
                facts = {"method": _method(scope), "route": route, "status": status, "ms": round(took * 1e3, 2)}
                facts |= {name: known[name] for name in _FACTS if name in known}
                _log.info("request", extra={"facts": facts})
            REQUEST.reset(token)

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in _OPEN and (refused := self._refused(scope)):
            await send_json(send, *refused)
            return
        try:
            await self._app(scope, receive, send)
        except Cancelled:
            return  # the client left
        except HostError as error:
            state(scope)["error"] = error.code
            await send_json(send, status_of(error), {"error": told(error)}, dict(headers_of(error)))

    def _refused(self, scope: Scope) -> tuple[int, dict[str, object]] | None:
        """Against pages that reach for this server by way of somebody's browser: under a name that is not its own (DNS
        rebinding), or from a site that it does not know."""
        host = (header(scope, "host") or "").lower()
        if "*" not in self._hosts and _name(host) not in self._hosts:
            said = f"this server does not go by the name {_name(host)[:200]!r}"
            return 421, _error("unknown_host", said, "the operator adds it: host serve --allowed-host NAME")
        origin = header(scope, "origin")
        strange = origin and origin not in self._settings.cors_origins and _site(origin) != host
        if strange or _embedded(scope, origin):
            said = f"pages of {(origin or 'another site')[:200]!r} may not use this server"
            return 403, _error("unknown_origin", said, "the operator adds it to cors_origins")
        return None


def _name(host: str) -> str:
    """Without its port."""
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
    w3.org/TR/fetch-metadata). What a link may lead to is the console's page."""
    return not origin and header(scope, "sec-fetch-site") in ("cross-site", "same-site") and scope["path"] != "/"


def _error(code: str, message: str, hint: str) -> dict[str, object]:
    return {"error": {"type": code, "code": code, "message": f"{message} ({hint})", "param": None}}


def _method(scope: Scope) -> str:
    """One of few: it is a metric's label, and anybody can send any."""
    known = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"
