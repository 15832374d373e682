"""Redaction: a replacement in place of each secret value, in whatever encoding the value comes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from host.secrets.scanner import Scanner
from host.secrets.value import SecretValue, Unspoken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PIECE = 64 * 1024  # bytes: `check` is called between two pieces
_SLICE = 8192  # bytes: only the slices that may hold something are looked at byte by byte


class Redactor(Unspoken):
    """Replaces secret values: `secrets` has replacement -> value.

    Matches that overlap count as one, shown as the leftmost of them, and of those the longest; backslashes in front of
    a match go with it. A replacement is not searched again. JSON stays JSON if values lie within its strings; for a
    value that could be more (a number, or with quotes in it), only `json` makes sure.

    Raises ValueError for a replacement that JSON would have to escape. Thread-safe.
    """

    __slots__ = ("_replacements", "_scanner")

    def __init__(self, secrets: Mapping[str, SecretValue]) -> None:
        self._replacements = tuple(secrets)
        if any(json.dumps(replacement) != f'"{replacement}"' for replacement in self._replacements):
            raise ValueError("JSON would have to escape a replacement")
        self._scanner = Scanner([value.reveal() for value in secrets.values()])

    def renamed(self, replacements: Mapping[str, str]) -> Redactor:
        """The same values under other replacements (old -> new; raises KeyError if one is missing). They share the
        compiled scanner: a catalyst has one redactor, and each run one made from it, with the run's placeholders."""
        redactor = object.__new__(Redactor)
        redactor._replacements = tuple(replacements[old] for old in self._replacements)
        redactor._scanner = self._scanner
        return redactor

    def data(self, data: bytes, check: Callable[[], object] = int) -> bytes:
        """`data` with replacements. `check` is called now and then, and may raise: a megabyte of escapes takes a tenth
        of a second and more."""
        if self._scanner.absent(data):
            return data
        stream = self.stream()
        redacted = []
        for start in range(0, len(data), _PIECE):
            check()
            redacted.append(stream.feed(data[start : start + _PIECE]))
        return b"".join((*redacted, stream.flush()))

    def text(self, text: str, check: Callable[[], object] = int) -> str:
        """`text` with replacements; `check` as in `data`."""
        data = text.encode("utf-8", "surrogatepass")
        redacted = self.data(data, check)
        return text if redacted == data else redacted.decode("utf-8", "surrogatepass")

    def json(self, value: Any) -> Any:
        """A copy of the JSON value `value` with replacements in all strings, keys and numbers, at any depth."""
        clean = self._absent_in(value)
        top = [value]
        places: list[tuple[Any, Any]] = [(top, 0)]
        while places:
            container, place = places.pop()
            part = container[place]
            if isinstance(part, dict):
                container[place] = copy = (
                    dict(part) if clean else {self.json(key): below for key, below in part.items()}
                )
                places += [(copy, key) for key in copy]
            elif isinstance(part, list | tuple):
                container[place] = items = list(part)
                places += [(items, index) for index in range(len(items))]
            elif clean:
                continue
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


class StreamRedactor(Unspoken):
    """Redacts chunk by chunk: `feed` and a last `flush` together return what `Redactor.data` returns for the whole. It
    holds back only the possible beginning of a match: nothing of an event that ends in a line break."""

    __slots__ = ("_cursor", "_found", "_held", "_read", "_replacements", "_scanner", "_starts", "_state")

    def __init__(self, scanner: Scanner, replacements: Sequence[bytes]) -> None:
        self._scanner = scanner
        self._replacements = replacements
        self._state = scanner.root
        self._starts: list[int] = []  # of the matches under way, one for each group of the state
        self._found: list[tuple[int, int, int]] = []  # start, end, number of the secret
        self._held = bytearray()
        self._cursor = 0  # where `_held` begins; like all places, counted from the beginning of the stream
        self._read = 0

    def feed(self, chunk: bytes) -> bytes:
        return b"".join(self._feed(chunk[start : start + _SLICE]) for start in range(0, len(chunk), _SLICE))

    def _feed(self, chunk: bytes) -> bytes:
        clear = 0 if self._starts else self._scanner.clear(chunk)
        if clear == len(chunk):
            self._read = self._cursor = self._read + clear
            return chunk
        self._read += clear
        self._cursor += clear
        self._scan(chunk[clear:])
        return chunk[:clear] + self._settle(self._starts[0] if self._starts else self._read)

    def flush(self) -> bytes:
        """The bytes held back, at the end of the data. The redactor is as new then."""
        self._state = self._scanner.root
        self._starts.clear()
        return self._settle(self._read)

    def _scan(self, chunk: bytes) -> None:
        state, starts = self._state, self._starts
        for position, byte in enumerate(chunk, self._read):
            move = state[byte]
            if move is None:
                continue
            state, ended, dropped = move
            starts.append(position)
            for group, secret in ended:
                self._found.append((starts[group], position + 1, secret))
            for group in dropped:
                del starts[group]
        self._state = state
        self._held += chunk
        self._read += len(chunk)

    def _settle(self, limit: int) -> bytes:
        """The decided bytes: all before `limit`, where the first match under way begins."""
        found = sorted(self._found, key=lambda match: (match[0], -match[1]))
        shown = []
        for start, end, secret in found:
            if start >= limit:
                break
            if start >= self._cursor:
                shown += [self._take(start), self._replacements[secret]]
            self._take(end)
        self._found = [match for match in found if match[0] >= limit]
        return b"".join((*shown, self._take(limit)))

    def _take(self, end: int) -> bytes:
        length = max(0, end - self._cursor)
        taken = bytes(self._held[:length])
        del self._held[:length]
        self._cursor += length
        return taken
