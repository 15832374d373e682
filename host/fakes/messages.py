"""Requests as the server reads them, multipart bodies, and responses with the manner of their delivery."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class FakeRequest:
    """A whole request.

    `path` and `query` stay percent-encoded. `headers` has lower-case names, and repeated values joined by ", ".
    `server_url` is the origin that received the request, whatever its Host header says.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    server_url: str

    @classmethod
    def from_target(
        cls, method: str, target: str, headers: dict[str, str], body: bytes, server_url: str
    ) -> FakeRequest:
        """From a request target in origin form, absolute form or `*` (RFC 9112, section 3.2). Raises ValueError."""
        if target.startswith("/"):
            path, _, query = target.partition("?")
        else:
            parts = urlsplit(target)
            path, query = parts.path or "/", parts.query
        return cls(method, path, query, headers, body, server_url)

    @cached_property
    def arguments(self) -> dict[str, str | list[str]]:
        """The decoded query. The value of a repeated name is a list."""
        decoded: dict[str, str | list[str]] = {}
        for name, value in parse_qsl(self.query, keep_blank_values=True):
            match decoded.get(name):
                case None:
                    decoded[name] = value
                case list() as earlier:
                    earlier.append(value)
                case earlier:
                    decoded[name] = [earlier, value]
        return decoded


@dataclass(frozen=True, slots=True)
class Delivery:
    """The manner in which the server writes a response; by default at once and whole. Times are in seconds."""

    delay_s: float = 0.0  # before the status line
    event_delay_s: float = 0.0  # before each event of a stream
    drip_s: float | None = None  # one byte per write, with this pause before each
    cut_before_headers: bool = False
    cut_after_bytes: int | None = None  # of the body; then the connection closes
    cut_after_events: int | None = None
    content_length: int | None = None  # the declared length, whatever the true one

    @property
    def cut(self) -> bool:
        return self.cut_after_bytes is not None or self.cut_after_events is not None

    def pieces(self, body: bytes | Iterable[bytes]) -> Iterator[bytes]:
        """Yields one piece of `body` for each write, up to the cut."""
        parts: Iterable[bytes] = (body,) if isinstance(body, bytes) else body
        parts = islice(parts, self.cut_after_events)
        if self.cut_after_bytes is not None:
            parts = _first_bytes(self.cut_after_bytes, parts)
        if self.drip_s is None:
            return iter(parts)
        return (bytes((byte,)) for part in parts for byte in part)


PROMPT = Delivery()


@dataclass(frozen=True, slots=True)
class FakeResponse:
    """A response. `headers` has lower-case names.

    A body of bytes is sent with its length; an iterable body with one HTTP chunk and one write for each item.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] = b""
    delivery: Delivery = PROMPT

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> FakeResponse:
        return cls(status, {"content-type": "application/json", **(headers or {})}, encode_json(value))


def encode_json(value: Any) -> bytes:
    """JSON in raw UTF-8, as OpenAI sends it. A lone surrogate, which UTF-8 does not have, stays a JSON escape."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _first_bytes(count: int, parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        if count <= len(part):
            yield part[:count]
            return
        yield part
        count -= len(part)


# multipart/form-data (RFC 7578; RFC 2046, section 5.1), read strictly and byte for byte

_BOUNDARY = re.compile(r";\s*boundary=(?:\"([^\"]{1,70})\"|([^\s;\"]{1,70}))", re.IGNORECASE)
_PARAMETER = re.compile(r";[ \t]*(name|filename)=\"((?:[^\"\\]|\\.)*)\"", re.IGNORECASE)
# The escapes of browsers and HTTP clients in a quoted string (HTML, multipart/form-data encoding).
_ESCAPE = re.compile(r"\\([\"\\])|%(22|0A|0D|0a|0d)")


class MultipartError(ValueError):
    """The body does not fit its content type. The message says why."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body. `filename` is None for a plain field; `content_type` is "" if absent."""

    name: str
    filename: str | None
    content_type: str
    content: bytes


def parse_multipart(body: bytes, content_type: str) -> list[Part]:
    """Returns the parts of `body` in order. `content_type` is the whole header. Raises MultipartError."""
    media_type, semicolon, parameters = content_type.partition(";")
    found = _BOUNDARY.search(semicolon + parameters)
    if media_type.strip().lower() != "multipart/form-data" or not found:
        raise MultipartError("the content type is not multipart/form-data with a boundary")
    delimiter = b"\r\n--" + (found[1] or found[2]).encode("latin-1")
    # The line break before a delimiter belongs to it. The first one may open the body; a preamble may precede it.
    _, *sections = (b"\r\n" + body).split(delimiter)
    parts: list[Part] = []
    for section in sections:
        if section.startswith(b"--"):
            return parts
        padding, line_break, rest = section.partition(b"\r\n")
        if padding.strip(b" \t") or not line_break:
            raise MultipartError("a boundary is not followed by a line break")
        parts.append(_parse_part(rest))
    raise MultipartError("the closing boundary is missing")


def _parse_part(section: bytes) -> Part:
    head, blank_line, content = section.partition(b"\r\n\r\n")
    if not blank_line:
        raise MultipartError("a part has no blank line after its headers")
    headers: dict[str, str] = {}
    for line in head.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon:
            raise MultipartError("a part's header has no colon")
        headers[name.decode("latin-1").lower()] = value.decode("utf-8", "replace").strip()
    disposition = headers.get("content-disposition", "")
    named = {key.lower(): _ESCAPE.sub(_unescape, value) for key, value in _PARAMETER.findall(disposition)}
    if not disposition.lower().startswith("form-data") or "name" not in named:
        raise MultipartError("a part's content-disposition is not form-data with a name")
    return Part(named["name"], named.get("filename"), headers.get("content-type", ""), content)


def _unescape(escape: re.Match[str]) -> str:
    return escape[1] or chr(int(escape[2], 16))
