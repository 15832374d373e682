"""Header fields of requests and answers: the ones that a guest may set, their syntax, their number and size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from host.core.headers import HOP_BY_HOP, NOT_THE_GUESTS, NOT_THE_GUESTS_PREFIXES, SPELLING, TOKEN, spelled
from host.egress.failures import EgressError
from host.policy.document import METHODS
from host.policy.urls import Target

Fields = tuple[tuple[str, str], ...]
RawFields = list[tuple[bytes, bytes]]

MAX_HEAD_BYTES: Final = 64 * 1024  # of a request's fields, and of a response's status line and fields
MAX_SENT_FIELDS: Final = 100
MAX_RECEIVED_FIELDS: Final = 200

_SENDS_LENGTH: Final = frozenset({"POST", "PUT", "PATCH"})  # also without a body (RFC 9110, 8.6)
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")  # RFC 9110, 5.5: visible characters and obs-text, as Latin-1


def outgoing_fields(method: str, target: Target, headers: Fields, body: bytes) -> RawFields:
    """The fields of a request: the guest's, without the ones that only the host or a proxy sets, then the host's own.
    What the guest's Connection nominates goes with it (RFC 9110, 7.6.1).

    Raises EgressError (http_error) for a method outside the contract, for a malformed field, and for too many fields;
    nothing is sent then.
    """
    if method not in METHODS:
        raise EgressError("http_error", "the method is not one of " + " ".join(sorted(METHODS)))
    if len(headers) > MAX_SENT_FIELDS:
        raise EgressError("http_error", f"a request has at most {MAX_SENT_FIELDS} headers")
    given = [(name, _checked(name, value)) for name, value in headers]
    if sum([len(name) + len(value) for name, value in given]) > MAX_HEAD_BYTES:
        raise EgressError("http_error", f"a request has at most {MAX_HEAD_BYTES} bytes of headers")
    fields = [(b"Host", target.at.authority.encode("ascii"))]
    nominated: set[str] = set()
    for name, value in given:
        plain = name.lower().translate(SPELLING)
        if plain == "connection":
            nominated.update(spelled(token.strip()) for token in value.decode("latin-1").split(","))
        elif plain not in NOT_THE_GUESTS and not plain.startswith(NOT_THE_GUESTS_PREFIXES):
            fields.append((name.encode("ascii"), value))
    if nominated:
        fields[1:] = [field for field in fields[1:] if spelled(field[0].decode("ascii")) not in nominated]
    if b"user-agent" not in [name.lower() for name, _ in fields]:
        fields.append((b"User-Agent", b"catalyst-host"))
    fields.append((b"Accept-Encoding", b"gzip"))
    if body or method in _SENDS_LENGTH:
        fields.append((b"Content-Length", str(len(body)).encode("ascii")))
    return fields


def incoming_fields(raw: Sequence[tuple[bytes, bytes]]) -> Fields:
    """The fields of a response for the guest: lower-case names, Latin-1 values, hop-by-hop fields removed.

    `raw` has lower-case names. Raises EgressError (http_error) if they are too many or too large, and for a response
    with both Transfer-Encoding and Content-Length: two readers would see its end in two places (RFC 9112, 6.3).
    """
    if len(raw) > MAX_RECEIVED_FIELDS or sum([len(name) + len(value) + 4 for name, value in raw]) > MAX_HEAD_BYTES:
        limits = f"{MAX_RECEIVED_FIELDS} headers or {MAX_HEAD_BYTES} bytes of them"
        raise EgressError("http_error", f"the response has more than {limits}")
    names = {name for name, _ in raw}
    if {b"transfer-encoding", b"content-length"} <= names:
        raise EgressError("http_error", "the response has both Transfer-Encoding and Content-Length")
    fields = [(name.decode("ascii"), value.decode("latin-1")) for name, value in raw]
    named = {token.strip().lower() for name, value in fields if name == "connection" for token in value.split(",")}
    removed = HOP_BY_HOP | named
    return tuple([field for field in fields if field[0] not in removed and not field[0].startswith("proxy-")])


def without(fields: Fields, names: Iterable[str]) -> Fields:
    """`fields` less those called one of `names` (in lower case)."""
    removed = frozenset(names)
    return tuple(field for field in fields if field[0] not in removed)


def _checked(name: str, value: str) -> bytes:
    if not TOKEN.match(name):
        raise EgressError("http_error", f"{name[:80]!r} is not the name of a header")
    value = value.strip(" \t")
    if not _VALUE.match(value):
        raise EgressError("http_error", f"the header {name[:80]} holds a control character, or one beyond Latin-1")
    return value.encode("latin-1")
