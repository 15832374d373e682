"""Exceptions that become the result `{"status", "error": {"type", "message", …}}`, with `"headers"` from an upstream.

CatalystError
├── Invalid          400                the caller's input is at fault; `param` names the field
├── Misconfigured    500                the operator's configuration is at fault; `param` names the field
├── HostRefused      by the error type  the host refused a request
└── UpstreamError    the upstream's     the upstream answered with an error, which becomes the result
"""

from collections.abc import Mapping
from math import ceil
from typing import Any

from catalyst.sdk import sse

MESSAGE_LIMIT = 2000  # characters of a body that is no JSON: enough to recognise a proxy's error page
MAX_HEADERS = 16  # in a result: a host ignores all headers if there are more

BODY_LIMIT = 64 * 1024  # characters of an error's body that is handed on as it came

_RELEVANT = ("retry-after", "retry-after-ms", "x-should-retry", "x-request-id")
_PREFIXES = ("openai-", "x-ratelimit-")  # the second of headers about the rest of a limit and its next window

_LONGEST_S = 10**9  # of a time after which to try again

_MESSAGE_NAMES = ("message", "detail", "error_description", "error", "errors", "msg", "reason", "title", "description")
_MESSAGES_SHOWN = 5

_STATUS_OF = {
    "domain_blocked": 403,
    "method_blocked": 403,
    "private_ip_blocked": 403,
    "secret_denied": 403,
    "no_caller": 400,
    "request_too_large": 413,
    "rate_limited": 429,
    "circuit_open": 503,
    "timeout": 504,
}


class CatalystError(Exception):
    """Ends the operation with `status` and `error`.

    `headers` are the upstream's headers that the caller needs, with names in lower case.
    """

    def __init__(self, status: int, error: dict[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error.get("message"))
        self.status = status
        self.error = error
        self.headers = dict(headers or {})

    def as_result(self) -> dict[str, Any]:
        result = {"status": self.status, "error": self.error}
        return {**result, "headers": self.headers} if self.headers else result


class Invalid(CatalystError):
    """`field` of the input is missing or wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(400, {"type": "invalid_request_error", "message": message, "param": field})


class Misconfigured(CatalystError):
    """`field` of the operator's configuration cannot be used."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(500, {"type": "invalid_config", "message": message, "param": field})


class HostRefused(CatalystError):
    """`kind` is the host's error type (wit/README.md), or `secret_denied`."""

    def __init__(self, kind: str, message: str, retry_after_s: float | None = None) -> None:
        headers = None if retry_after_s is None else {"retry-after": str(max(1, ceil(retry_after_s)))}
        super().__init__(_STATUS_OF.get(kind, 502), {"type": kind, "message": message}, headers)

    @classmethod
    def of(cls, error: Any) -> "HostRefused":
        """The exception for the `error` of a host's answer: `{"type", "message", "retry_after_s"?}`, or a string."""
        if isinstance(error, dict):
            after = error.get("retry_after_s")
            known = float(after) if isinstance(after, int | float) and 0 <= after < _LONGEST_S else None
            return cls(str(error.get("type", "http_error")), str(error.get("message", "")), known)
        return cls("http_error", str(error))


class UpstreamError(CatalystError):
    """`error` is the upstream's error object, or one of type `upstream_error` if its body has none.

    `body` is the body with that object, as it came.
    """

    body = ""

    @classmethod
    def of(cls, status: int, body: str, headers: Mapping[str, Any]) -> "UpstreamError":
        """The exception for an error answer: the object in `{"error": {…}}` or `[{"error": {…}}]`, or one with the
        words that are in the body, whatever its shape. Keeps the `relevant` headers."""
        kept = relevant(headers)
        document = _document(body)
        outer = document[0] if isinstance(document, list) and document else document
        inner = outer.get("error") if isinstance(outer, dict) else None
        if isinstance(inner, dict):
            error = cls(status, inner, kept)
            error.body = body if outer is document and len(body) <= BODY_LIMIT and body.lstrip()[:1] == "{" else ""
            return error
        words = _words(document) or _title(body) or body[:MESSAGE_LIMIT].strip()
        shown = {"type": "upstream_error", "message": words or f"the upstream answered {status}"}
        if isinstance(outer, dict):
            more = {name: value for name, value in outer.items() if name != "error"}
            shown = {**more, **shown, **({"type": more["type"]} if isinstance(more.get("type"), str) else {})}
        return cls(status, shown, kept)

    def as_result(self) -> dict[str, Any]:
        return {**super().as_result(), **({"body": self.body} if self.body else {})}


def relevant(headers: Mapping[str, Any], *, success: bool = False) -> dict[str, str]:
    """The headers of an answer that its caller may need: about retries, the request and limits; at most MAX_HEADERS,
    the limits last. Of a `success` also `location`, the path alone of what was made."""
    names = [*_RELEVANT, *(name for prefix in _PREFIXES for name in sorted(headers) if name.startswith(prefix))]
    found = [(name, headers[name]) for name in names if isinstance(headers.get(name), str)]
    if success and (place := _path_of(headers.get("location"))):
        found.insert(0, ("location", place))
    return dict(found[:MAX_HEADERS])


def _path_of(location: Any) -> str:
    """The path in a URL or a reference to one; "" where it has none."""
    place = location.partition("?")[0].partition("#")[0] if isinstance(location, str) else ""
    _, origin, rest = place.partition("//")
    if origin:
        place = f"/{rest.partition('/')[2]}"
    return place if place.startswith("/") else ""


def _document(body: str) -> Any:
    """The JSON of an error, also where it is sent as an event. None for what is no JSON."""
    found = sse.value_of(body)
    if found is None and "data:" in body:
        found = next((value for one in sse.events([body]) if (value := sse.value_of(one)) is not None), None)
    return found


def _words(value: Any, levels: int = 4) -> str:
    """The message in a body that has no error object: under one of the usual names, at most `levels` deep."""
    if isinstance(value, str):
        return value.strip()[:MESSAGE_LIMIT]
    if levels and isinstance(value, list):
        return "; ".join(filter(None, [_words(one, levels - 1) for one in value[:_MESSAGES_SHOWN]]))[:MESSAGE_LIMIT]
    if levels and isinstance(value, dict):
        for name in _MESSAGE_NAMES:
            if words := _words(value.get(name), levels - 1):
                return words
    return ""


def _title(body: str) -> str:
    """The title of a page, which says more than its first tags."""
    start = body[:MESSAGE_LIMIT].lower().find("<title")
    start = body.find(">", start) + 1 if start >= 0 else 0
    end = body.find("<", start)
    title = " ".join(body[start:end].split()) if 0 < start < end else ""
    return f"a page: {title[:MESSAGE_LIMIT]}" if title else ""
