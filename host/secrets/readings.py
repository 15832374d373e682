r"""A text in all the ways in which it can be read, so that what it says is found however it is written.

- *spelled out*: without NUL (ASCII in UTF-16 and UTF-32, of either end, becomes plain); in EBCDIC; and without escapes:
  `%XX`, `%uXXXX` (RFC 3986, section 2.1, and ECMAScript, annex B); `\uXXXX`, `\u{X}`, `\UXXXXXXXX`, `\xXX`, octal, and
  a backslash before a sign (RFC 8259, section 7, and the languages); `&#N;`, `&#xN;`, `&name;` (HTML, with zeros in
  front and without the semicolon); `=XX` and the soft line break of quoted-printable (RFC 2045, section 6.7). Escapes
  may stand within each other, and any number of backslashes counts as one;
- *recoded*: base64 of either alphabet (RFC 4648) at each alignment, with or without padding, wrapped at any column;
  base32 of either alphabet; hexadecimal bytes with any separators; decimal bytes, as in a list. What comes out is read
  again.

No secret has a part in this: which readings there are, and the time they take, depends on the text alone. Each is made
by a few calls that pass over the text once, most of them in C.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, unhexlify
from bisect import bisect_right
from functools import cache, cached_property
from itertools import accumulate, compress, starmap
from operator import methodcaller
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

_ROUNDS = 6  # of escapes within escapes of another kind
_DEPTH = 3  # of codings within codings, such as base64 of base64 of hex

_HEX = rb"[0-9A-Fa-f]"
_ESCAPE = re.compile(
    rb"""%%(?:25)*(?:u(%(hex)s{4})|(%(hex)s{2}))
    |\\++(?:u(?:([dD][89abAB]%(hex)s{2}\\++u[dD][c-fC-F]%(hex)s{2})|(%(hex)s{4})|\{(%(hex)s{1,8})\})
        |U(%(hex)s{8})|x(?:(%(hex)s{2})|\{(%(hex)s{1,8})\})|([0-7]{1,3})|([abfnrtv])|)
    |&(?:amp;)*(?:\#(?:[xX](?:0*+(%(hex)s{1,6})|0+)|0*+([0-9]{1,7})|0+);?|([A-Za-z]{2,31};|amp|lt|gt|quot))"""
    % {b"hex": _HEX},
    re.VERBOSE,
)
_PERCENT, _PAIR, _OCTAL, _CONTROL, _DECIMAL, _NAME = 2, 3, 9, 10, 12, 13
_BYTES = (_PERCENT, 7, _OCTAL)  # groups that give a byte; the others give a character
_CONTROLS = dict(zip(b"abfnrtv", b"\a\b\f\n\r\t\v", strict=True))
_QUOTED = re.compile(rb"=(?:([0-9A-Fa-f]{2})|[ \t]*\r?[\r\n])")

_WRAPPED = re.compile(rb"\\[rnt](?:%(hex)s{2}(?:\\[rnt])+){2}|\\[rn](?<==..)" % {b"hex": _HEX})  # in a string of JSON

_LINES = b"=\r\n"  # within a coded text that is wrapped
_DIGITS = b"0123456789"
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_IN_BASE64 = _LETTERS + _DIGITS + b"+/-_"
_IN_HEX = b"0123456789abcdefABCDEF"
_IN_NUMBERS = _IN_HEX + b"xXuU+:;,.-_\\%{}[]() \t\r\n"


def _only(kept: bytes) -> bytes:
    """What `bytes.translate` deletes so that only `kept` is left."""
    return bytes(sorted(set(range(256)) - set(kept)))


def members(kept: bytes) -> bytes:
    """The table for `bytes.translate` by which the bytes of `kept` become `x` and all others a space."""
    return bytes(120 if byte in set(kept) else 32 for byte in range(256))


def _ones(kept: bytes) -> bytes:
    """The table for `bytes.translate` by which the bytes of `kept` become ones and all others zeros."""
    return bytes(byte in set(kept) for byte in range(256))


_BASE64_RUN, _NUMBERS_RUN = members(_IN_BASE64 + _LINES), members(_IN_NUMBERS)
_TEXT = members(bytes(range(32, 127)) + b"\0\t\r")  # not LF, which stands between the parts
_WIDE_TEXT = members(bytes(range(32, 127)) + b"\0\t\r" + bytes(range(128, 256)))
_IN_ONE_LINE = methodcaller("replace", b"\n", b"\r")
_STANDARD = bytes.maketrans(b"-_", b"+/")
_NOT_BASE64, _NOT_HEX = _only(_IN_BASE64), _only(_IN_HEX)
_BASE64_DIGIT, _HEX_DIGIT = _ones(_IN_BASE64), _ones(_IN_HEX)
_NUMBER = re.compile(rb"[0-9]+")
_BASE32 = tuple(  # of each alphabet: the digits as `int` reads them, which they are, all else
    (table, _ones(alphabet), _only(alphabet))
    for table, alphabet in (
        (bytes.maketrans(_LETTERS + b"234567", b"0123456789abcdefghijklmnop" * 2 + b"qrstuv"), _LETTERS + b"234567"),
        (bytes(range(256)), _DIGITS + b"ABCDEFGHIJKLMNOPQRSTUVabcdefghijklmnopqrstuv"),
    )
)
_EBCDIC = bytes(range(256)).decode("cp037").encode("latin-1")


@cache
def runs(least: int) -> re.Pattern[bytes]:
    """Finds the runs of at least `least` bytes in what a table has marked (see `members`)."""
    return re.compile(b"x{%d,}" % least)


class Reading:
    """`text` is `within` read in another way. `recoded` says whether a coding was undone on the way to it."""

    text: bytes
    within: Reading | None = None
    recoded = False

    def of(self, text: bytes, within: Reading) -> Self:
        self.text, self.within, self.recoded = text, within, self.recoded or within.recoded
        return self

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Where `text[start:end]` stands in the text of `within`."""
        return start, end

    def in_original(self, start: int, end: int) -> tuple[int, int]:
        """Where `text[start:end]` stands in the text that all readings are of."""
        reading: Reading | None = self
        while reading is not None:
            start, end = reading.place(start, end)
            reading = reading.within
        return start, end


class _WithoutNul(Reading):
    @cached_property
    def _kept(self) -> list[int]:
        assert self.within is not None
        return [place for place, byte in enumerate(self.within.text) if byte]

    def place(self, start: int, end: int) -> tuple[int, int]:
        return self._kept[start], self._kept[end - 1] + 1


class _Unescaped(Reading):
    def __init__(self, text: bytes, within: Reading, pattern: re.Pattern[bytes]) -> None:
        self.of(text, within)
        self._pattern = pattern

    @cached_property
    def _escapes(self) -> tuple[list[int], list[tuple[int, int, int]]]:
        """Where each escape's character begins; with its end, and the begin and the end of the escape."""
        assert self.within is not None
        begins, places, shift = [0], [(0, 0, 0)], 0
        for match in self._pattern.finditer(self.within.text):
            start, end = match.span()
            begins.append(start - shift)
            shift += end - start - len(_character(match))
            places.append((end - shift, start, end))
        return begins, places

    def place(self, start: int, end: int) -> tuple[int, int]:
        begins, places = self._escapes
        behind, escape, escape_end = places[bisect_right(begins, start) - 1]
        first = escape if start < behind else escape_end + start - behind
        behind, _, escape_end = places[bisect_right(begins, end - 1) - 1]
        return first, escape_end + max(0, end - behind)


# Of what a coding makes of a text: the first bit of it, the bits of a digit, the runs in which the digits are, and the
# table by which a digit becomes a one (None: the digits are decimal numbers).
_Source = tuple[int, int, "Sequence[tuple[int, int]]", "bytes | None"]


class _Recoded(Reading):
    """What several codings make of a text: of the `parts`, the runs `spans` of all together that may be text."""

    def __init__(
        self,
        within: Reading,
        parts: list[bytes],
        sources: list[_Source],
        made: bytes,
        spans: list[tuple[int, int]],
    ) -> None:
        self.of(b"\n".join(map(made.__getitem__, starmap(slice, spans))), within)
        self.recoded = True
        self._made = (parts, sources, spans)
        self._digits: dict[int, list[int]] = {}  # where they are, by their table

    @cached_property
    def _pieces(self) -> tuple[list[int], list[tuple[int, _Source]]]:
        """Where each run begins in `text`; and the bit with which it begins, with its source."""
        parts, sources, spans = self._made
        begins = list(accumulate((len(part) + 1 for part in parts[:-1]), initial=0))
        numbers = [bisect_right(begins, start) - 1 for start, _ in spans]
        bits = [8 * (start - begins[number]) for (start, _), number in zip(spans, numbers, strict=True)]
        found = [(sources[number][0] + bit, sources[number]) for number, bit in zip(numbers, bits, strict=True)]
        return list(accumulate((end - start + 1 for start, end in spans[:-1]), initial=0)), found

    def place(self, start: int, end: int) -> tuple[int, int]:
        begins, pieces = self._pieces
        piece = bisect_right(begins, start) - 1
        first, (_, bits, spans, table) = pieces[piece]
        starts = self._starts(spans, table)
        at = starts[(first + 8 * (start - begins[piece])) // bits]
        last = starts[min((first + 8 * (end - begins[piece]) - 1) // bits, len(starts) - 1)]
        number = None if self.within is None or table else _NUMBER.match(self.within.text, last)
        return at, number.end() if number else last + 1

    def _starts(self, spans: Sequence[tuple[int, int]], table: bytes | None) -> list[int]:
        """Where the digits are in the text that was coded."""
        key = id(table)
        if (known := self._digits.get(key)) is None and self.within is not None:
            text = self.within.text
            if table is None:
                known = [match.start() for start, end in spans for match in _NUMBER.finditer(text, start, end)]
            else:
                text = text.replace(b"X", b"x").replace(b"0x", b"xx") if table is _HEX_DIGIT else text
                known = [
                    at for start, end in spans for at in compress(range(start, end), text[start:end].translate(table))
                ]
            self._digits[key] = known
        return known or [0]


def readings(text: bytes, least: int, *, quotes: bool, wide: bool) -> list[Reading]:
    """`text` itself and every other reading that may hold `least` bytes of something. With `quotes`, what is looked for
    may have quotation marks in it, and with `wide` other bytes than those of ASCII: most texts have no other escapes,
    and most codings that come to such bytes are none."""
    top = Reading()
    top.text = text
    found, fresh = list[Reading](), [top]
    for depth in range(_DEPTH + 1):
        coded = list[Reading]()
        for reading in fresh:
            text = reading.text
            if text.isascii() and not (b"%" in text or b"&" in text or b"\\" in text or b"=" in text or b"\0" in text):
                found.append(reading)
                coded.append(reading)
            else:
                coded += _spelled_out(reading, found, quotes=quotes)
        fresh = []
        for reading in coded if depth < _DEPTH else ():
            in_base64, in_numbers = reading.text.translate(_BASE64_RUN), reading.text.translate(_NUMBERS_RUN)
            if b"x" * (least * 4 // 3) in in_base64 or b"x" * (least * 2) in in_numbers:
                one = _recoded(reading, in_base64, in_numbers, least, wide=wide)
                if one is not None:
                    fresh.append(one)
        if not fresh:
            break
    return found


def _spelled_out(reading: Reading, found: list[Reading], *, quotes: bool, again: bool = True) -> list[Reading]:
    """Put `reading` spelled out among the `found`. Returns those that may hold something coded. What was
    quoted-printable is spelled out `again`, once: it may have escapes in it, or be so twice."""
    text = reading.text
    if b"\0" in text:
        text = text.translate(None, b"\0")
        reading = _WithoutNul().of(text, reading)
    found.append(reading)
    if not reading.recoded and not text.isascii():
        found.append(Reading().of(text.translate(_EBCDIC), reading))
    quoted = []
    escaped = reading
    if again and b"=" in text and _QUOTED.search(text):
        plain = _Unescaped(_QUOTED.sub(_character, text), reading, _QUOTED)
        quoted = _spelled_out(plain, found, quotes=quotes, again=False)
    if b"%" in text or b"&" in text or (b"\\" in text and not _of_lines(text, quotes=quotes)):
        for _ in range(_ROUNDS):
            after = _ESCAPE.sub(_character, text)
            if after == text:
                break
            text = after
            reading = _Unescaped(text, reading, _ESCAPE)
        if reading is not escaped:
            found.append(reading)
    if (not again or reading is not escaped) and b"=" in text and _QUOTED.search(text):
        quoted.append(plain := _Unescaped(_QUOTED.sub(_character, text), reading, _QUOTED))
        found.append(plain)
    return [reading, *quoted]


def unescaped(text: bytes) -> bytes:
    """`text` without escapes, as it is in its readings."""
    for _ in range(_ROUNDS):
        text = _ESCAPE.sub(_character, text)
    return text


def _of_lines(text: bytes, *, quotes: bool) -> bool:
    """Whether the backslashes of `text` are those of line breaks and quotation marks, and no coded text is wrapped."""
    simple = text.count(b"\\n") + text.count(b"\\r") + text.count(b"\\t") + (0 if quotes else text.count(b'\\"'))
    if simple != text.count(b"\\") or b"x" * 32 in text.translate(_BASE64_RUN):
        return False
    return not _WRAPPED.search(text)


_known: dict[bytes, bytes] = {}  # characters by their escapes
_MOST_KNOWN = 4_096


def _character(match: re.Match[bytes]) -> bytes:
    """The bytes of the character that an escape stands for."""
    if (found := _known.get(match[0])) is None:
        found = _read_escape(match)
        if len(_known) < _MOST_KNOWN:
            _known[match[0]] = found
    return found


def _read_escape(match: re.Match[bytes]) -> bytes:
    group, escape = match.lastindex, match[0]
    if escape.startswith(b"="):
        return bytes((int(match[1], 16),)) if group and match[1] != b"00" else b""
    if group is None:
        return b""  # a backslash before a sign, or of itself: in front of what is looked for, too
    digits = match[group]
    if group not in (_NAME, _CONTROL) and not digits.strip(b"0"):
        return b""  # NUL: of a text in UTF-16 or UTF-32, which is read without
    if group == _NAME:
        name = digits.decode()
        from html.entities import html5  # noqa: PLC0415 - a large table, for names alone

        return html5.get(name, escape.decode()).encode()
    if group == _CONTROL:
        return bytes((_CONTROLS[digits[0]],))
    if group == _PAIR:
        return bytes.fromhex(digits[:4].decode() + digits[-4:].decode()).decode("utf-16-be").encode()
    code = int(digits, 10 if group == _DECIMAL else 8 if group == _OCTAL else 16)
    if group in _BYTES:
        return bytes((code & 0xFF,))
    return chr(code).encode("utf-8", "surrogatepass") if code <= 0x10FFFF else escape


def _recoded(reading: Reading, in_base64: bytes, in_numbers: bytes, least: int, *, wide: bool) -> Reading | None:
    """All codings undone wherever there may be `least` bytes of one, which `in_base64` and `in_numbers` mark; None
    where nothing comes out that may be text."""
    text = reading.text
    parts: list[bytes] = []
    sources: list[_Source] = []
    if spans := list(map(re.Match.span, runs(least * 4 // 3).finditer(in_base64))):
        chosen = b"\n".join(map(text.__getitem__, starmap(slice, spans)))
        digits = chosen.translate(_STANDARD, _NOT_BASE64)
        for first in range(4 if len(digits) > 3 else 0):
            parts.append(a2b_base64(digits[first:] + b"A" * (-(len(digits) - first) % 4)))
            sources.append((6 * first, 6, spans, _BASE64_DIGIT))
        if not reading.recoded:
            for table, digit, other in _BASE32:  # by arithmetic: the digits are a number, an alignment is a shift of it
                digits = chosen.translate(table, other)
                number, size = int(digits or b"0", 32), 5 * len(digits)
                for shift in range(8 if len(digits) >= least * 8 // 5 else 0):
                    length = -(-(size - shift) // 8)
                    parts.append((number >> shift).to_bytes(length, "big"))
                    sources.append((size - shift - 8 * length, 5, spans, digit))
    if spans := list(map(re.Match.span, runs(least * 2).finditer(in_numbers))):
        chosen = b"\n".join(map(text.__getitem__, starmap(slice, spans)))
        digits = chosen.replace(b"X", b"x").replace(b"0x", b"").translate(None, _NOT_HEX)
        for first in range(2):
            parts.append(unhexlify(digits[first : len(digits) - (len(digits) - first) % 2]))
            sources.append((4 * first, 4, spans, _HEX_DIGIT))
        if chosen.count(b",") >= least - 1 or chosen.count(b" ") >= least - 1:
            numbers = [int(number) if len(number) <= 3 else 256 for number in _NUMBER.findall(chosen)]
            parts.append(bytes([number if number < 256 else 0xFF for number in numbers]))
            sources.append((0, 8, spans, None))
    if not parts:
        return None
    made = b"\n".join(map(_IN_ONE_LINE, parts))
    marked = made.translate(_WIDE_TEXT if wide else _TEXT)  # a coding that is none makes bytes of all kinds
    if b"x" * least not in marked:
        return None
    return _Recoded(reading, parts, sources, made, list(map(re.Match.span, runs(least).finditer(marked))))
