r"""Finds secrets in any text: a *form* of a value in any *spelling*.

- forms: the value itself, also with its UTF-8 read as Latin-1 (as in a header's value); in lower case, as in the names
  of headers and domains; its hexadecimal digits in either case; its base64 (RFC 4648, sections 4 and 5) at each of the
  three alignments, and so also inside the base64 of a longer text. The last three only for values of at least
  `SHORTEST_RECODED` bytes: of a shorter one too few characters are certain for a match to mean anything;
- spellings, of each character on its own: plain, as UTF-8 or Latin-1; `%XX` and `+` (RFC 3986, section 2.1, and HTML
  forms); `\uXXXX`, `\xXX` and a backslash before a sign (RFC 8259, section 7, JavaScript, Markdown); `&#N;`, `&#xN;`,
  `&name;` (HTML); and these escaped once more, as in JSON inside JSON.

That is a regular language. An automaton, made as it is needed, matches it: it looks at each byte once, whatever the
input. Nearly always a few `bytes.find` show first that there is nothing to match.
"""

from __future__ import annotations

import re
import sys
from base64 import b64encode
from functools import lru_cache
from html.entities import codepoint2name
from itertools import accumulate
from typing import TYPE_CHECKING

from host.secrets.value import Unspoken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHORTEST_RECODED = 8  # bytes: ten base64 characters are certain then; a random text of 1 MB has them once in 2**40
_STATES = 20_000  # of one automaton; beyond them it forgets all
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_FOLD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ-_ ", b"abcdefghijklmnopqrstuvwxyz+/+")
_BETWEEN = ' "<>'  # ends a run, unless a secret has it
_BREAK = rb"(?==|[A-Za-z0-9+/_-]{32})"  # behind a line break, seen from its end: a line that is wrapped
_LONGEST_ESCAPE = 16  # bytes: a surrogate pair takes 12, `&thetasym;` ten
_NAMES = {**codepoint2name, ord("'"): "apos"}


class _Node:
    """A place within the spellings of a character: the bytes that may follow, and whether a spelling ends here."""

    __slots__ = ("edges", "ends")

    def __init__(self) -> None:
        self.edges: dict[int, _Node] = {}
        self.ends = False

    def path(self, spelling: bytes, *, any_case: bool = False) -> _Node:
        """The node behind `spelling`, made if there is none; hex digits in either case, any number of backslashes for
        one."""
        node = self
        for byte in spelling:
            after = node.edges.get(byte) or _Node()
            for twin in {byte, *(chr(byte).upper().encode() if any_case and byte in b"abcdef" else ())}:
                node.edges[twin] = after
            if byte == ord("\\"):
                after.edges[byte] = after
            node = after
        return node


@lru_cache(maxsize=4096)
def _spellings(characters: str, *, first: bool) -> _Node:
    r"""The ways to write one of `characters`. In front of the `first` of a match, a backslash may stand before a letter
    too: `\n` may well be a line break there, but a lone backslash in its place would be no JSON."""
    root = _Node()
    for character in characters:
        plain, code, units = character.encode(), ord(character), character.encode("utf-16-be")
        percent = [b"%%%02x" % byte for byte in plain]
        numeric = [
            b"".join(percent),
            b"".join(b"\\u" + units[at : at + 2].hex().encode() for at in range(0, len(units), 2)),
            *(form % code for form in (b"&#%d;", b"&#%03d;", b"&#x%x;", b"\\x%02x")),
        ]
        exact = [plain]
        if "\x80" <= character <= "\xff":
            exact.append(character.encode("latin-1"))
            numeric.append(b"%%%02x" % code)
        if character.isascii() and (first or not character.isalnum()):
            exact.append(b"\\" + plain)
        if character == " ":
            exact.append(b"+")
        if code in _NAMES:
            exact.append(b"&%s;" % _NAMES[code].encode())
        for spelling in exact:
            root.path(spelling).ends = True
        for spelling in numeric:
            root.path(spelling, any_case=True).ends = True
        for before in accumulate(percent[:-1], initial=b""):
            root.path(before + b"%25").edges = root.path(before + b"%").edges
    for ampersand in (b"&amp;", b"\\u0026"):
        root.path(ampersand).edges = root.path(b"&").edges
    return root


_Form = tuple[str, ...]  # for each place, the characters of which one stands there


def _forms(value: str) -> Iterator[_Form]:
    raw = value.encode()
    yield tuple(value)
    if not value.isascii():
        yield tuple(raw.decode("latin-1"))
    if len(raw) >= SHORTEST_RECODED:
        if value.lower() != value:
            yield tuple(value.lower())
        yield tuple(digit if digit.isdigit() else digit + digit.upper() for digit in raw.hex())
        yield from (_base64_form(raw, before) for before in range(3))


def _base64_form(raw: bytes, before: int) -> _Form:
    """The base64 characters that hold any bit of `raw` when the bytes `before` it, and those behind, are not known:
    the first and the last may be any that agree in the bits that are."""
    zeros, ones = (b64encode(bit * before + raw + bit * 3).decode() for bit in (b"\0", b"\xff"))
    places = []
    for at in range(before * 8 // 6, -(-(before + len(raw)) * 8 // 6)):
        agreeing = zeros[at]
        if ones[at] != agreeing:
            known, other = _BASE64.index(zeros[at]), _BASE64.index(ones[at])
            agreeing = "".join(c for value, c in enumerate(_BASE64) if not (value ^ known) & ~(known ^ other))
        places.append(agreeing.replace("+", "+-").replace("/", "/_"))
    return tuple(places)


def _literal(form: _Form) -> bytes:
    """The bytes that every plain spelling of `form` has in common, folded."""
    return b"".join(
        place[0].encode().translate(_FOLD)
        for place in form
        if len(place) == 1 or len(set(place.encode().translate(_FOLD))) == 1
    )


def _escapes(characters: set[str]) -> tuple[re.Pattern[bytes], ...]:
    """Patterns, of which one at least finds something in any text that holds one of `characters` in another than its
    plain spelling. Each begins with a literal, for which `re` has a fast search that an alternation would lose."""
    signs = "".join(sorted(character for character in characters if character.isascii() and not character.isalnum()))
    wide = not all(character.isascii() for character in characters)
    unit, entity = (b"u", b"[#A-Za-z]") if wide else (b"u00[2-7]", b"(?:#|amp;|lt;|gt;|quot;|apos;)")
    backslash = rb"\\(?:[x\\%s]|%s)" % (re.escape(signs).encode(), unit)
    latin_1 = (b"[\x80-\xff]",) if wide else ()
    return tuple(map(re.compile, (rb"%[0-9A-Fa-f]{2}", backslash, b"&" + entity, *latin_1)))


def _open_end(characters: set[str]) -> re.Pattern[bytes]:
    """Matches the open end of a text (see `StreamRedactor`) at the beginning of the text reversed."""
    between = re.escape("".join(sign for sign in _BETWEEN if sign not in characters)).encode()
    number = rb" (?=,?[0-9A-Fa-f]{2,8}(?:[xX]0|\+[Uu])?(?![0-9A-Za-z]))"
    return re.compile(rb"(?:[^\t\n\r%b]+|(?:\n\r?|\r)%b|%b)*" % (between, _BREAK, number))


# A match under way: which form, which place in it, where within the spellings of that place's characters. Those that
# began at the same byte are a group; a state has its groups in the order of their beginnings.
_Thread = tuple[int, int, _Node]
_Groups = tuple[frozenset[_Thread], ...]


class _State(dict[int, "_Move | None"]):
    """The move on each byte, computed at its first use. None: no match was under way, and none began."""

    __slots__ = ("_groups", "_scanner")

    def __init__(self, scanner: Scanner, groups: _Groups) -> None:
        self._scanner = scanner
        self._groups = groups

    def __missing__(self, byte: int) -> _Move | None:
        move = self[byte] = self._scanner.move(self._groups, byte)
        return move


# The next state; (group, secret) for each match that ends with this byte; the groups that do not go on, last one first.
# The byte itself begins a group, numbered after those of the state before.
_Move = tuple[_State, tuple[tuple[int, int], ...], tuple[int, ...]]


class Scanner(Unspoken):
    """All forms of some values, and the automaton that finds them."""

    __slots__ = (
        "_begin",
        "_escapes",
        "_forms",
        "_literals",
        "_open",
        "_shortest",
        "_states",
        "longest",
        "numeric",
        "root",
    )

    def __init__(self, values: Sequence[str]) -> None:
        self._forms = [(number, form) for number, value in enumerate(values) for form in _forms(value)]
        characters = {character for _, form in self._forms for place in form for character in place}
        self._literals = list({_literal(form) for _, form in self._forms})
        self._shortest = min((len(form) for _, form in self._forms), default=sys.maxsize)
        self._escapes = _escapes(characters)
        self.longest = 1024 + _LONGEST_ESCAPE * max((len(value.encode()) for value in values), default=0)
        self._open = _open_end(characters)
        self.numeric = any(not literal.strip(b"0123456789.e+") for literal in self._literals)
        self._begin: frozenset[_Thread] | None = None
        self.root = _State(self, ())
        self._states: dict[_Groups, _State] = {(): self.root}

    def absent(self, data: bytes) -> bool:
        """True only if there is no match in `data`; False does not mean that there is one."""
        if len(data) < self._shortest:
            return True
        folded = data.translate(_FOLD)
        for literal in self._literals:
            if literal in folded:
                return False
        for escape in self._escapes:  # noqa: SIM110 - a loop is twice as fast as `any`, and all text passes here
            if escape.search(data):
                return False
        return True

    def open_end(self, tail: bytes) -> int:
        """How many bytes at the end of `tail` may be in a match that goes on behind it, whatever the secrets are."""
        found = self._open.match(tail[::-1])
        return found.end() if found else 0

    def matches(self, data: bytes) -> list[tuple[int, int, int]]:
        """Start, end and the number of the value of each match, in order. Those that overlap count as one: of the
        leftmost, the longest."""
        if self.absent(data):
            return []
        state, starts = self.root, list[int]()
        found: list[tuple[int, int, int]] = []
        for position, byte in enumerate(data):
            move = state[byte]
            if move is None:
                continue
            state, ended, dropped = move
            starts.append(position)
            for group, secret in ended:
                found.append((starts[group], position + 1, secret))
            for group in dropped:
                del starts[group]
        merged: list[tuple[int, int, int]] = []
        for start, end, secret in sorted(found, key=lambda match: (match[0], -match[1])):
            if not merged or start >= merged[-1][1]:
                merged.append((start, end, secret))
            elif end > merged[-1][1]:
                merged[-1] = (merged[-1][0], end, merged[-1][2])
        return merged

    def move(self, groups: _Groups, byte: int) -> _Move | None:
        kept: list[frozenset[_Thread]] = []
        ended: list[tuple[int, int]] = []
        dropped: list[int] = []
        seen: set[_Thread] = set()
        for number, group in enumerate((*groups, self._beginnings())):
            moved: set[_Thread] = set()
            for thread in group:
                after, secret = self._step(thread, byte)
                moved.update(after)
                if secret is not None:
                    ended.append((number, secret))
            moved -= seen  # it goes on in a group that began before
            seen |= moved
            if moved:
                kept.append(frozenset(moved))
            else:
                dropped.insert(0, number)
        if not (groups or kept or ended):
            return None
        return self._state(tuple(kept)), tuple(ended), tuple(dropped)

    def _step(self, thread: _Thread, byte: int) -> tuple[list[_Thread], int | None]:
        """Where `thread` goes on, and the number of the secret if its form ends."""
        number, place, node = thread
        after = node.edges.get(byte)
        if after is None:
            return [], None
        threads = [(number, place, after)] if after.edges else []
        if not after.ends:
            return threads, None
        secret, form = self._forms[number]
        if place + 1 == len(form):
            return threads, secret
        return [*threads, (number, place + 1, _spellings(form[place + 1], first=False))], None

    def _beginnings(self) -> frozenset[_Thread]:
        if self._begin is None:
            self._begin = frozenset(
                (number, 0, _spellings(form[0], first=True)) for number, (_, form) in enumerate(self._forms)
            )
        return self._begin

    def _state(self, groups: _Groups) -> _State:
        if len(self._states) > _STATES:
            self.root.clear()
            self._states = {(): self.root}
        return self._states.setdefault(groups, _State(self, groups))
