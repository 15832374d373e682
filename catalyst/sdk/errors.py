"""What a catalyst answers when it cannot: exceptions that become `{"status", "error": {"type", "message", …}}`, with
`"headers"` where the upstream said when to try again.

CatalystError
├── Invalid          400                the caller's input is at fault; `param` names the field
├── Misconfigured    500                the operator's configuration is at fault; `param` names the field
├── HostRefused      by the error type  the host did not do what it was asked for
└── UpstreamError    the upstream's     the upstream answered with an error, which is passed on whole
"""

from collections.abc import Mapping
from json import loads
from typing import Any

MESSAGE_LIMIT = 2000  # characters kept of a body that is no JSON: enough for a proxy's error page to be recognised
MAX_HEADERS = 16  # of an error answer: a host passes over them all where there are more

_HANDED_ON = ("retry-after", "retry-after-ms", "x-should-retry", "x-request-id")
_LIMIT = "x-ratelimit-"  # and what begins with it: what is left of a limit, and when it begins anew

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
    """Raised anywhere below the entry point, it ends the operation with `status` and `error`. `headers` are those of
    an upstream's answer that its caller needs, names in lower case."""

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
    """`field` of the configuration that the operator set cannot be used."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(500, {"type": "invalid_config", "message": message, "param": field})


class HostRefused(CatalystError):
    """`kind` is the host's error type (CONTRACT.md), or `secret_denied`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(_STATUS_OF.get(kind, 502), {"type": kind, "message": message})

    @classmethod
    def of(cls, error: Any) -> "HostRefused":
        """The exception for the `error` of a host's answer: `{"type", "message"}`, or just words."""
        if isinstance(error, dict):
            return cls(str(error.get("type", "http_error")), str(error.get("message", "")))
        return cls("http_error", str(error))


class UpstreamError(CatalystError):
    """`error` is what the upstream says, or words of type `upstream_error` where it says nothing usable."""

    @classmethod
    def of(cls, status: int, body: str, headers: Mapping[str, Any]) -> "UpstreamError":
        """The exception for an error answer: of `{"error": {…}}` the inner object, of another JSON object that one. Of
        `headers` it keeps those by which a client knows whether and when to try again, and what to ask about."""
        told = _told(headers)
        try:
            document = loads(body)
        except ValueError:
            document = None
        if isinstance(document, dict):
            inner = document.get("error")
            if isinstance(inner, dict):
                return cls(status, inner, told)
            if isinstance(inner, str):
                return cls(status, {"type": "upstream_error", "message": inner}, told)
        words = {"type": "upstream_error", "message": body[:MESSAGE_LIMIT] or f"the upstream answered {status}"}
        return cls(status, words | document if isinstance(document, dict) else words, told)


def _told(headers: Mapping[str, Any]) -> dict[str, str]:
    """At most MAX_HEADERS of them, the four before the limits."""
    names = [*_HANDED_ON, *sorted(name for name in headers if name.startswith(_LIMIT))]
    found = [(name, headers[name]) for name in names if isinstance(headers.get(name), str)]
    return dict(found[:MAX_HEADERS])
