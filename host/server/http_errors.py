"""Errors of the host as HTTP statuses (RFC 9110, section 15). One table for every part of the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any, Final

from host.errors import (
    ArtifactError,
    BuildError,
    Busy,
    Cancelled,
    CpuTimeExceeded,
    DeadlineExceeded,
    Denied,
    HostError,
    InputError,
    LimitExceeded,
    NotFound,
    OperationFailed,
    PolicyError,
    RegistryError,
    RequestRefused,
    SandboxError,
    StateError,
    TooLarge,
    Unauthenticated,
)

_TABLE: Final[Mapping[type[HostError], int]] = {
    TooLarge: 413,
    NotFound: 404,
    PolicyError: 503,  # the operator's: a policy that is kept cannot be read
    InputError: 400,
    Unauthenticated: 401,
    LimitExceeded: 429,
    RequestRefused: 403,
    Denied: 403,
    DeadlineExceeded: 504,
    CpuTimeExceeded: 504,
    Cancelled: 409,  # by somebody else: a client that left is not answered
    SandboxError: 500,
    RegistryError: 502,
    BuildError: 400,
    ArtifactError: 503,
    Busy: 503,
    StateError: 503,
}


def status_of(error: HostError) -> int:
    """Of a run that was refused what a policy limits (`rate_limited`), 429; of one that an upstream ended, its own."""
    if isinstance(error, OperationFailed):
        return final(error.result.status)
    if isinstance(error, Denied) and error.refusals and error.refusals[0].kind == "rate_limited":
        return 429
    return next((status for kind, status in _TABLE.items() if isinstance(error, kind)), 500)


def final(status: int) -> int:
    """A guest's word: one that ends an exchange, and not, say, one that announces another."""
    return status if status >= 200 else 502


def kept_back(error: HostError) -> str | None:
    """Words in place of an error's own, which are not for whoever asks from outside: of the host's own troubles, and of
    what a guest said at its end, no more than what they are called."""
    if error.blame == "host":
        return "the server cannot do this now"
    return f"the catalyst failed: {error.code}" if error.blame == "guest" else None


def told(error: HostError) -> dict[str, Any]:
    """`HostError.as_dict` for whoever asks from outside."""
    said = kept_back(error)
    return error.as_dict() if said is None else {"type": error.code, "message": said, "blame": error.blame}


def headers_of(error: HostError) -> Iterator[tuple[str, str]]:
    """What goes with that status: when to try again, and how to say who one is (RFC 9110, 10.2.3 and 11.6.1)."""
    match error:
        case LimitExceeded():
            yield "retry-after", str(max(1, ceil(error.retry_after_s)))
        case Busy():
            yield "retry-after", "1"
        case Denied() if status_of(error) == 429:
            yield "retry-after", "1"
        case Unauthenticated():
            yield "www-authenticate", 'Bearer realm="catalyst-host"'
