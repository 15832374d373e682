"""Content codings, decoded in pieces of a bounded size: eleven kilobytes never become a hundred megabytes on their way
to a limit.

What is read is what browsers, curl and the usual HTTP libraries read, since servers are tried with those: several
codings, gzip with padding behind it, deflate with and without its header, and the plain body of a server that names as
its coding what is none, such as `utf-8`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Final

from host.egress import failures
from host.egress.failures import EgressError

MOST_CODINGS: Final = 5  # of one body; undici reads as many
_PIECE_BYTES: Final = 64 * 1024
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_GZIP_MAGIC: Final = b"\x1f\x8b"  # RFC 1952, 2.3.1
_DEFLATE_METHOD: Final = 8  # the low half of a zlib stream's first byte (RFC 1950, 2.2)
_UNREAD: Final = frozenset(  # what was not asked for, and cannot be read here: of RFC 9110, 8.4.1, and IANA's list
    {"aes128gcm", "br", "bz2", "bzip2", "compress", "dcb", "dcz", "exi", "lz4", "lzma", "pack200-gzip", "snappy"}
    | {"x-compress", "xz", "zstd"}
)


def decoder(codings: Iterable[str], max_bytes: int) -> Decoder | None:
    """The decoder for `codings`, the values of a response's Content-Encoding; None if there is nothing to decode. A
    name that is no coding says nothing about the body. Raises EgressError (http_error) for a coding that cannot be
    read, and for too many."""
    named = [coding.strip().lower() for value in codings for coding in value.split(",")]
    if unread := [coding for coding in named if coding in _UNREAD]:
        raise EgressError("http_error", f"the response is in the content coding {unread[0]}, and was asked for in gzip")
    layers = [coding for coding in named if coding in ("gzip", "x-gzip", "deflate")]
    if len(layers) > MOST_CODINGS:
        raise EgressError("http_error", f"the response is in more than {MOST_CODINGS} content codings")
    return Decoder([Inflated(gzip=coding != "deflate") for coding in reversed(layers)], max_bytes) if layers else None


class Decoder:
    """Decodes a body in one or several codings. What is between two of them counts towards `max_bytes` too: it may be
    large and come to nothing."""

    def __init__(self, layers: Sequence[Inflated], max_bytes: int) -> None:
        """`layers`: the one that was put on last comes first."""
        self._layers = layers
        self._max_bytes = max_bytes
        self._between = 0

    def feed(self, data: bytes) -> None:
        """More bytes as they came."""
        self._layers[0].feed(data)

    def take(self, size: int) -> bytes:
        """At most `size` (at least 1) decoded bytes; empty when more has to be fed first. Raises EgressError."""
        return self._take(len(self._layers) - 1, size)

    def finish(self) -> None:
        """The body has ended and all was taken. Raises EgressError if a coding has not ended."""
        for layer in self._layers:
            layer.finish()

    def _take(self, at: int, size: int) -> bytes:
        while True:
            if (taken := self._layers[at].take(size)) or at == 0:
                return taken
            if not (more := self._take(at - 1, _PIECE_BYTES)):
                return b""
            self._between += len(more)
            if self._between > self._max_bytes:
                raise failures.too_large(self._max_bytes)
            self._layers[at].feed(more)


class Inflated:
    """Decodes gzip (RFC 1952, with any number of members) or deflate: a zlib stream (RFC 1950), or the bare stream (RFC
    1951) that some servers send under that name. What stands behind its end is passed over: padding, in most cases."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._input = b""
        self._stream: zlib._Decompress | None = None  # from its first two bytes on
        self._over = False  # what comes now is padding

    def feed(self, data: bytes) -> None:
        """More bytes as they came."""
        if self._over:
            return
        self._input += data
        if self._stream is None and len(self._input) > 1:
            self._stream = zlib.decompressobj(self._window(self._input[0], self._input[1]))

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
        if self._input if self._stream is None else not self._stream.eof:
            raise EgressError("http_error", "the response's compressed body ends too early")

    def _next_member(self) -> bool:
        """Go on behind the end: where another gzip member begins."""
        if self._gzip and self._input.startswith(_GZIP_MAGIC):
            self._stream = zlib.decompressobj(_GZIP_WINDOW)
            return True
        self._over = self._over or not self._gzip or not _GZIP_MAGIC.startswith(self._input)
        if self._over:
            self._input = b""
        return False

    def _window(self, first: int, second: int) -> int:
        if self._gzip:
            return _GZIP_WINDOW
        is_zlib = first & 0x0F == _DEFLATE_METHOD and (first << 8 | second) % 31 == 0  # RFC 1950, 2.2
        return zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS
