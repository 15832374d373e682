"""A request as the server read it, and a response with the manner of its delivery."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """`path` and `query` are as on the wire (percent-encoded); `headers` has lower-case names, repeated values joined
    by ", "; `server_url` is the origin at which the request arrived, whatever its Host header claims."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    server_url: str

    @classmethod
    def read(cls, method: str, target: str, headers: dict[str, str], body: bytes, server_url: str) -> Request:
        """From a request target in origin form, absolute form or `*` (RFC 9112, section 3.2)."""
        if target.startswith("/"):
            path, _, query = target.partition("?")
        else:
            parts = urlsplit(target)
            path, query = parts.path or "/", parts.query
        return cls(method, path, query, headers, body, server_url)

    @cached_property
    def arguments(self) -> dict[str, str | list[str]]:
        """The decoded query; a repeated name has a list."""
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
    """How a response is written: promptly and wholly, unless a test wants it otherwise. Times are in seconds."""

    delay_s: float = 0.0  # before the status line
    event_delay_s: float = 0.0  # before each event of a stream
    drip_s: float | None = None  # one byte per write, with this pause before each
    cut_before_headers: bool = False
    cut_after_bytes: int | None = None  # of the body, then the connection is closed
    cut_after_events: int | None = None
    content_length: int | None = None  # declared, whatever the body's true length

    @property
    def cut(self) -> bool:
        return self.cut_after_bytes is not None or self.cut_after_events is not None

    def pieces(self, body: bytes | Iterable[bytes]) -> Iterator[bytes]:
        """`body` as it is written, one item a write, ending where the delivery is cut."""
        parts: Iterable[bytes] = (body,) if isinstance(body, bytes) else body
        parts = islice(parts, self.cut_after_events)
        if self.cut_after_bytes is not None:
            parts = _first(self.cut_after_bytes, parts)
        if self.drip_s is None:
            return iter(parts)
        return (bytes((byte,)) for part in parts for byte in part)


PROMPT = Delivery()


@dataclass(frozen=True, slots=True)
class Response:
    """`headers` has lower-case names. A body of bytes is sent with its length; any other is sent as it comes, one HTTP
    chunk and one write for each item."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] = b""
    delivery: Delivery = PROMPT

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        return cls(status, {"content-type": "application/json", **(headers or {})}, encoded(value))


def encoded(value: Any) -> bytes:
    """JSON in raw UTF-8, as OpenAI sends it; a lone surrogate, which UTF-8 does not have, stays a JSON escape."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _first(count: int, parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        if count <= len(part):
            yield part[:count]
            return
        yield part
        count -= len(part)
