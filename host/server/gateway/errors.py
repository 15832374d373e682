"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`, whatever they come from.

`type` is OpenAI's own word where it has one; of what the host refused or the sandbox did, the host's code.
"""

from __future__ import annotations

from collections.abc import Mapping

from host.errors import Denied, HostError, InputError, LimitExceeded, NotFound, OperationFailed, Unauthenticated
from host.jsontext import Json
from host.server.statuses import headers_of, kept_back, status_of

_HANDED_ON = frozenset({"retry-after", "retry-after-ms", "x-should-retry"})

INVALID = "invalid_request_error"


def body(message: str, kind: str, *, code: str | None = None, param: str | None = None) -> dict[str, Json]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def of_host(error: HostError) -> tuple[int, dict[str, Json], dict[str, str]]:
    """Status, body and headers. What a guest said of its own end stays in the log."""
    headers = dict(headers_of(error))
    match error:
        case OperationFailed():
            return status_of(error), of_upstream(error.result.error), handed_on(error.result.headers)
        case Unauthenticated():
            shown = body(str(error), INVALID, code="invalid_api_key")
        case LimitExceeded():
            shown = body(str(error), error.unit, code="rate_limit_exceeded")
        case NotFound() if error.field == "model":
            shown = body(str(error), INVALID, code="model_not_found", param="model")
        case InputError() if status_of(error) < 500:  # the caller's mistakes, and not the operator's
            param = error.field.removeprefix("params.") if error.field else None
            shown = body(str(error), INVALID, code=error.code, param=param)
        case Denied():
            kinds = [refusal.kind for refusal in error.refusals]
            shown = body(error.message, error.code, code=kinds[0] if kinds else None)
        case _:
            shown = body(kept_back(error) or str(error), error.code, code=error.code)
    return status_of(error), shown, headers


def handed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """Of those that a guest handed on, the ones that tell when to try again. It is not for a guest to set a cookie, or
    to say how long the answer is."""
    known = {name: value for name, value in headers.items() if name in _HANDED_ON or name.startswith("x-ratelimit-")}
    upstream = headers.get("x-request-id")
    return known if upstream is None else {**known, "x-upstream-request-id": upstream}


def of_upstream(error: Json) -> dict[str, Json]:
    """What an operation failed with, with OpenAI's four fields at least."""
    known = error if isinstance(error, dict) else {"message": str(error)}
    return {"error": {"message": None, "type": "upstream_error", "param": None, "code": None, **known}}
