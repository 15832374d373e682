"""What a catalyst answers when it cannot: exceptions that become `{"status", "error": {"type", "message", …}}`.

CatalystError
├── Invalid          400                the caller's input is at fault; `param` names the field
├── Misconfigured    500                the operator's configuration is at fault; `param` names the field
├── HostRefused      by the error type  the host did not do what it was asked for
└── UpstreamError    the upstream's     the upstream answered with an error, which is passed on whole
"""

from json import loads
from typing import Any

MESSAGE_LIMIT = 2000  # characters kept of a body that is no JSON: enough for a proxy's error page to be recognised

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
    """Raised anywhere below the entry point, it ends the operation with `status` and `error`."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(error.get("message"))
        self.status = status
        self.error = error

    def as_result(self) -> dict[str, Any]:
        return {"status": self.status, "error": self.error}


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
    def of(cls, status: int, body: str) -> "UpstreamError":
        """The exception for an error answer: of `{"error": {…}}` the inner object, of another JSON object that one."""
        try:
            document = loads(body)
        except ValueError:
            document = None
        if isinstance(document, dict):
            inner = document.get("error")
            if isinstance(inner, dict):
                return cls(status, inner)
            if isinstance(inner, str):
                return cls(status, {"type": "upstream_error", "message": inner})
        words = {"type": "upstream_error", "message": body[:MESSAGE_LIMIT] or f"the upstream answered {status}"}
        return cls(status, words | document if isinstance(document, dict) else words)
