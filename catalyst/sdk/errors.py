"""Exceptions that become the result `{"status", "error": {"type", "message", …}}`, with `"headers"` from an upstream.

CatalystError
├── Invalid          400                the caller's input is at fault; `param` names the field
├── Misconfigured    500                the operator's configuration is at fault; `param` names the field
├── HostRefused      by the error type  the host refused a request
└── UpstreamError    the upstream's     the upstream answered with an error, which becomes the result
"""

from collections.abc import Mapping
from json import loads
from typing import Any

MESSAGE_LIMIT = 2000  # characters of a body that is no JSON: enough to recognise a proxy's error page
MAX_HEADERS = 16  # in a result: a host ignores all headers if there are more

_RELEVANT = ("retry-after", "retry-after-ms", "x-should-retry", "x-request-id")
_LIMIT_PREFIX = "x-ratelimit-"  # the prefix of headers about the rest of a limit and its next window

_STATUS_OF = {
    "domain_blocked": 403,
    "method_blocked": 403,
    "private_ip_blocked": 403,
    "secret_denied": 403,
    "request_too_large": 413,
    "rate_limited": 429,
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

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(_STATUS_OF.get(kind, 502), {"type": kind, "message": message})

    @classmethod
    def of(cls, error: Any) -> "HostRefused":
        """The exception for the `error` of a host's answer: `{"type", "message"}`, or a string."""
        if isinstance(error, dict):
            return cls(str(error.get("type", "http_error")), str(error.get("message", "")))
        return cls("http_error", str(error))


class UpstreamError(CatalystError):
    """`error` is the upstream's error object, or one of type `upstream_error` if its body has none."""

    @classmethod
    def of(cls, status: int, body: str, headers: Mapping[str, Any]) -> "UpstreamError":
        """The exception for an error answer: the object in `{"error": {…}}`, or another JSON object whole.

        Keeps the `headers` about retries and limits, and the request's id.
        """
        kept = _relevant(headers)
        try:
            document = loads(body)
        except ValueError:
            document = None
        if isinstance(document, dict):
            inner = document.get("error")
            if isinstance(inner, dict):
                return cls(status, inner, kept)
            if isinstance(inner, str):
                return cls(status, {"type": "upstream_error", "message": inner}, kept)
        words = {"type": "upstream_error", "message": body[:MESSAGE_LIMIT] or f"the upstream answered {status}"}
        return cls(status, words | document if isinstance(document, dict) else words, kept)


def _relevant(headers: Mapping[str, Any]) -> dict[str, str]:
    """The relevant headers, at most MAX_HEADERS, the limits last."""
    names = [*_RELEVANT, *sorted(name for name in headers if name.startswith(_LIMIT_PREFIX))]
    found = [(name, headers[name]) for name in names if isinstance(headers.get(name), str)]
    return dict(found[:MAX_HEADERS])
