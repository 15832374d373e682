"""Answers in a charset other than UTF-8: read in their own charset, searched, and written in it again.

The charset is the one that the Content-Type declares (RFC 9110, section 8.3.2), or that of a byte order mark (Unicode,
section 23.8). Charsets in which ASCII is ASCII need nothing: their bytes are searched as they are. UTF-7, in which any
text can be written as base64, is refused.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from host.errors import InputError
from host.secrets.value import Unspoken

if TYPE_CHECKING:
    from collections.abc import Callable

    from host.secrets.redaction import Redactor

_DECLARED = re.compile(r";\s*charset\s*=\s*[\"']?([\w.:+-]{1,40})", re.IGNORECASE | re.ASCII)
_MARKS = (  # the longer first: that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
MARKED = bytes({mark[0] for mark, _ in _MARKS})  # what a text with a mark begins with
_OTHER = frozenset(  # in which ASCII is not ASCII, by the names of Python's codecs
    ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
    + [f"cp{page:03}" for page in (37, 273, 424, 500, 875, 1026, 1140)]
)
_REFUSED = frozenset(["utf-7", "utf7", "unicode-1-1-utf-7", "csutf7", "x-utf-7", "utf-7-imap", "x-imap4-modified-utf7"])
_ENDLESS = {"utf-16": "utf-16-be", "utf-32": "utf-32-be"}  # without a mark (RFC 2781, section 4.3)


def charset_of(content_type: str) -> str | None:
    """The codec of the charset that `content_type` declares, if its bytes must be decoded to be searched. Raises
    InputError for UTF-7."""
    declared = _DECLARED.search(content_type)
    if declared is None:
        return None
    name = declared[1].lower()
    if name.replace("_", "-") in _REFUSED:
        raise InputError("an answer in the charset UTF-7 cannot be searched for secrets")
    try:
        found = codecs.lookup(name.removeprefix("x-")).name
    except (LookupError, ValueError):
        return None
    return found if found in _OTHER else None


class CharsetRedactor(Unspoken):
    """Redacts piece by piece like a StreamRedactor, in the charset of the answer. An answer in which nothing is found
    is what it was, byte by byte. Bytes that are none of the charset end it: what follows is searched as it is."""

    __slots__ = ("_charset", "_decoder", "_head", "_inner")

    def __init__(self, redactor: Redactor, charset: str | None) -> None:
        self._inner = redactor.stream()
        self._charset = charset
        self._decoder: codecs.IncrementalDecoder | None = None
        self._head: bytes | None = b""  # until there is enough of it to see a mark

    def feed(self, chunk: bytes, check: Callable[[], object] = int) -> bytes:
        """The next bytes that are settled. `check` as in `Redactor.data`."""
        if self._head is not None:
            self._head += chunk
            if any(mark.startswith(self._head) and mark != self._head for mark, _ in _MARKS):
                return b""
            chunk, self._head = self._begun(self._head), None
        return self._feed(chunk, check, final=False)

    def flush(self) -> bytes:
        """The bytes held back, at the end of the data."""
        head = b"" if self._head is None else self._begun(self._head)
        self._head = None
        rest = self._feed(head, int, final=True)
        return rest + self._encoded(self._inner.flush())

    def _begun(self, head: bytes) -> bytes:
        marked = next((charset for mark, charset in _MARKS if head.startswith(mark)), None)
        self._charset = marked or _ENDLESS.get(self._charset or "", self._charset)
        if self._charset is not None:
            self._decoder = codecs.getincrementaldecoder(self._charset)("strict")
        return head

    def _feed(self, chunk: bytes, check: Callable[[], object], *, final: bool) -> bytes:
        if self._decoder is None:
            return self._inner.feed(chunk, check)
        under_way = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(chunk, final)
        except UnicodeDecodeError:
            settled = self._encoded(self._inner.flush())
            self._decoder = None
            return settled + self._inner.feed(under_way + chunk, check)
        return self._encoded(self._inner.feed(text.encode(), check))

    def _encoded(self, settled: bytes) -> bytes:
        if self._decoder is None or self._charset is None:
            return settled
        return settled.decode("utf-8", "replace").encode(self._charset, "replace")
