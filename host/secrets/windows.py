"""What of a secret is looked for, whole and in long parts, in a text and in all of its readings (see `readings`).

Every reading is compared with the secrets in one way: each of its *windows*, a number of characters in a row, is looked
up in a set of the windows of the secrets, upper and lower case being the same. A lookup is by a hash with a random key,
and takes the same time whether it finds nothing or nearly something. So a guest that makes an upstream echo its guesses
learns nothing, neither from what is replaced nor from the time of it, before it knows a whole window:

- a window has 12 characters of a secret behind its public beginning (`sk-`, `ghp_`, `sk-ant-api03-`); 15 if the secret
  has no letters, and 24 if it has letters of one case only, as pass phrases. At least five of the characters differ,
  and few are of a part that all keys of a kind have;
- no window goes over the bounds of a secret's *parts*, if it has such: of a URL, a connection string, `user:password`,
  a JSON object, a token in three parts (RFC 7519). Much of these is known, and each window tells the next character
  to a guest that knows eleven: what it knows of one part tells nothing of another. Text in base64 has no windows;
- of a secret shorter than that, only the whole is looked for. One shorter than `SHORTEST_RECODED` bytes is looked for
  in its own case and outside codings only: too many texts have two characters in common with it.

A secret that is there as a whole is a match from its first character to its last. A long part of one is a match with
the whole word around it, so that what is replaced does not tell how much of the word was right.
"""

from __future__ import annotations

import re
import struct
from base64 import b64decode
from typing import TYPE_CHECKING, NamedTuple

from host.secrets.readings import members, runs, unescaped
from host.secrets.value import Unspoken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHORTEST_RECODED = 8  # bytes
WINDOWS_AT_ONCE = 128  # are cut out in one call
_WINDOW = 12  # characters: of 36 kinds, as case does not count, 62 bits; of the 16 of hex, 48
_WINDOW_OF_DIGITS = 15
_WINDOW_OF_WORDS = 24
_DIFFERENT = 5  # characters of a window, at least: a row of zeros is no secret
_BEGINNING = re.compile(
    r"""(?:Bearer[ ]|Basic[ ])?(?:
    [sr]k_(?:live|test)_51\w{15}  # Stripe's have the account, which its public keys have too
    |(?:[A-Za-z]{1,8}[0-9]{0,2}[-_.]){1,3}(?:[0-9]{6,}-)*  # Slack's have the workspace and the bot
    |AIza|AKIA|ASIA|EAA\w{11}
    |MII[\w+/]{48}  # a private key in DER: its kind and size (RFC 5958)
    )?""",
    re.VERBOSE,
)
_STRUCTURE = re.compile(r"""://|[\w"')\].-]{4}[:=](?!=*$)""", re.ASCII)  # a name, but not padding of base64
_PART = re.compile(r"""[^\s:;,=@"'{}()\[\]<>&?|\\]+""")
_PART_OF_URL = re.compile(r"""[^\s:;,=@"'{}()\[\]<>&?|\\/#]+""")
_PART_OF_TOKEN = re.compile(r"[^\s.]+")
_SCHEME = re.compile(r"^(?:Bearer|Basic) ")
_STANDARD = str.maketrans("-_", "+/")
_COMMON = ("T3BlbkFJ",)  # in the middle of OpenAI's keys
_MOST_COMMON = 2  # characters of such a part in a window
_FOLD = bytes(range(256)).lower().replace(b" ", b"+")
_EXACT = bytes(range(256))


class Sought(NamedTuple):
    """What is looked for, of the value `number`: `text`, and the window in it that begins at `first`."""

    number: int
    text: bytes
    first: int


class Windows(Unspoken):
    """The windows of one length, of all secrets: `known`, and of each the forms that have it. They are compared with a
    text as `fold` makes it; `table` names the bytes that they are of (see `members`). `exact` ones are not looked for
    in codings."""

    __slots__ = ("at_once", "exact", "fold", "known", "length", "owners", "run", "runs", "table")

    def __init__(self, length: int, forms: Sequence[Sought], *, exact: bool) -> None:
        self.length = length
        self.run = b"x" * length
        self.runs = runs(length)
        self.exact = exact
        self.fold = _EXACT if exact else _FOLD
        self.table = members(_kinds(set(b"".join({form.text for form in forms}))))
        self.owners: dict[bytes, list[Sought]] = {}
        for form in forms:
            self.owners.setdefault(form.text[form.first : form.first + length], []).append(form)
        self.known = frozenset(self.owners)
        self.at_once = struct.Struct(f"{length}s" * WINDOWS_AT_ONCE)

    @property
    def numeric(self) -> bool:
        """Whether a number may hold one."""
        return any(not window.strip(b"0123456789.e+-") for window in self.known)


def _kinds(alphabet: set[int]) -> bytes:
    """The characters that may be in a window: all of each kind that `alphabet` has one of. If it were `alphabet`, the
    time of a search would tell which letters are in a secret."""
    usual = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    kinds = (b" +", bytes(range(33, 127)), bytes(range(128, 256)), bytes(range(32)) + b"\x7f")
    return usual + b"".join(kind for kind in kinds if (alphabet - set(usual)) & set(kind))


def windows_of(values: Sequence[str]) -> list[Windows]:
    """All that is looked for of some values."""
    by_length: dict[tuple[int, bool], list[Sought]] = {}
    for number, value in enumerate(values):
        exact = len(value.encode()) < SHORTEST_RECODED
        for length, form in _forms(number, value):
            by_length.setdefault((length, exact), []).append(form)
    return [Windows(length, forms, exact=exact) for (length, exact), forms in by_length.items()]


def shortest_coded(windows: Sequence[Windows]) -> int:
    """How many bytes a coding holds at least, if there is a match in it."""
    least = min((one.length for one in windows if not one.exact), default=_WINDOW)
    return max(SHORTEST_RECODED, min(_WINDOW, least))


def _forms(number: int, value: str) -> Iterator[tuple[int, Sought]]:
    """What is looked for of a value, with the length of its windows."""
    raw = value.encode()
    if len(raw) < SHORTEST_RECODED:
        for text in {raw, unescaped(raw)}:
            yield len(text), Sought(number, text, 0)
        return
    wide = 1 if value.isascii() else 2
    others = (text for text in _in_other_charsets(value) if len(text) >= SHORTEST_RECODED)
    for text in dict.fromkeys((raw, unescaped(raw), *others)):
        folded, found = text.translate(_FOLD), False
        for start, end in _parts(text.decode("latin-1")):
            public, window = _public(text[start:end].decode("latin-1"))
            length = window * wide
            for at in range(start + public, end - length + 1):
                if _telling(text[at : at + length]):
                    found = True
                    yield length, Sought(number, folded, at)
        if not found:
            yield len(folded), Sought(number, folded, 0)


def _parts(value: str) -> Iterator[tuple[int, int]]:
    """From where to where the parts of `value` go, of each of which nothing is known to those who know the others."""
    credentials = _SCHEME.sub("", value)
    at = len(value) - len(credentials)
    if _is_text(credentials.partition(".")[0]):
        found = _PART_OF_TOKEN.finditer(value, at)
    elif _STRUCTURE.search(credentials):
        found = (_PART_OF_URL if "://" in credentials else _PART).finditer(value, at)
    else:
        yield 0, len(value)
        return
    for match in found:
        start, end = match.span()
        if match[0].replace("_", "").isalpha():
            continue  # a name
        if _is_text(match[0]):
            user, separator, _ = _decoded(match[0]).partition(b":")
            if not separator or b"{" in user:
                continue
            start += -(-4 * (len(user) + 1) // 3)
        yield start, end


def _is_text(part: str) -> bool:
    """Whether `part` is text in base64, such as JSON or `user:password`."""
    try:
        return len(part) >= _WINDOW and _decoded(part).decode().isprintable()
    except ValueError:
        return False


def _decoded(part: str) -> bytes:
    digits = part.rstrip("=")
    return b64decode(digits.translate(_STANDARD) + "=" * (-len(digits) % 4), validate=True)


def _in_other_charsets(value: str) -> Iterator[bytes]:
    """As its bytes come in readings of other charsets: of UTF-16 without NUL, of EBCDIC as if it were code page 037."""
    for read, taken_for in (("cp500", "cp037"), ("utf-8", "latin-1")):
        try:
            yield value.encode(read).decode(taken_for).encode()
        except UnicodeEncodeError:
            continue
    if not value.isascii():
        if max(value) <= "\xff":
            yield value.encode("latin-1")
        yield value.encode("utf-16-le").replace(b"\0", b"")
        yield value.encode("utf-16-be").replace(b"\0", b"")


def _public(value: str) -> tuple[int, int]:
    """How many characters of `value` its readers know, the beginning of its kind; and how long a window behind is."""
    found = _BEGINNING.match(value)
    end = found.end() if found else 0
    window = _window(value[end:])
    return (end, window) if window < _WINDOW_OF_WORDS else (0, _window(value))


def _window(rest: str) -> int:
    if not any(map(str.isalpha, rest)):
        return _WINDOW_OF_DIGITS
    words = not any(map(str.isdigit, rest)) and (rest.lower() == rest or rest.upper() == rest)
    return _WINDOW_OF_WORDS if words else _WINDOW


def _telling(window: bytes) -> bool:
    """Whether nobody can guess `window`."""
    for common in _COMMON:
        for size in range(len(common), _MOST_COMMON, -1):
            parts = (common[at : at + size].encode() for at in range(len(common) - size + 1))
            if any(part in window for part in parts):
                return False
    return len(set(window.lower())) >= _DIFFERENT
