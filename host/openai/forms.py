"""Forms (multipart/form-data, RFC 7578 and RFC 2046, section 5.1), read within bounds.

A form of any size is read at the speed of a search for its boundary: there is no work for each of its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from host.errors import InputError

MAX_PARTS: Final = 1_000
MAX_PART_HEAD_BYTES: Final = 8 * 1024  # of all headers of one part
MAX_PART_HEADERS: Final = 16
MAX_FIELD_NAME: Final = 256  # bytes
_LONGEST_BOUNDARY: Final = 70  # RFC 2046, section 5.1.1


@dataclass(frozen=True, slots=True)
class FormPart:
    """One field of a form. `filename` None: a plain field, and no file."""

    name: str
    content: bytes
    filename: str | None
    content_type: str


def read_form(content_type: str, body: bytes) -> list[FormPart]:
    """The parts of a form, in their order. Raises InputError."""
    return [_part(head, content) for head, content in _split(_boundary(content_type), body)]


def _boundary(content_type: str) -> bytes:
    given = content_type.encode("latin-1", "replace") if len(content_type) <= MAX_PART_HEAD_BYTES else b""
    boundary = _parameters(given).get(b"boundary", b"")
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        raise _malformed("its content-type names no boundary of 1 to 70 characters")
    return boundary


def _split(boundary: bytes, body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The head and the content of each part. What comes before the first boundary and after the last is passed over."""
    first, between = b"--" + boundary, b"\r\n--" + boundary
    at = 0 if body.startswith(first) else body.find(between) + 2
    if at == 1:
        raise _malformed("its boundary is not in the body")
    at += len(first)
    for _ in range(MAX_PARTS + 1):
        if body.startswith(b"--", at):
            return
        begin = body.find(b"\r\n", at, at + _LONGEST_BOUNDARY) + 2
        if begin == 1 or body[at:begin].strip():
            raise _malformed("there is something after a boundary")
        end = body.find(between, begin - 2)
        if end < 0:
            raise _malformed("its last boundary is missing")
        head_end = body.find(b"\r\n\r\n", begin, min(end + 4, begin + MAX_PART_HEAD_BYTES))
        if head_end < 0:
            raise _malformed(f"the headers of a part do not end within {MAX_PART_HEAD_BYTES} bytes")
        yield body[begin:head_end], body[head_end + 4 : end]
        at = end + len(between)
    raise _malformed(f"it has more than {MAX_PARTS} parts", "send it in several requests")


def _part(head: bytes, content: bytes) -> FormPart:
    lines = head.split(b"\r\n")
    if len(lines) > MAX_PART_HEADERS:
        raise _malformed(f"a part has more than {MAX_PART_HEADERS} headers")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise _malformed("a header of a part has no colon")
        headers[name.strip().lower()] = value.strip()
    options = _parameters(headers.get(b"content-disposition", b""))
    if b"name" not in options:
        raise _malformed("a part names no field")
    name = options[b"name"]
    if len(name) > MAX_FIELD_NAME:
        raise _malformed(f"the name of a field is longer than {MAX_FIELD_NAME} bytes")
    return FormPart(text_of(name), content, _filename(options), text_of(headers.get(b"content-type", b"")))


def text_of(content: bytes) -> str:
    """The text of a field: of UTF-8, or else of Latin-1."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


_PARAMETER = re.compile(rb';[ \t]*([^\s=;]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*+)"|([^;]*+))', re.DOTALL)
_ESCAPED = re.compile(rb'\\(["\\])')


def _parameters(value: bytes) -> dict[bytes, bytes]:
    """The parameters of a Content-Type, or of a Content-Disposition (RFC 7578, 4.2). A backslash is one, but before a
    quote or a second one: browsers escape nothing."""
    found: dict[bytes, bytes] = {}
    for name, quoted, plain in _PARAMETER.findall(value):
        found.setdefault(name.lower(), _ESCAPED.sub(rb"\1", quoted) if quoted else plain.strip())
    return found


def _filename(options: Mapping[bytes, bytes]) -> str | None:
    """The name of a part's file: `filename*` (RFC 8187) says it in full, where `filename` may be an approximation."""
    charset, mark, encoded = options.get(b"filename*", b"").partition(b"'")
    if mark and charset.lower() in (b"utf-8", b"iso-8859-1"):
        return unquote(text_of(encoded.partition(b"'")[2]), charset.decode("ascii"))
    return text_of(options[b"filename"]) if b"filename" in options else None


def _malformed(why: str, hint: str | None = None) -> InputError:
    return InputError(f"the form cannot be read: {why}", field="body", hint=hint)
