"""Redaction: a replacement in place of each secret value, in whatever encoding the value comes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from host.secrets.scanner import Scanner
from host.secrets.value import SecretValue, Unspoken

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

_PIECE = 16 * 1024  # bytes: `check` is called between two pieces


class Redactor(Unspoken):
    """Replaces secret values: `secrets` has replacement -> value.

    Matches that overlap count as one, shown as the leftmost of them, and of those the longest; backslashes in front of
    a match go with it. A replacement is not searched again. JSON stays JSON if values lie within its strings; for a
    value that could be more (a number, or with quotes in it), only `json` makes sure.

    Raises ValueError for a replacement that JSON would have to escape. Thread-safe.
    """

    __slots__ = ("_numbers", "_replacements", "_scanner", "_scanners")

    def __init__(self, secrets: Mapping[str, SecretValue]) -> None:
        self._replacements = tuple(secrets)
        if any(json.dumps(replacement) != f'"{replacement}"' for replacement in self._replacements):
            raise ValueError("JSON would have to escape a replacement")
        self._scanners = _Scanners([value.reveal() for value in secrets.values()])
        self._numbers = tuple(range(len(secrets)))
        self._scanner = self._scanners.of(self._numbers)

    def renamed(self, replacements: Mapping[str, str]) -> Redactor:
        """The same values under other replacements (old -> new; raises KeyError if one is missing). They share the
        compiled scanners: a catalyst has one redactor, and each run one made from it, with the run's placeholders."""
        return self._variant(self._numbers, tuple(replacements[old] for old in self._replacements))

    def limited(self, replacements: Collection[str]) -> Redactor:
        """A redactor for the values of these replacements only: for an answer, those of the secrets that may have been
        sent to its origin. It is the redactor itself where these are all. They share the compiled scanners."""
        places = [place for place, replacement in enumerate(self._replacements) if replacement in replacements]
        if len(places) == len(self._replacements):
            return self
        return self._variant(
            tuple([self._numbers[place] for place in places]), tuple([self._replacements[place] for place in places])
        )

    def _variant(self, numbers: tuple[int, ...], replacements: tuple[str, ...]) -> Redactor:
        redactor = object.__new__(Redactor)
        redactor._scanners, redactor._numbers, redactor._replacements = self._scanners, numbers, replacements
        redactor._scanner = self._scanner if numbers == self._numbers else self._scanners.of(numbers)
        return redactor

    def data(self, data: bytes, check: Callable[[], object] = int) -> bytes:
        """`data` with replacements. `check` is called now and then, and may raise: a megabyte of escapes takes a tenth
        of a second and more."""
        if self._scanner.absent(data):
            return data
        stream = self.stream()
        return stream.feed(data, check) + stream.flush()

    def text(self, text: str, check: Callable[[], object] = int) -> str:
        """`text` with replacements; `check` as in `data`."""
        data = text.encode("utf-8", "surrogatepass")
        redacted = self.data(data, check)
        return text if redacted == data else redacted.decode("utf-8", "surrogatepass")

    def json(self, value: Any) -> Any:
        """A copy of the JSON value `value` with replacements in all strings, keys and numbers, at any depth; `value`
        itself where there is nothing to replace."""
        if self._absent_in(value):
            return value
        top = [value]
        places: list[tuple[Any, Any]] = [(top, 0)]
        while places:
            container, place = places.pop()
            part = container[place]
            if isinstance(part, dict):
                container[place] = copy = {self.json(key): below for key, below in part.items()}
                places += [(copy, key) for key in copy]
            elif isinstance(part, list | tuple):
                container[place] = items = list(part)
                places += [(items, index) for index in range(len(items))]
            elif isinstance(part, str):
                container[place] = self.text(part)
            elif self._scanner.numeric and isinstance(part, int | float) and not isinstance(part, bool):
                shown = json.dumps(part)
                container[place] = part if (redacted := self.text(shown)) == shown else redacted
        return top[0]

    def _absent_in(self, value: Any) -> bool:
        """True only if there is nothing to redact in `value`. One scan settles it for most values."""
        texts, parts = [], [value]
        while parts:
            part = parts.pop()
            if isinstance(part, str):
                texts.append(part)
            elif isinstance(part, dict):
                parts += part
                parts += part.values()
            elif isinstance(part, list | tuple):
                parts += part
            elif self._scanner.numeric and isinstance(part, int | float):
                texts.append(json.dumps(part))
        return self._scanner.absent("\n".join(texts).encode("utf-8", "surrogatepass"))

    def stream(self) -> StreamRedactor:
        return StreamRedactor(self._scanner, [replacement.encode() for replacement in self._replacements])


class _Scanners(Unspoken):
    """The compiled scanners of a catalyst: one for each set of its secrets that some origin may have."""

    __slots__ = ("_made", "_values")

    def __init__(self, values: Sequence[str]) -> None:
        self._values = values
        self._made: dict[tuple[int, ...], Scanner] = {}

    def of(self, numbers: tuple[int, ...]) -> Scanner:
        """For the values with these numbers. Two threads may make the same; one is kept."""
        if (made := self._made.get(numbers)) is None:
            made = self._made.setdefault(numbers, Scanner([self._values[number] for number in numbers]))
        return made


class StreamRedactor(Unspoken):
    """Redacts piece by piece: `feed` and a last `flush` together return what `Redactor.data` returns for the whole.

    What is held back is the open end of what was fed: the bytes in which a form of any secret could still be under way,
    whatever the secrets are. It is the same with a text that begins like a secret as with one that does not, so that
    nobody learns from the pieces, or from the time of them, how a secret goes on. The open end is the last run of bytes
    without white space, quotes and angle brackets (but those that a secret of the set has), so a text is late by one
    word. It goes on before

    - a line break behind 32 characters of base64, as in a body that is wrapped (RFC 2045, 6.8), or behind `=`, the soft
      line break of quoted-printable. Behind anything else a line break ends it, and so does an empty line: an event
      of a stream is never late;
    - a space between numbers, as in a dump of bytes.

    A longer run than `Scanner.longest` is let out but for an end of that length. With no secrets nothing is held back.
    """

    __slots__ = ("_held", "_replacements", "_scanner")

    def __init__(self, scanner: Scanner, replacements: Sequence[bytes]) -> None:
        self._scanner = scanner
        self._replacements = replacements
        self._held = b""

    def feed(self, chunk: bytes, check: Callable[[], object] = int) -> bytes:
        """The next bytes that are settled. `check` as in `Redactor.data`."""
        if not self._replacements:
            return chunk
        shown = []
        for start in range(0, len(chunk), _PIECE):
            check()
            shown.append(self._feed(chunk[start : start + _PIECE]))
        return b"".join(shown)

    def flush(self) -> bytes:
        """The bytes held back, at the end of the data. The redactor is as new then."""
        data, self._held = self._held, b""
        return self._settle(data, len(data))[0] if data else b""

    def _feed(self, piece: bytes) -> bytes:
        data, most = self._held + piece, self._scanner.longest
        open_end = self._scanner.open_end(data[-2 * most :])
        if open_end < 2 * most:
            cut = len(data) - open_end
            self._held = data[cut:]
            return self._settle(data[:cut], cut)[0]
        settled, cut = self._settle(data, len(data) - most)
        self._held = data[cut:]
        return settled

    def _settle(self, data: bytes, cut: int) -> tuple[bytes, int]:
        """The bytes of `data` before `cut`, redacted, and where they end: behind a match that `cut` would divide."""
        shown, cursor = [], 0
        for start, end, number in self._scanner.matches(data):
            if start >= cut:
                break
            shown += [data[cursor:start], self._replacements[number]]
            cursor = end
        cut = max(cut, cursor)
        return b"".join((*shown, data[cursor:cut])), cut
