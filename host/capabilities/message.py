"""The messages between a guest and `cyfr:http`: its requests, read, the text of answers, and the errors that it gets.

An error is `{"error": {"type", "message"}}`. A malformed request gets one that names the field.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from host.core.fields import FieldReader
from host.core.headers import ANSWER_FORMS, METHOD_OVERRIDES, SPELLING, without_charset
from host.core.operation import Attachment, Attachments
from host.core.strict_json import Json, clean_text, parse_object, write_json
from host.core.wit import Cut
from host.egress.headers import MAX_HEAD_BYTES, Fields
from host.errors import InputError, Refusal
from host.policy.permissions import Deny, Grant
from host.policy.urls import Target, UrlError
from host.secrets.redaction import Redactor


class GuestError(Exception):
    """An error for the guest. A capability raises it, and it becomes a value before the guest sees it. `kind` is an
    error type of the contract. `refusal` is set if the host refused the request, `retry_after_s` where there is a time
    after which it may fare better."""

    def __init__(
        self, kind: str, message: str, *, refusal: Refusal | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.refusal = refusal
        self.retry_after_s = retry_after_s

    @classmethod
    def refused(cls, refusal: Refusal, retry_after_s: float | None = None) -> GuestError:
        return cls(refusal.kind, str(refusal), refusal=refusal, retry_after_s=retry_after_s)

    @classmethod
    def denied(cls, deny: Deny, subject: str) -> GuestError:
        return cls(deny.kind, deny.to_guest(subject), refusal=deny.refusal(subject))

    def as_json(self) -> str:
        error: dict[str, Json] = {"type": self.kind, "message": clean_text(self.message)[:1_000]}
        if self.retry_after_s is not None:
            error["retry_after_s"] = round(self.retry_after_s, 3)
        return write_json({"error": error})


ResponseEncoding = Literal["text", "base64", "attachment"]
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}\Z")  # a token of RFC 9110, 5.6.2, of a length to be shown
MAX_WAIT_MS = 600_000  # before one request
_MOST_BEFORE = 32  # characters in a header before a secret: `Token token="`, `OAuth oauth_consumer_key="`
_MAX_VALUES = 100_000  # of JSON, in one message; a multipart upload has four a part
_ESCAPED = bytes(range(32)) + b'"\\'
_ESCAPED_LONGER = bytes(range(32)).translate(None, b"\b\t\n\f\r")  # as \u0001
_PLAIN = {"ws": "http", "wss": "https"}  # the scheme of the request that opens it (RFC 6455, 3)
_ENCODINGS: tuple[ResponseEncoding, ...] = ("text", "base64", "attachment")


@dataclass(frozen=True, slots=True)
class RequestMessage:
    """A request of a guest, read. `response_encoding` is the form of the answer's body; `error_encoding` the form for
    answers outside 2xx. `after_ms` is how long to wait first. `read_body` decodes the body from `fields`, after the
    request was allowed."""

    method: str
    target: Target
    headers: tuple[tuple[str, str], ...]
    fields: FieldReader = field(repr=False)
    response_encoding: ResponseEncoding = "text"
    error_encoding: ResponseEncoding = "text"
    relay: bool = False
    answers: int = 1
    after_ms: int = 0


def read_message(text: str, check: Callable[[], object] | None = None) -> RequestMessage:
    """Reads a request; a long one in pieces, before each of which `check` is called. A field that is null counts as
    missing; unknown fields are passed over. Raises GuestError (http_error; request_too_large for a message that is
    longer than its room)."""
    fields = _message(text, "max_request_size", check)
    method, url = _required(fields, "method"), _required(fields, "url")
    if not _METHOD.match(method):
        raise _malformed("method", "is not an HTTP method")
    try:
        target = Target.parse(url)
    except UrlError as error:
        raise _malformed("url:", error.reason) from None
    bodies = [name for name in ("body", "body_attachment", "multipart") if fields.given.get(name, "") != ""]
    if len(bodies) > 1:
        raise _malformed(" and ".join(bodies), "cannot be in one request")
    response = fields.choice("response_encoding", _ENCODINGS, default="text")
    return RequestMessage(
        method=method.upper(),
        target=target,
        headers=_headers(fields.table("headers")),
        fields=fields,
        response_encoding=response,
        error_encoding=fields.choice("error_encoding", _ENCODINGS, default=response),
        relay=fields.given.get("relay") is True,
        answers=answers if isinstance(answers := fields.given.get("answers"), int) else 1,
        after_ms=_wait(fields) if "after_ms" in fields.given else 0,
    )


@dataclass(frozen=True, slots=True)
class ConnectMessage(RequestMessage):
    """A guest's wish for a WebSocket, read: a GET, whose `target` is http where the URL was ws, https where it was
    wss. `subprotocols` are offered in their order."""

    subprotocols: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The URL, as `Target.shown`."""
        return "ws" + self.target.shown.removeprefix("http")


def read_connect(text: str, check: Callable[[], object] | None = None) -> ConnectMessage:
    """Reads what `catalyst:host/websocket` connects to. As `read_message`."""
    fields = _message(text, "max_request_size", check)
    scheme, separator, rest = _required(fields, "url").partition("://")
    if not separator or scheme.lower() not in _PLAIN:
        raise _malformed("url:", "the URL of a WebSocket begins with wss:// or ws://")
    try:
        target = Target.parse(f"{_PLAIN[scheme.lower()]}://{rest}")
    except UrlError as error:
        raise _malformed("url:", error.reason) from None
    headers, offered = _headers(fields.table("headers")), fields.texts("subprotocols")
    relay = fields.given.get("relay") is True
    return ConnectMessage("GET", target, headers, fields, relay=relay, subprotocols=offered)


def read_socket_message(text: str, held: Attachments, check: Callable[[], object] | None = None) -> str | bytes:
    """Reads a message for a WebSocket: `text`, `data` in base64, or an `attachment`, which is sent as data.
    Raises GuestError."""
    fields = _message(text, "max_message_size", check)
    kinds = [name for name in ("text", "data", "attachment") if name in fields]
    if len(kinds) != 1:
        raise _malformed("the message", "has one of text, data and attachment")
    match kinds[0]:
        case "text":
            return clean_text(fields.text("text"))
        case "data":
            return _decoded(fields, "data")
        case _:
            return _attached(fields, "attachment", held).data


def _message(text: str, limit: str, check: Callable[[], object] | None) -> FieldReader:
    if isinstance(text, Cut):
        rule = f"its message of {text.size} bytes is longer than {limit} allows"
        raise GuestError.refused(Refusal("request_too_large", "a request", rule, f"raise {limit}"))
    try:
        given = parse_object(text, "the request", most=_MAX_VALUES, check=check)
    except InputError as error:
        raise GuestError("http_error", error.message) from None
    return FieldReader({name: value for name, value in given.items() if value is not None}, error=_malformed)


def read_body(
    message: RequestMessage, held: Attachments, check_size: Callable[[int], None]
) -> tuple[bytes, str | None]:
    """The bytes to send, and their content type where the body determines it (multipart, with its boundary).
    `check_size` gets the size as it grows, and raises above a limit: a short message can name one attachment many
    times. Raises GuestError (http_error)."""
    fields = message.fields
    if "multipart" in fields:
        return _multipart(fields, held, check_size)
    if "body_attachment" in fields:
        return _attached(fields, "body_attachment", held).data, None
    if "body" not in fields:
        return b"", None
    body = fields.text("body")
    if fields.choice("body_encoding", ("base64",), default="text") == "base64":
        return _decoded(fields, "body"), None
    return body.encode("utf-8", "replace"), None


def check_size(grant: Grant, method: str, target: Target, size: int) -> None:
    """Raises GuestError where a body of `size` bytes is over the grant's limit."""
    most = grant.limits.max_request_bytes
    if size > most:
        remedy = f"raise max_request_size in the policy of {grant.reference}"
        rule = f"a body of {size} bytes is over {most}"
        raise GuestError.refused(Refusal("request_too_large", subject(method, target), rule, remedy))


def subject(method: str, target: Target) -> str:
    """How messages name a request: without its query."""
    return f"{method[:20]} {target.shown}"


def decode_body(body: bytes) -> str:
    """The text of a whole body: UTF-8, or where it is not, Latin-1, in which each byte is one character (as in
    CYFR)."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body.decode("latin-1")


def length_in_json(body: bytes) -> int:
    """The bytes that the text of `body`, which is UTF-8, has within a JSON string: six for a control character."""
    escaped = len(body) - len(body.translate(None, _ESCAPED))
    longer = len(body) - len(body.translate(None, _ESCAPED_LONGER))
    return len(body) + escaped + 4 * longer


class BodyDecoder:
    """The text of a body that comes in pieces: UTF-8 up to the first byte that is not, and from there on Latin-1. A
    character that is cut between two pieces is kept until it is whole."""

    def __init__(self) -> None:
        self._kept = b""
        self._latin = False

    def decode(self, piece: bytes, *, final: bool) -> str:
        """The text that is whole with `piece`; with `final` the rest of it, too."""
        if self._latin:
            return piece.decode("latin-1")
        data = self._kept + piece if self._kept else piece
        try:
            text, used = codecs.utf_8_decode(data, "strict", final)
        except UnicodeDecodeError as error:
            self._latin = True
            return data[: error.start].decode("utf-8") + data[error.start :].decode("latin-1")
        self._kept = data[used:]
        return text


def _malformed(at: str, problem: str) -> GuestError:
    return GuestError("http_error", f"{at} {problem}")


def _required(fields: FieldReader, name: str) -> str:
    if not (text := fields.text(name)):
        raise fields.error(name, "is missing")
    return text


def _wait(fields: FieldReader) -> int:
    match fields.given.get("after_ms", 0):
        case int(given) if 0 <= given <= MAX_WAIT_MS and not isinstance(given, bool):
            return given
    raise _malformed("after_ms", f"is no number of milliseconds from 0 to {MAX_WAIT_MS}")


def _headers(fields: FieldReader) -> tuple[tuple[str, str], ...]:
    given = fields.given.items()
    headers = tuple([(name, value if isinstance(value, str) else fields.text(name)) for name, value in given])
    if sum([len(name) + len(value) for name, value in headers]) > MAX_HEAD_BYTES:  # before secrets make it longer
        raise GuestError("http_error", f"a request has at most {MAX_HEAD_BYTES} bytes of headers")
    return headers


def _multipart(fields: FieldReader, held: Attachments, check_size: Callable[[int], None]) -> tuple[bytes, str]:
    parts = [FieldReader(one, error=_malformed, at=at) for at, one in fields.items("multipart")]
    if not parts:
        raise fields.error("multipart", "has no parts")
    from httpx2 import Request  # noqa: PLC0415 - only uploads need it

    files, size = [], 0
    for part in parts:
        name, content = _part(part, held)
        size += len(content[1])
        check_size(size)
        files.append((name, content))
    request = Request("POST", "https://multipart.invalid", files=files)
    return request.read(), request.headers["content-type"]


def _part(part: FieldReader, held: Attachments) -> tuple[str, tuple[Any, ...]]:
    """One part as httpx2 takes it: name, then file name, content and type (RFC 7578)."""
    name, given = _required(part, "name"), part.given
    kind = _media_type(part)
    if isinstance(value := given.get("value"), str):
        return name, (None, value.encode("utf-8", "replace"), *kind)
    filename = given.get("filename")
    if given.get("attachment") is not None:
        found = _attached(part, "attachment", held)
        content = _ranged(part, found.data)
        filename = filename or found.filename
        kind = kind or ((found.content_type,) if found.content_type else ())
    elif isinstance(given.get("data"), str):
        content = _decoded(part, "data")
    else:
        raise _malformed(part.at, "has no value, data or attachment that is a string")
    return name, (filename if isinstance(filename, str) and filename else name, content, *kind)


def _ranged(part: FieldReader, data: bytes) -> bytes:
    """The bytes that the part asks for: `range` is where they begin, and where they end."""
    if (given := part.given.get("range")) is None:
        return data
    match given:
        case [int(start), int(end)] if 0 <= start < end <= len(data) and bool not in map(type, given):
            return data[start:end]
    raise part.error("range", f"is not [start, end] within the {len(data)} bytes of the attachment")


def _media_type(part: FieldReader) -> tuple[str, ...]:
    """The part's own type; of a file without one, httpx2 takes that of the end of its name, as the OpenAI SDK does."""
    given = part.given.get("content_type")
    if not isinstance(given, str) or not given:
        return ()
    if not given.isprintable() or not given.isascii():
        raise part.error("content_type", "is not a media type")
    return (given,)


def _attached(fields: FieldReader, name: str, held: Attachments) -> Attachment:
    if (found := held.get(fields.given[name])) is None:
        raise fields.error(name, "is no attachment of this run")
    return found


def _decoded(fields: FieldReader, name: str) -> bytes:
    try:
        return base64.b64decode(fields.text(name), validate=True)
    except (binascii.Error, ValueError):
        raise fields.error(name, "is not base64") from None


def unformed(
    headers: Sequence[tuple[str, str]],
) -> tuple[tuple[tuple[str, str], ...], list[str], list[str]]:
    """`headers` without those that choose the form of the answer; their names, as `spelled`; and what was left out."""
    kept, names, left_out = [], [], []
    for name, value in headers:
        plain, shown = name.lower().translate(SPELLING), value
        if plain in ANSWER_FORMS:
            left_out.append(name)
            continue
        if plain == "accept" and "charset" in value.lower():
            left_out.append(f"charset in {name}")
            if not (shown := without_charset(value)):
                continue
        kept.append((name, shown))
        names.append(plain)
    return tuple(kept), names, left_out


def check_no_override(method: str, target: Target, headers: Fields, plain: Sequence[str]) -> None:
    """Raises GuestError for a request with a secret that overrides its method. It is not sent without that: it would be
    another request."""
    for (name, _), one in zip(headers, plain, strict=True):
        if one in METHOD_OVERRIDES:
            rule, remedy = f"a request that carries a secret has no header {name[:80]}", "send the method itself"
            refusal = Refusal("method_blocked", subject(method, target), rule, remedy, grantable=False)
            raise GuestError.refused(refusal)


def check_not_moved(name: str, value: str, placeholders: Collection[str], most: int = _MOST_BEFORE) -> None:
    """Raises GuestError where much stands before the last of the `placeholders` in a header's `value`, or one is there
    twice: where an upstream shows a header's first characters, the guest would choose how many are of the secret. The
    base64 of Basic is not looked into: names of users have any length."""
    rest = value
    for placeholder in sorted(placeholders, key=value.find):
        before, found, behind = rest.partition(placeholder)
        if found and (len(before) > most or placeholder in behind):
            rule = f"holds a secret twice, or behind more than {most} characters"
            raise GuestError("http_error", f"the header {name[:80]} {rule}")
        rest = before + behind


def joined(redactor: Redactor, headers: Fields) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    redacted: dict[str, str] = redactor.json(joined)
    return redacted
