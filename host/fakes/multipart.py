"""`multipart/form-data` as RFC 7578 and RFC 2046 (section 5.1) write it, read strictly and byte for byte."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BOUNDARY = re.compile(r";\s*boundary=(?:\"([^\"]{1,70})\"|([^\s;\"]{1,70}))", re.IGNORECASE)
_PARAMETER = re.compile(r";[ \t]*(name|filename)=\"((?:[^\"\\]|\\.)*)\"", re.IGNORECASE)
# What browsers and HTTP clients write for what would end the quoted string (HTML, multipart/form-data encoding).
_ESCAPE = re.compile(r"\\([\"\\])|%(22|0A|0D|0a|0d)")


class MultipartError(ValueError):  # its message says what is malformed
    """The body is not what its content type says."""


@dataclass(frozen=True, slots=True)
class Part:
    """`filename` is None for a plain field; `content_type` is "" where the part names none."""

    name: str
    filename: str | None
    content_type: str
    content: bytes


def parse(body: bytes, content_type: str) -> list[Part]:
    """The parts of `body`, in order; `content_type` is the request's whole header. Raises MultipartError."""
    media_type, semicolon, parameters = content_type.partition(";")
    found = _BOUNDARY.search(semicolon + parameters)
    if media_type.strip().lower() != "multipart/form-data" or not found:
        raise MultipartError("the content type is not multipart/form-data with a boundary")
    delimiter = b"\r\n--" + (found[1] or found[2]).encode("latin-1")
    # The first delimiter may open the body: the line break before it belongs to it. What stands before is a preamble.
    _, *sections = (b"\r\n" + body).split(delimiter)
    parts: list[Part] = []
    for section in sections:
        if section.startswith(b"--"):
            return parts
        padding, line_break, rest = section.partition(b"\r\n")
        if padding.strip(b" \t") or not line_break:
            raise MultipartError("a boundary is not followed by a line break")
        parts.append(_part(rest))
    raise MultipartError("the closing boundary is missing")


def _part(section: bytes) -> Part:
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
    named = {key.lower(): _ESCAPE.sub(_unescaped, value) for key, value in _PARAMETER.findall(disposition)}
    if not disposition.lower().startswith("form-data") or "name" not in named:
        raise MultipartError("a part's content-disposition is not form-data with a name")
    return Part(named["name"], named.get("filename"), headers.get("content-type", ""), content)


def _unescaped(escape: re.Match[str]) -> str:
    return escape[1] or chr(int(escape[2], 16))
