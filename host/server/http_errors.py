"""The HTTP status of each error of the host (RFC 9110, section 15), and what callers may see of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any, Final

from host.core.operation import Result
from host.core.strict_json import write_json
from host.errors import (
    ArtifactError,
    BuildError,
    Busy,
    CallerTimeout,
    Cancelled,
    CircuitOpen,
    CpuTimeExceeded,
    DeadlineExceeded,
    Denied,
    HostError,
    InputError,
    LimitExceeded,
    NotFound,
    OperationFailed,
    Overloaded,
    PolicyError,
    RegistryError,
    RequestRefused,
    SandboxError,
    ShuttingDown,
    StateError,
    TokenUnavailable,
    TooLarge,
    Unauthenticated,
    UnsupportedMedia,
    UpstreamTimeout,
)
from host.server.asgi import RequestContext, final_status

_OF_REFUSAL: Final[Mapping[str, int]] = {"rate_limited": 429, "request_too_large": 413}
OVERLOADED: Final = "you have more requests under way than this server can take: wait for answers before the next"
_ENDING: Final = "the server is shutting down: another one may be there when you try again"

_TABLE: Final[Mapping[type[HostError], int]] = {
    TooLarge: 413,
    UnsupportedMedia: 415,
    NotFound: 404,
    PolicyError: 503,  # the operator's: a policy that is kept cannot be read
    InputError: 400,
    Unauthenticated: 401,
    LimitExceeded: 429,
    RequestRefused: 403,
    Denied: 403,
    CircuitOpen: 503,
    CallerTimeout: 408,
    DeadlineExceeded: 504,
    CpuTimeExceeded: 504,
    Cancelled: 409,  # by somebody else: a client that left is not answered
    SandboxError: 500,
    RegistryError: 502,
    TokenUnavailable: 503,
    BuildError: 400,
    ArtifactError: 503,
    Busy: 503,
    StateError: 503,
}


_WAITED: Final[Mapping[str, str]] = {
    "connect_timeout": "could not be connected to within",
    "first_byte_timeout": "did not begin its answer within",
    "idle_timeout": "sent nothing more of its answer for",
    "timeout": "did not finish its answer within",
}


def status_of(error: HostError) -> int:
    """429 for a run that was over a rate limit of its policy, 413 where its request was over max_request_size; the
    upstream's status where the upstream failed."""
    if isinstance(error, OperationFailed):
        return final_status(error.result.status)
    if isinstance(error, Denied) and error.refusals and (status := _OF_REFUSAL.get(error.refusals[0].kind)):
        return status
    return next((status for kind, status in _TABLE.items() if isinstance(error, kind)), 500)


def words_outside(error: HostError) -> str | None:
    """The message for callers in place of the error's own, which is for the operator: an error of the host itself, or
    one with the guest's last words or a line of the policy. None where callers may see the error's own."""
    match error:
        case ShuttingDown():
            return _ENDING
        case UpstreamTimeout():
            return f"the upstream {_WAITED.get(error.limit, _WAITED['timeout'])} {error.waited_s:g} s"
        case CircuitOpen():
            return f"the upstream failed too often, and is not asked again for {error.retry_after_s:.1f} s"
        case CallerTimeout():
            return error.message
        case Overloaded():
            return OVERLOADED
        case TokenUnavailable():
            return "the catalyst's credentials cannot be renewed now"
    if error.blame == "host":
        return "the server cannot do this now"
    return f"the catalyst failed: {error.code}" if error.blame == "guest" else None


def ending() -> ShuttingDown:
    """The error for requests that the end of the server cuts short, and for those that come after its signal."""
    return ShuttingDown(_ENDING)


def shown_outside(error: HostError) -> dict[str, Any]:
    """`HostError.as_dict` for callers."""
    said = words_outside(error)
    return error.as_dict() if said is None else {"type": error.code, "message": said, "blame": error.blame}


_QUOTED: Final = re.compile("[:'\"`{]")
_OF_THE_KEY: Final = (401, 403, 429)  # of an upstream: about the operator's key there, and not about the request


def note_failure(context: RequestContext, failed: HostError | Result) -> None:
    """The reason of an error, for the log: the host's own words, or those of the upstream or the catalyst. Those about
    the caller's request end before what they quote of it: nothing of a body is in the log."""
    if isinstance(failed, HostError) and not isinstance(failed, OperationFailed):
        said = str(failed)
        if isinstance(failed, Denied) and failed.refusals:  # without their URLs
            said = "; ".join(f"{one.kind}, {one.rule} ({one.remedy})" for one in failed.refusals[:3])
        if isinstance(failed, InputError) and failed.blame == "caller":
            said = _QUOTED.split(failed.message)[0].strip() or f"see {failed.field or failed.code}"
        context.failed(failed.code, said)
        return
    result = failed.result if isinstance(failed, OperationFailed) else failed
    error = result.error if isinstance(result.error, dict) else {"message": result.error}
    kind, message = error.get("type") or error.get("code"), error.get("message") or write_json(error)
    said = str(message)[:1_000]
    if result.status < 500 and result.status not in _OF_THE_KEY:
        said = _QUOTED.split(said)[0].strip()
    context.failed(str(kind or "operation_failed")[:100], f"status {result.status}: {said}")


def headers_of(error: HostError) -> Iterator[tuple[str, str]]:
    """The headers for that status: when to try again, and how to authenticate (RFC 9110, 10.2.3 and 11.6.1)."""
    match error:
        case LimitExceeded() | CircuitOpen():
            yield "retry-after", str(max(1, ceil(error.retry_after_s)))
        case StateError() | TokenUnavailable():  # Busy, too
            yield "retry-after", "1"
        case Denied() if status_of(error) == 429:
            yield "retry-after", "1"
        case Unauthenticated():
            yield "www-authenticate", 'Bearer realm="catalyst-host"'
