"""Whether a request to an upstream may be sent a second time, to it or to another: the one rule of all that repeat.

A request may be repeated if nothing of it was sent, if its method is idempotent (RFC 9110, 9.2.2), if it carries its
caller's idempotency key, or if the answer says that it was not processed. Anything else may have been done, and paid
for, already. An idempotency key is known to the origin that had it: no other one can tell by it that the work is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeAlias, get_args

Cause: TypeAlias = Literal["network", "timeout", "5xx", "429", "circuit_open"]
"""Why an upstream did not serve a request, where that is not the caller's doing: it could not be reached or broke off,
took too long, answered with an error of its own, has too many requests, or was not asked because it fails too often."""

CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # RFC 9110, 9.2.2
_KEYS: Final = ("idempotency-key", "x-idempotency-key")
OWN_KEY: Final = "batch_req_"
"""The beginning of the idempotency keys that the host makes itself. Not every upstream knows such keys, so one makes a
request no safer to repeat where its caller did not send it."""
_NOT_PROCESSED: Final = (408, 421, 425, 429)  # RFC 9110, 15.5.9 and 15.5.20; RFC 8470, 5.2; RFC 6585, 4
_UNAVAILABLE: Final = 503  # with a time to try again (RFC 9110, 10.2.3 and 15.6.4)
_OF_KINDS: Final[Mapping[str, Cause]] = {
    "http_error": "network",
    "dns_error": "network",
    "timeout": "timeout",
    "circuit_open": "circuit_open",
}


def may_repeat(method: str, headers: Iterable[tuple[str, str]]) -> bool:
    """Whether a request may be repeated, at the same origin, whatever became of it. `headers` are its names and
    values."""
    known = known_by(headers)
    return method in IDEMPOTENT or (known != "" and not known.startswith(OWN_KEY))


def known_by(headers: Iterable[tuple[str, str]]) -> str:
    """The idempotency key of a request, by which its upstream knows it again; "" for none."""
    return next((key for name, value in headers if name.lower() in _KEYS and (key := value.strip())), "")


def may_move(method: str) -> bool:
    """Whether a request may be sent to another origin whatever became of it at this one."""
    return method in IDEMPOTENT


def was_not_processed(status: int, headers: Iterable[tuple[str, str]]) -> bool:
    """Whether an answer says that its request was not processed. `headers` are the answer's, with lower-case names."""
    said = dict(headers)
    if said.get("x-should-retry", "").strip().lower() == "true":  # `false` only says not to ask this upstream again
        return True
    return status in _NOT_PROCESSED or (status == _UNAVAILABLE and ("retry-after" in said or "retry-after-ms" in said))


def cause_of_status(status: int) -> Cause | None:
    """None for a status that is no failure of the upstream."""
    if status == 429:
        return "429"
    if status == 408:
        return "timeout"
    return "5xx" if status >= 500 else None


def cause_of_kind(kind: str) -> Cause | None:
    """The same for a request without an answer: `kind` is an error type of wit/README.md."""
    return _OF_KINDS.get(kind)
