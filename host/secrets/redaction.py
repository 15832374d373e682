"""Redaction: a replacement in place of each secret value, in whatever encoding the value comes."""

from __future__ import annotations

import json
import re
import sys
from bisect import bisect_right
from itertools import accumulate, compress, starmap
from typing import TYPE_CHECKING, Any, NamedTuple

from host.secrets.readings import Reading, readings
from host.secrets.value import SecretValue, Unspoken
from host.secrets.windows import WINDOWS_AT_ONCE, Sought, Windows, shortest_coded, windows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

_PIECE = 16 * 1024  # bytes: `check` is called between two pieces
_SHORT = 512  # characters of texts that are remembered
_MOST_CLEAN = 512  # of such texts
_LONGEST_ESCAPE = 16  # bytes of a character, in escapes within escapes
_WORD = re.compile(rb"[A-Za-z0-9_.~+/%-]*+=*+")
_WORD_BEFORE = re.compile(rb"[A-Za-z0-9_.~+/%-]*+\\*+")  # of a reversed text
_LONGEST_BEFORE = 512  # bytes of a word
_BETWEEN = ' "<>'  # ends a run, unless a secret has it
_BREAK = rb"(?==|[A-Za-z0-9+/_-]{32})"  # behind a line break, seen from its end: a line that is wrapped


class Redactor(Unspoken):
    """Replaces secret values: `secrets` has replacement -> value.

    Matches that overlap count as one, shown as the leftmost of them, and of those the longest; backslashes in front of
    a match go with it. A replacement is not searched again. JSON stays JSON if values lie within its strings; for a
    value that could be more (a number, or with quotes in it), only `json` makes sure.

    `searches` says whether there is anything to look for. Raises ValueError for a replacement that JSON would have to
    escape. Thread-safe.
    """

    __slots__ = ("_numbers", "_replacements", "_scanner", "_scanners", "searches")

    def __init__(self, secrets: Mapping[str, SecretValue]) -> None:
        self._replacements = tuple(secrets)
        if any(json.dumps(replacement) != f'"{replacement}"' for replacement in self._replacements):
            raise ValueError("JSON would have to escape a replacement")
        self._scanners = _Scanners([value.reveal() for value in secrets.values()])
        self._numbers = tuple(range(len(secrets)))
        self._scanner = self._scanners.of(self._numbers)
        self.searches = bool(secrets)

    def renamed(self, replacements: Mapping[str, str]) -> Redactor:
        """The same values under other replacements (old -> new; raises KeyError if one is missing). They share the
        compiled scanners: a catalyst has one redactor, and each run one made from it, with the run's placeholders."""
        return self._variant(self._numbers, tuple(map(replacements.__getitem__, self._replacements)))

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
        redactor.searches = bool(numbers)
        redactor._scanner = self._scanner if numbers == self._numbers else self._scanners.of(numbers)
        return redactor

    def data(self, data: bytes, check: Callable[[], object] = int) -> bytes:
        """`data` with replacements. `check` is called now and then, and may raise: a megabyte of escapes takes a tenth
        of a second and more."""
        if len(data) <= _PIECE and not self._scanner.matches(data):
            return data
        stream = self.stream()
        return stream.feed(data, check) + stream.flush()

    def text(self, text: str, check: Callable[[], object] = int) -> str:
        """`text` with replacements; `check` as in `data`."""
        data = text.encode("utf-8", "surrogatepass")
        if len(data) <= _PIECE and not self._scanner.matches(data):
            return text
        redacted = self.data(data, check)
        return text if redacted == data else redacted.decode("utf-8", "surrogatepass")

    def json(self, value: Any) -> Any:
        """A copy of the JSON value `value` with replacements in all strings, keys and numbers, at any depth; `value`
        itself where there is nothing to replace."""
        if not self.searches:
            return value
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
        clean, matches = self._scanner.clean, self._scanner.matches
        if not (new := {*texts} - clean):
            return value
        joined = "\n".join(new)
        if not matches(joined.encode("utf-8", "surrogatepass")):  # one scan settles it for most values
            if len(joined) > _SHORT:
                return value
            if len(new) == 1 or not any(matches(text.encode("utf-8", "surrogatepass")) for text in new):
                if len(clean) > _MOST_CLEAN:
                    clean.clear()
                clean |= new  # each was looked at alone: a neighbour may hide what it holds
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

    def stream(self) -> StreamRedactor:
        return StreamRedactor(self._scanner, tuple(map(str.encode, self._replacements)))


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
            if start:
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


class Match(NamedTuple):
    """From `start` to `end` of a text, the value `number`."""

    start: int
    end: int
    number: int


class Scanner(Unspoken):
    """Finds some values in texts."""

    __slots__ = ("_all", "_least", "_open", "_quotes", "_shortest", "_wide", "clean", "longest", "numeric")

    def __init__(self, values: Sequence[str]) -> None:
        self.clean = set[str]()  # short texts without any of the values: the words of records come in every run
        characters = {character for value in values for character in value}
        self.longest = 1024 + _LONGEST_ESCAPE * max((len(value.encode()) for value in values), default=0)
        self._open = _open_end(characters)
        self._quotes = '"' in characters
        self._wide = not "".join(values).isascii()
        self._all = windows_of(values)
        self._least = shortest_coded(self._all)
        self._shortest = min((windows.length for windows in self._all), default=sys.maxsize)
        self.numeric = any(windows.numeric for windows in self._all)
        self.numeric = self.numeric or any(value.encode().hex().isdecimal() for value in values)

    def open_end(self, tail: bytes) -> int:
        """How many bytes at the end of `tail` may be in a match that goes on behind it, whatever the secrets are."""
        found = self._open.match(tail[::-1])
        return found.end() if found else 0

    def matches(self, data: bytes) -> list[Match]:
        """The matches, in order. Those that overlap count as one: of the leftmost, the longest."""
        if len(data) < self._shortest:
            return []
        found: list[Match] = []
        for reading in readings(data, self._least, quotes=self._quotes, wide=self._wide):
            for windows in self._all:
                marked = reading.text.translate(windows.table)
                if windows.run in marked and not (windows.exact and reading.recoded):
                    spans = list(map(re.Match.span, windows.runs.finditer(marked)))
                    dense = b"\n".join(map(reading.text.__getitem__, starmap(slice, spans)))
                    dense = dense.translate(windows.fold)
                    if places := _places(dense, windows):
                        found += _in_original(data, reading, spans, _in_runs(dense, windows, places))
        return _merged(found) if found else found


def _places(text: bytes, windows: Windows) -> list[int]:
    """Where `windows` stand in `text`, in order."""
    length, step, found = windows.length, windows.length * WINDOWS_AT_ONCE, list[int]()
    begin, known = 0, windows.known
    while begin + step + length - 1 <= len(text):
        for shift in range(begin, begin + length):
            some = windows.at_once.unpack_from(text, shift)
            if not known.isdisjoint(some):
                found += compress(range(shift, shift + step, length), map(known.__contains__, some))
        begin += step
    rest = range(begin, len(text) - length + 1)
    some = tuple(map(text.__getitem__, map(slice, rest, range(begin + length, len(text) + 1))))
    if not known.isdisjoint(some):
        found += compress(rest, map(known.__contains__, some))
    found.sort()
    return found


def _in_runs(text: bytes, windows: Windows, places: list[int]) -> Iterator[tuple[Match, bool]]:
    """The matches in `text`, and whether each is a whole secret, by the `places` of the windows in it."""
    length, behind = windows.length, 0
    part: Match | None = None
    tried: tuple[bytes, int] = (b"", 0)
    for at in places:
        if at + length <= behind:
            continue
        forms = windows.owners[text[at : at + length]]
        form = forms[0]
        if len(forms) > 1 or tried != (form.text, at - form.first):  # a window further in the same form tells no more
            tried = (form.text, at - form.first)
            if (match := _whole(text, at, forms)) is not None:
                behind = match.end
                yield match, True
                continue
        if part is not None and at <= part.end:
            part = Match(part.start, at + length, part.number)
            continue
        if part is not None:
            yield part, False
        part = Match(at, at + length, form.number)
    if part is not None:
        yield part, False


def _whole(text: bytes, at: int, forms: Sequence[Sought]) -> Match | None:
    """The longest whole secret of which a window stands at `at`."""
    found: Match | None = None
    for form in forms:
        start, end = at - form.first, at - form.first + len(form.text)
        if start >= 0 and text[start:end] == form.text and (found is None or end - start > found.end - found.start):
            found = Match(start, end, form.number)
    return found


def _in_original(
    data: bytes, reading: Reading, spans: Sequence[tuple[int, int]], found: Iterable[tuple[Match, bool]]
) -> Iterator[Match]:
    """Matches in the runs `spans` of `reading`, one behind the other, by their places in `data`."""
    begins = list(accumulate((end - start + 1 for start, end in spans[:-1]), initial=0))
    word = (0, 0)
    for match, whole in found:
        run = bisect_right(begins, match.start) - 1
        shift = spans[run][0] - begins[run]
        start, end = reading.in_original(match.start + shift, match.end + shift)
        if whole:
            yield Match(*_with_backslashes(data, start, end), match.number)
        elif not (word[0] <= start and end <= word[1]):
            word = _word(data, start, end)
            yield Match(*word, match.number)


def _word(data: bytes, start: int, end: int) -> tuple[int, int]:
    """The word of which `data[start:end]` is a part, with the backslashes before it."""
    before = _WORD_BEFORE.match(data[max(0, start - _LONGEST_BEFORE) : start][::-1])
    behind = _WORD.match(data, end)
    assert before is not None
    assert behind is not None
    return start - before.end(), behind.end()


def _with_backslashes(data: bytes, start: int, end: int) -> tuple[int, int]:
    while start and data[start - 1] == ord("\\"):
        start -= 1
    return start, end


def _merged(found: list[Match]) -> list[Match]:
    merged: list[Match] = []
    for match in sorted(found, key=lambda match: (match.start, -match.end)):
        if not merged or match.start >= merged[-1].end:
            merged.append(match)
        elif match.end > merged[-1].end:
            merged[-1] = merged[-1]._replace(end=match.end)
    return merged


def _open_end(characters: set[str]) -> re.Pattern[bytes]:
    """Matches the open end of a text (see `StreamRedactor`) at the beginning of the text reversed."""
    between = re.escape("".join(sign for sign in _BETWEEN if sign not in characters)).encode()
    number = rb" (?=,?[0-9A-Fa-f]{2,8}(?:[xX]0|\+[Uu])?(?![0-9A-Za-z]))"
    return re.compile(rb"(?:[^\t\n\r%b]+|(?:\n\r?|\r)%b|%b)*" % (between, _BREAK, number))
