"""Content codings, decoded in pieces of a bounded size: eleven kilobytes never become a hundred megabytes on their way
to a limit."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

from host.egress.failures import EgressError

_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_DEFLATE_METHOD: Final = 8  # the low half of a zlib stream's first byte (RFC 1950, 2.2)


def decoder(codings: Iterable[str]) -> Inflated | None:
    """The decoder for `codings`, the values of a response's Content-Encoding; None if there is nothing to decode.

    Raises EgressError (http_error) for anything but one gzip or deflate: the request accepts nothing else.
    """
    named = [coding.strip().lower() for value in codings for coding in value.split(",") if coding.strip()]
    match [coding for coding in named if coding != "identity"]:
        case []:
            return None
        case ["gzip" | "x-gzip"]:
            return Inflated(gzip=True)
        case ["deflate"]:
            return Inflated(gzip=False)
        case _:
            raise EgressError("http_error", "the response is in a content coding other than gzip or deflate")


class Inflated:
    """Decodes gzip (RFC 1952, with any number of members) or deflate: a zlib stream (RFC 1950), or the bare stream (RFC
    1951) that some servers send under that name."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._input = b""
        self._stream: zlib._Decompress | None = None  # from the first byte on

    def feed(self, data: bytes) -> None:
        """More bytes as they came."""
        self._input += data
        if self._stream is None and self._input:
            self._stream = zlib.decompressobj(self._window(self._input[0]))

    def take(self, size: int) -> bytes:
        """At most `size` (at least 1) decoded bytes; empty when more has to be fed first. Raises EgressError."""
        while self._stream is not None:
            if self._stream.eof and not self._next_member():
                return b""
            try:
                taken = self._stream.decompress(self._input, size)
            except zlib.error:
                raise EgressError("http_error", "the response's compressed body is damaged") from None
            self._input = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            if taken or not self._stream.eof:
                return taken
        return b""

    def finish(self) -> None:
        """The body has ended and all was taken. Raises EgressError if the coding has not ended."""
        if self._stream is not None and not self._stream.eof:
            raise EgressError("http_error", "the response's compressed body ends too early")

    def _next_member(self) -> bool:
        """Go on behind the end of a gzip member. Nothing may follow a deflate stream."""
        if not self._input:
            return False
        if not self._gzip:
            raise EgressError("http_error", "the response goes on behind its compressed body")
        self._stream = zlib.decompressobj(_GZIP_WINDOW)
        return True

    def _window(self, first: int) -> int:
        if self._gzip:
            return _GZIP_WINDOW
        return zlib.MAX_WBITS if first & 0x0F == _DEFLATE_METHOD else -zlib.MAX_WBITS
