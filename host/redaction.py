r"""Secrets on their way out and back: values that do not show, placeholders that stand for them, and redaction.

Out: `Substitution` puts values where a request holds placeholders. Back: `Redactor` puts replacements where anything
holds a value. What it looks for is a *form* of the value in any *spelling*:

- forms: the value itself; its hexadecimal digits in either case; its base64 (RFC 4648, sections 4 and 5) at each of
  the three alignments, that is also inside the base64 of a longer text. The last two only for values of at least
  `SHORTEST_RECODED` bytes: of a shorter one too few characters are certain for a match to mean anything;
- spellings, of each character on its own: plain; `%XX` and `+` (RFC 3986, section 2.1, and HTML forms); `\uXXXX`,
  `\xXX` and a backslash before a sign (RFC 8259, section 7, JavaScript, Markdown); `&#N;`, `&#xN;`, `&name;` (HTML);
  and these escaped once more, as in JSON inside JSON.

That is a regular language, matched by an automaton made as it is needed: each byte is looked at once, whatever the
input. Nearly always a few `bytes.find` show first that there is nothing to match.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
import sys
from base64 import b64decode, b64encode
from functools import lru_cache
from html.entities import codepoint2name
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, quote_plus

from host.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

SHORTEST_RECODED = 8  # bytes: ten base64 characters are certain then; a random text of 1 MB has them once in 2**40

_UNUSABLE = re.compile("[\0-\x1f\x7f\ud800-\udfff]")  # not in a header (RFC 9110, section 5.5); not in UTF-8
_PREFIX = "host-secret-"
_PLACEHOLDER = re.compile(_PREFIX.encode() + b"[0-9a-f]{32}")
_SLICE = 8192  # bytes: only the slices that may hold something are looked at byte by byte
_STATES = 20_000  # kept, of one automaton: it forgets them all rather than have more

_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_FOLD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ-_ ", b"abcdefghijklmnopqrstuvwxyz+/+")
_ESCAPE_SIGNS = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ%\\&#;+"
_LONGEST_ESCAPE = 16  # bytes: a surrogate pair takes 12, `&thetasym;` ten
_NAMES = {**codepoint2name, ord("'"): "apos"}


class _Unspoken:
    """Says only its type's name, however it is asked, and does not pickle."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __format__(self, format_spec: str) -> str:
        return repr(self)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be pickled")


class SecretValue(_Unspoken):
    """The text of a secret, for `reveal` alone to tell. Copies are the value itself; it is not hashable.

    InputError, without the text, if it is empty, begins or ends in white space (servers drop that from a header, and
    would answer with a text that redaction is not looking for), or holds a control character or a lone surrogate.
    """

    __slots__ = ("_text",)
    __hash__ = None  # type: ignore[assignment]  # how Python says "not hashable"

    def __init__(self, text: str) -> None:
        if not text or text != text.strip() or _UNUSABLE.search(text):
            raise InputError("a secret's value is empty, begins or ends in white space, or holds a control character")
        self._text = text

    @classmethod
    def from_file_text(cls, text: str) -> SecretValue:
        """The same, less the one line break (LF or CR LF) that editors leave at the end of a file."""
        return cls(text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text)

    def reveal(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretValue):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __copy__(self) -> SecretValue:
        return self

    def __deepcopy__(self, memo: object) -> SecretValue:
        return self


def new_placeholder() -> str:
    """`host-secret-` and 128 random bits in hex: the same text in a header, a URL, a form and a JSON string."""
    return _PREFIX + secrets.token_hex(16)


class Substitution(_Unspoken):
    """Placeholders to values, for one request: `bindings` has those that apply to where it goes.

    Every method returns the text and the placeholders that it used. A text is passed over once, so a value that looks
    like a placeholder stays as it is; a placeholder without a binding stays too. ValueError for a key of another shape.
    """

    __slots__ = ("_values",)

    def __init__(self, bindings: Mapping[str, SecretValue]) -> None:
        if not all(_PLACEHOLDER.fullmatch(placeholder.encode()) for placeholder in bindings):
            raise ValueError("a binding's key is not a placeholder")
        self._values = {placeholder.encode(): value for placeholder, value in bindings.items()}

    def apply_text(self, text: str) -> tuple[str, frozenset[str]]:
        return self._apply_to_text(text, str)

    def apply_url(self, url: str) -> tuple[str, frozenset[str]]:
        """Percent-encoded, so that a value cannot end a path segment or a query parameter."""
        return self._apply_to_text(url, lambda value: quote(value, safe=""))

    def apply_header(self, name: str, value: str) -> tuple[str, frozenset[str]]:
        """Also inside the base64 of `Authorization: Basic …` (RFC 7617)."""
        scheme, _, encoded = value.partition(" ")
        if name.lower() == "authorization" and scheme.lower() == "basic":
            try:
                credentials, used = self.apply_bytes(b64decode(encoded.strip(), validate=True))
            except ValueError:  # not base64, so not Basic either
                return self.apply_text(value)
            if used:
                return f"{scheme} {b64encode(credentials).decode()}", used
        return self.apply_text(value)

    def apply_bytes(self, data: bytes, content_type: str = "") -> tuple[bytes, frozenset[str]]:
        """A body: values are written as in a JSON string or a form's field where `content_type` says that it is one."""
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type == "application/json" or media_type.endswith("+json"):
            return self._apply(data, lambda value: json.dumps(value)[1:-1])
        if media_type == "application/x-www-form-urlencoded":
            return self._apply(data, quote_plus)
        return self._apply(data, str)

    def _apply_to_text(self, text: str, spell: Callable[[str], str]) -> tuple[str, frozenset[str]]:
        if _PREFIX not in text:
            return text, frozenset()
        data, used = self._apply(text.encode("utf-8", "surrogatepass"), spell)
        return data.decode("utf-8", "surrogatepass"), used

    def _apply(self, data: bytes, spell: Callable[[str], str]) -> tuple[bytes, frozenset[str]]:
        used = self._values.keys() & set(_PLACEHOLDER.findall(data))
        spelt = {placeholder: spell(self._values[placeholder].reveal()).encode() for placeholder in used}
        replaced = _PLACEHOLDER.sub(lambda match: spelt.get(match[0], match[0]), data) if used else data
        return replaced, frozenset(placeholder.decode() for placeholder in used)


class Redactor(_Unspoken):
    """Values to what is shown instead: `secrets` has replacement -> value.

    Matches that overlap count as one, shown as the leftmost of them, and of those the longest; backslashes in front of
    a match go with it. What was put in is not looked at again. JSON stays JSON where values lie within its strings;
    of a value that could be more (a number, or with quotes in it), only `json` makes sure.
    ValueError for a replacement that JSON would have to escape. Any number of threads may use one redactor at a time.
    """

    __slots__ = ("_matcher", "_replacements")

    def __init__(self, secrets: Mapping[str, SecretValue]) -> None:
        self._replacements = tuple(secrets)
        if any(json.dumps(replacement) != f'"{replacement}"' for replacement in self._replacements):
            raise ValueError("JSON would have to escape a replacement")
        self._matcher = _Matcher([value.reveal() for value in secrets.values()])

    def renamed(self, replacements: Mapping[str, str]) -> Redactor:
        """The same values under other replacements (old -> new, KeyError where one is missing), sharing what was
        compiled: one redactor for a catalyst, and from it one for each run with that run's placeholders."""
        redactor = Redactor({})
        redactor._replacements = tuple(replacements[old] for old in self._replacements)
        redactor._matcher = self._matcher
        return redactor

    def data(self, data: bytes) -> bytes:
        if self._matcher.absent(data):
            return data
        stream = self.stream()
        return stream.feed(data) + stream.flush()

    def text(self, text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        redacted = self.data(data)
        return text if redacted == data else redacted.decode("utf-8", "surrogatepass")

    def json(self, value: Any) -> Any:
        """A copy of `value`, which is like what `json.loads` returns: all strings, keys and numbers, at any depth."""
        top = [value]
        places: list[tuple[Any, Any]] = [(top, 0)]
        while places:
            container, place = places.pop()
            part = container[place]
            if isinstance(part, str):
                container[place] = self.text(part)
            elif isinstance(part, dict):
                container[place] = copy = {self.json(key): below for key, below in part.items()}
                places += ((copy, key) for key in copy)
            elif isinstance(part, list | tuple):
                container[place] = items = list(part)
                places += ((items, index) for index in range(len(items)))
            elif self._matcher.numeric and isinstance(part, int | float) and not isinstance(part, bool):
                shown = json.dumps(part)
                container[place] = part if (redacted := self.text(shown)) == shown else redacted
        return top[0]

    def stream(self) -> StreamRedactor:
        return StreamRedactor(self._matcher, [replacement.encode() for replacement in self._replacements])

    def found_in(self, data: bytes) -> bool:
        """Whether any value is there, in any form and spelling."""
        return self.data(data) != data


class StreamRedactor(_Unspoken):
    """Redacts chunk by chunk: all that `feed` and a last `flush` return makes what `Redactor.data` returns for the
    whole. Held back is only what may be the beginning of a match: of an event that ends in a line break, nothing."""

    __slots__ = ("_cursor", "_found", "_held", "_matcher", "_read", "_replacements", "_starts", "_state")

    def __init__(self, matcher: _Matcher, replacements: Sequence[bytes]) -> None:
        self._matcher = matcher
        self._replacements = replacements
        self._state = matcher.root
        self._starts: list[int] = []  # of the matches under way, one for each group of the state
        self._found: list[tuple[int, int, int]] = []  # start, end, number of the secret
        self._held = bytearray()
        self._cursor = 0  # where `_held` begins; like all places, counted from the beginning of the stream
        self._read = 0

    def feed(self, chunk: bytes) -> bytes:
        return b"".join(self._feed(chunk[start : start + _SLICE]) for start in range(0, len(chunk), _SLICE))

    def _feed(self, chunk: bytes) -> bytes:
        clear = 0 if self._starts else self._matcher.clear(chunk)
        if clear == len(chunk):
            self._read = self._cursor = self._read + clear
            return chunk
        self._read += clear
        self._cursor += clear
        self._scan(chunk[clear:])
        return chunk[:clear] + self._settle(self._starts[0] if self._starts else self._read)

    def flush(self) -> bytes:
        """What was held back, since nothing follows it. The redactor is as new then."""
        self._state = self._matcher.root
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
        """What is decided: all before `limit`, where the first match under way begins."""
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


class _Node:
    """A place within the spellings of a character: what may follow, and whether one ends here."""

    __slots__ = ("edges", "ends")

    def __init__(self) -> None:
        self.edges: dict[int, _Node] = {}
        self.ends = False

    def path(self, spelling: bytes, *, any_case: bool = False) -> _Node:
        """The node behind `spelling`, made if need be; hex digits in either case, any number of backslashes for one."""
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
    too: `\n` may well be a line break there, but what would be left of it is no JSON."""
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
    if len(raw) >= SHORTEST_RECODED:
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
    """What any plain spelling of `form` holds, once folded."""
    return b"".join(
        place[0].encode().translate(_FOLD)
        for place in form
        if len(place) == 1 or len(set(place.encode().translate(_FOLD))) == 1
    )


def _escapes(characters: set[str]) -> tuple[re.Pattern[bytes], ...]:
    """One of these finds something in any text that holds one of `characters` in any but its plain spelling. Each
    begins with a literal, for which `re` has a fast search that an alternation would lose."""
    signs = "".join(sorted(character for character in characters if character.isascii() and not character.isalnum()))
    wide = not all(character.isascii() for character in characters)
    unit, entity = (b"u", b"[#A-Za-z]") if wide else (b"u00[2-7]", b"(?:#|amp;|lt;|gt;|quot;|apos;)")
    backslash = rb"\\(?:[x\\%s]|%s)" % (re.escape(signs).encode(), unit)
    return tuple(map(re.compile, (rb"%[0-9A-Fa-f]{2}", backslash, b"&" + entity)))


# A match under way: which form, which place in it, where within the spellings of that place's characters. Those that
# began at the same byte are a group; a state has its groups in the order of their beginnings.
_Thread = tuple[int, int, _Node]
_Groups = tuple[frozenset[_Thread], ...]


class _State(dict[int, "_Move | None"]):
    """What follows on each byte, worked out when it is first asked for. None: nothing was under way, nothing began."""

    __slots__ = ("_groups", "_matcher")

    def __init__(self, matcher: _Matcher, groups: _Groups) -> None:
        self._matcher = matcher
        self._groups = groups

    def __missing__(self, byte: int) -> _Move | None:
        move = self[byte] = self._matcher.move(self._groups, byte)
        return move


# The next state; (group, secret) for what ends with this byte; the groups that do not go on, last one first. The byte
# itself begins a group, numbered after those of the state before.
_Move = tuple[_State, tuple[tuple[int, int], ...], tuple[int, ...]]


class _Matcher(_Unspoken):
    """All forms of some values, and the automaton that finds them."""

    __slots__ = (
        "_alphabet",
        "_begin",
        "_escapes",
        "_forms",
        "_literals",
        "_reach",
        "_shortest",
        "_states",
        "numeric",
        "root",
    )

    def __init__(self, values: Sequence[str]) -> None:
        self._forms = [(number, form) for number, value in enumerate(values) for form in _forms(value)]
        characters = {character for _, form in self._forms for place in form for character in place}
        plain = "".join(characters).encode()
        self._literals = list({_literal(form) for _, form in self._forms})
        self._shortest = min(map(len, self._literals), default=sys.maxsize)
        self._escapes = _escapes(characters)
        self._alphabet = frozenset(plain + _ESCAPE_SIGNS)
        self._reach = max((sum(len(place[0].encode()) for place in form) for _, form in self._forms), default=0)
        self._reach += _LONGEST_ESCAPE
        self.numeric = any(not literal.strip(b"0123456789.e+") for literal in self._literals)
        self._begin: frozenset[_Thread] | None = None
        self.root = _State(self, ())
        self._states: dict[_Groups, _State] = {(): self.root}

    def absent(self, data: bytes) -> bool:
        """Certain that there is no match in `data`. What this calls present may still be none."""
        if len(data) < self._shortest:
            return True
        folded = data.translate(_FOLD)
        return not any(literal in folded for literal in self._literals) and not any(
            escape.search(data) for escape in self._escapes
        )

    def clear(self, chunk: bytes) -> int:
        """How many bytes at the beginning of `chunk` are in no match, be it one that goes on behind the chunk."""
        if not self.absent(chunk):
            return 0
        if not chunk or chunk[-1] not in self._alphabet:
            return len(chunk)
        return max(0, len(chunk) - self._reach)

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
