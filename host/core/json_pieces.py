"""A long JSON text, read in pieces, so that whoever waits for it can be asked in between whether to go on.

The library's parser is fast and cannot be interrupted: some texts of 50 MB take it seconds, with the interpreter's lock
held. Here it gets a window at a time. What fits into one is read at once; of a longer list or object, as many entries
as fit; a longer string is read in parts that cut no escape. The values are the same.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]  # which typeshed does not list
from typing import Any, Final

WINDOW: Final = 64 * 1024
"""Characters: of what is slowest to read, some 20 ms."""
_WINDOWS: Final = (512, WINDOW)  # to cut one out takes longer than to read a short entry

_NUMBER = frozenset("-0123456789")
_NUMBER_REST = 2  # characters that a cut number may have after what is a number by itself: `1e+`
_BLANK = re.compile(r"[ \t\n\r]*+")
_NUMBER_TEXT = r"[ \t\n\r]*+(?:-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?+[0-9]++)?+|-?+Infinity|NaN)[ \t\n\r]*+"
_NUMBERS = re.compile(rf"([\[,])(?:{_NUMBER_TEXT},){{3,}}+")
_STRETCH = 1 << 20
_MOST_KEPT = 100  # entries, of what is not to be kept
_TRIES = 3  # commas from the end of a window: the last ones may be inside of an entry


def without_numbers(text: str, check: Callable[[], object]) -> str:
    """`text` with two numbers in place of three or more beside each other. It is JSON exactly if `text` is: two are as
    wrong as three where a list is not meant. Embeddings are read in a tenth of the time so. `check` is as in
    PieceReader."""
    if len(text) < _STRETCH:
        return text
    stretches, at = [], 0
    while at < len(text):
        check()
        end = text.find(",", at + _STRETCH) + 1 or len(text)  # so that no number is cut
        stretches.append(_NUMBERS.sub(r"\g<1>0,0,", text[at:end]))
        at = end
    return "".join(stretches)


class PieceReader:
    """Reads one text. `check` is called before every window and may raise whatever ends the reading. `scan` is the
    scanner of a JSONDecoder. `finish` is called with each value, or part of a string, that was read at once and the
    levels that it may still have; it returns the value to keep.

    Without `keep`, what is longer than a window comes out empty, but for the outermost list or object, which has the
    first entries of it that are shorter."""

    def __init__(
        self,
        text: str,
        *,
        check: Callable[[], object],
        scan: Callable[[str, int], tuple[Any, int]],
        finish: Callable[[Any, int], Any],
        depth: int,
        keep: bool = True,
    ) -> None:
        self._text = text
        self._check = check
        self._scan = scan
        self._finish = finish
        self._depth = depth
        self._keep = keep

    def read(self) -> Any:
        """The value. Raises JSONDecodeError, RecursionError for more than `depth` levels, ValueError for a number that
        is too long, and what `check` and `finish` raise."""
        value, end = self._value(self._blank(0), self._depth)
        end = self._blank(end)
        if end != len(self._text):
            raise JSONDecodeError("Extra data", self._text, end)
        return value

    def _blank(self, at: int) -> int:
        """The end of the white space at `at`."""
        found = _BLANK.match(self._text, at)
        return found.end() if found else at

    def _value(self, at: int, depth: int) -> tuple[Any, int]:
        """The value at `at` and where it ends. It may have `depth` more levels."""
        self._check()
        text = self._text
        for size in _WINDOWS:
            window = text[at : at + size]
            last = at + len(window) == len(text)
            try:
                value, end = self._scan(window, 0)
            except StopIteration as error:
                if last or window[0] not in '"[{':
                    raise JSONDecodeError("Expecting value", text, at + int(error.value)) from None
            except JSONDecodeError as error:
                if last:
                    raise JSONDecodeError(error.msg, text, at + error.pos) from None
            else:
                if last or window[0] not in _NUMBER or end < len(window) - _NUMBER_REST:
                    return self._finish(value, depth), at + end
        if window[0] == '"':
            return self._string(at + 1, keep=self._keep)
        if window[0] not in "[{":
            raise ValueError("a number that is longer than a window")
        if depth == 0:
            raise RecursionError
        return self._entries(at, depth - 1)

    def _entries(self, at: int, depth: int) -> tuple[Any, int]:
        """The list or object that begins at `at`, which is longer than a window."""
        named = self._text[at] == "{"
        closing = "}" if named else "]"
        room = sys.maxsize if self._keep else _MOST_KEPT if depth == self._depth - 1 else 0
        kept: Any = {} if named else []
        alone = 0  # up to here entries are read one by one: there was no comma that ends several
        at = self._blank(at + 1)
        if self._text[at : at + 1] == closing:
            return kept, at + 1
        while True:
            if at >= alone:
                at, alone = self._several(kept, room, at, depth)
            if named:
                name, at = self._name(at)
            value, at = self._value(at, depth)
            if named and len(kept) < room:
                kept[name] = value
            elif len(kept) < room:
                kept.append(value)
            at = self._blank(at)
            end = self._text[at : at + 1]
            if end == closing:
                return kept, at + 1
            if end != ",":
                raise JSONDecodeError("Expecting ',' delimiter", self._text, at)
            at = self._blank(at + 1)

    def _several(self, kept: Any, room: int, at: int, depth: int) -> tuple[int, int]:
        """Read as many entries as end in the window at `at`. Returns where the next begins, and up to where it is of no
        use to try again."""
        opening, closing = "{}" if isinstance(kept, dict) else "[]"
        while True:
            self._check()
            window = self._text[at : at + WINDOW]
            cut = len(window)
            for _ in range(_TRIES):
                cut = window.rfind(",", 0, cut)
                if cut <= 0:
                    break
                whole = f"{opening}{window[:cut]}{closing}"
                try:
                    value, size = self._scan(whole, 0)
                except (StopIteration, JSONDecodeError):
                    continue
                if size != len(whole):  # it ended in there
                    continue
                value = self._finish(value, depth + 1)
                if len(kept) + len(value) <= room:
                    kept.update(value) if opening == "{" else kept.extend(value)
                at = self._blank(at + cut + 1)
                break
            else:
                return at, at + len(window)
            if cut <= 0:
                return at, at + len(window)

    def _name(self, at: int) -> tuple[str, int]:
        """The name at `at`, and where its value begins."""
        if self._text[at : at + 1] != '"':
            raise JSONDecodeError("Expecting property name enclosed in double quotes", self._text, at)
        name, at = self._string(at + 1, keep=True)
        at = self._blank(at)
        if self._text[at : at + 1] != ":":
            raise JSONDecodeError("Expecting ':' delimiter", self._text, at)
        return name, self._blank(at + 1)

    def _string(self, at: int, *, keep: bool) -> tuple[str, int]:
        """The string whose first character is at `at`, and where it ends."""
        parts: list[str] = []
        size = _WINDOWS[0]
        while True:
            self._check()
            window = self._text[at : at + size]
            if not window:
                raise JSONDecodeError("Unterminated string starting at", self._text, at)
            cut = len(window) if at + len(window) == len(self._text) else _safe_end(window)
            try:
                part, end = scanstring(f'{window[:cut]}"', 0, True)
            except JSONDecodeError as error:
                raise JSONDecodeError(error.msg, self._text, at + error.pos) from None
            parts.append(self._finish(part, 0) if keep else "")
            if end <= cut:
                return "".join(parts), at + end
            at, size = at + cut, WINDOW


def _safe_end(window: str) -> int:
    """The end of the longest beginning of `window`, a part of a string, that cuts no escape and no pair of them."""
    end = len(window)
    paired = False
    while True:
        at = window.rfind("\\", max(0, end - 6), end)
        if at < 0:
            return end
        before = window[:at]
        if (at - len(before.rstrip("\\"))) % 2:  # itself escaped
            return end
        size = 6 if window[at + 1 : at + 2] == "u" else 2
        if at + size > end:
            end = at
        elif size == 6 and at + size == end and not paired and window[at + 2 : at + 4].lower() in _HIGH:
            end, paired = at, True
        else:
            return end


_HIGH: Final = frozenset({"d8", "d9", "da", "db"})
