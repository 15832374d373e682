"""The messages of `cyfr:http`: requests as a guest writes them, and errors as a guest sees them.

A request is read field by field, each with its type; a mistake names its field. An error is
`{"error": {"type", "message"}}`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from host.core.operation import Attachments
from host.core.strict_json import Json, clean_text, kind_of, parse_object, write_json
from host.egress.headers import MAX_HEAD_BYTES
from host.errors import InputError, Refusal
from host.policy.permissions import Deny
from host.policy.urls import Target, UrlError


class GuestError(Exception):
    """Raised within a capability, and turned into a value before the guest sees it. `kind` is an error type of
    CONTRACT.md; `refusal` is set if the host refused something that a policy could allow."""

    def __init__(self, kind: str, message: str, *, refusal: Refusal | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.refusal = refusal

    @classmethod
    def refused(cls, refusal: Refusal) -> GuestError:
        return cls(refusal.kind, str(refusal), refusal=refusal)

    @classmethod
    def denied(cls, deny: Deny, subject: str) -> GuestError:
        return cls(deny.kind, deny.to_guest(subject), refusal=deny.refusal(subject))

    def as_json(self) -> str:
        return write_json({"error": {"type": self.kind, "message": clean_text(self.message)[:1_000]}})


ResponseEncoding = Literal["text", "base64", "attachment"]
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}\Z")  # a token of RFC 9110, 5.6.2, of a length to be shown
_MAX_VALUES = 100_000  # of JSON, in one message; a multipart upload has four a part
_ENCODINGS: tuple[ResponseEncoding, ...] = ("text", "base64", "attachment")


@dataclass(frozen=True, slots=True)
class Message:
    """A request. `response_encoding` says how the body comes back; `error_encoding` the same for answers outside 2xx.
    `read_body` decodes the body, after the request was allowed."""

    method: str
    target: Target
    headers: tuple[tuple[str, str], ...]
    fields: Mapping[str, Json] = field(repr=False)
    response_encoding: ResponseEncoding = "text"
    error_encoding: ResponseEncoding = "text"
    relay: bool = False


def read_message(text: str) -> Message:
    """Raises GuestError (http_error)."""
    try:
        fields = parse_object(text, "the request", most=_MAX_VALUES)
    except InputError as error:
        raise GuestError("http_error", error.message) from None
    method, url = _required(fields, "method"), _required(fields, "url")
    if not _METHOD.match(method):
        raise GuestError("http_error", "method is not an HTTP method")
    try:
        target = Target.parse(url)
    except UrlError as error:
        raise GuestError("http_error", f"url: {error.reason}") from None
    bodies = [name for name in ("body", "body_attachment", "multipart") if fields.get(name) not in (None, "")]
    if len(bodies) > 1:
        raise GuestError("http_error", " and ".join(bodies) + " cannot be in one request")
    response = _encoding(fields, "response_encoding", "text")
    return Message(
        method=method.upper(),
        target=target,
        headers=_headers(fields.get("headers")),
        fields=fields,
        response_encoding=response,
        error_encoding=_encoding(fields, "error_encoding", response),
        relay=fields.get("relay") is True,
    )


def read_body(message: Message, held: Attachments, check_size: Callable[[int], None]) -> tuple[bytes, str | None]:
    """The bytes to send, and the content type that they must have (of multipart, with its boundary).

    `check_size` gets the size as it grows, and raises if it is too much: a short message can name one attachment many
    times. Raises GuestError (http_error)."""
    fields = message.fields
    if (parts := fields.get("multipart")) is not None:
        return _multipart(parts, held, check_size)
    if (ident := fields.get("body_attachment")) is not None:
        found = held.get(ident)
        if found is None:
            raise GuestError("http_error", "body_attachment: there is no such attachment in this run")
        return found.data, None
    body = fields.get("body")
    if body is None:
        return b"", None
    if not isinstance(body, str):
        raise GuestError("http_error", f"body is a {kind_of(body)}, not a string")
    match fields.get("body_encoding"):
        case None | "text":
            return body.encode("utf-8", "replace"), None
        case "base64":
            return _decoded(body, "body"), None
        case _:
            raise GuestError("http_error", "body_encoding is not base64")


def _required(fields: Mapping[str, Json], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        said = "is missing" if value in (None, "") else f"is a {kind_of(value)}, not a string"
        raise GuestError("http_error", f"{name} {said}")
    return value


def _headers(given: Json) -> tuple[tuple[str, str], ...]:
    if given is None:
        return ()
    if not isinstance(given, dict):
        raise GuestError("http_error", f"headers is a {kind_of(given)}, not an object")
    for name, value in given.items():
        if not isinstance(value, str):
            raise GuestError("http_error", f"the header {name[:80]!r} is a {kind_of(value)}, not a string")
    if sum(len(name) + len(value) for name, value in given.items()) > MAX_HEAD_BYTES:  # before secrets make it longer
        raise GuestError("http_error", f"a request has at most {MAX_HEAD_BYTES} bytes of headers")
    return tuple(given.items())


def _encoding(fields: Mapping[str, Json], name: str, default: ResponseEncoding) -> ResponseEncoding:
    value = fields.get(name)
    if value is None:
        return default
    for known in _ENCODINGS:
        if value == known:
            return known
    raise GuestError("http_error", f"{name} is not one of " + ", ".join(_ENCODINGS))


def _multipart(parts: Json, held: Attachments, check_size: Callable[[int], None]) -> tuple[bytes, str]:
    if not isinstance(parts, list) or not parts:
        raise GuestError("http_error", "multipart is not a list of parts")
    from httpx2 import Request  # noqa: PLC0415 - only uploads need it

    files, size = [], 0
    for index, part in enumerate(parts):
        name, content = _part(part, f"multipart[{index}]", held)
        size += len(content[1])
        check_size(size)
        files.append((name, content))
    request = Request("POST", "https://multipart.invalid", files=files)
    return request.read(), request.headers["content-type"]


def _part(part: Json, where: str, held: Attachments) -> tuple[str, tuple[Any, ...]]:
    """One part as httpx2 takes it: name, then file name, content and type (RFC 7578)."""
    if not isinstance(part, dict):
        raise GuestError("http_error", f"{where} is a {kind_of(part)}, not an object")
    name = part.get("name")
    if not isinstance(name, str) or not name:
        raise GuestError("http_error", f"{where}.name is missing")
    if isinstance(value := part.get("value"), str):
        return name, (None, value.encode("utf-8", "replace"))
    filename, content_type = part.get("filename"), part.get("content_type")
    if (ident := part.get("attachment")) is not None:
        found = held.get(ident)
        if found is None:
            raise GuestError("http_error", f"{where}.attachment: there is no such attachment in this run")
        content = found.data
        filename, content_type = filename or found.filename, content_type or found.content_type
    elif isinstance(data := part.get("data"), str):
        content = _decoded(data, f"{where}.data")
    else:
        raise GuestError("http_error", f"{where} has no value, data or attachment that is a string")
    filename = filename if isinstance(filename, str) and filename else name
    content_type = content_type if isinstance(content_type, str) and content_type else "application/octet-stream"
    if not content_type.isprintable() or not content_type.isascii():
        raise GuestError("http_error", f"{where}.content_type is not a media type")
    return name, (filename, content, content_type)


def _decoded(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise GuestError("http_error", f"{where} is not base64") from None
