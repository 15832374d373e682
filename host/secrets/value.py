"""Secret values that do not print, and the placeholders that stand for them until a request leaves.

Keys of well-known services are known by how they begin: to warn of a wrong value, and to show a little of a value.
"""

from __future__ import annotations

import hmac
import json
import math
import re
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import quote, quote_plus

from host.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from host.core.names import SecretName


OPERATOR: Final = "operator"  # in the vault, the owner of the secrets that components may be granted

_UNUSABLE = re.compile("[\0-\x1f\x7f\ud800-\udfff]")  # not in a header (RFC 9110, section 5.5); not in UTF-8
PLACEHOLDER_PREFIX: Final = "host-secret-"
_MOST_USES = 1_000  # of placeholders in one text: a body full of them would become a hundred times as long
_PLACEHOLDER = re.compile(PLACEHOLDER_PREFIX.encode() + b"[0-9a-f]{32}")


class Unspoken:
    """Its repr and format show the type's name only; it does not pickle."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __format__(self, format_spec: str) -> str:
        return repr(self)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be pickled")


class SecretValue(Unspoken):
    """The text of a secret, which only `reveal` returns. A copy is the value itself; it is not hashable.

    Raises InputError, without the text, if it is empty, begins or ends in white space (servers drop that from a header,
    and would echo a text that redaction does not look for), or holds a control character or a lone surrogate.
    """

    __slots__ = ("_text",)
    __hash__ = None  # type: ignore[assignment]  # how Python says "not hashable"

    def __init__(self, text: str) -> None:
        if not text:
            raise InputError("a secret's value is empty")
        if text != text.strip() or _UNUSABLE.search(text):
            raise InputError("a secret's value begins or ends in white space, or holds a control character")
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
    return PLACEHOLDER_PREFIX + secrets.token_hex(16)


@dataclass(slots=True)
class Placeholders:
    """The placeholders of one run: `names` has placeholder -> name of the secret, `by_name` the reverse."""

    names: dict[str, str] = field(default_factory=dict)
    by_name: dict[str, str] = field(default_factory=dict)

    def bind(self, name: str, placeholder: str) -> None:
        self.names[placeholder] = name
        self.by_name[name] = placeholder


class Substitution(Unspoken):
    """Puts values in place of placeholders, for one request: `bindings` has the ones that may go to its target.

    Every method returns the text and the placeholders that it used. It passes over a text once, so a value that looks
    like a placeholder stays as it is. A placeholder without a binding stays too, and so does any after the first
    thousand of a text. Raises ValueError for a key that is not a placeholder.
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
        """A body: values are written as in a JSON string or a form's field if `content_type` says that it is one."""
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type == "application/json" or media_type.endswith("+json"):
            return self._apply(data, lambda value: json.dumps(value)[1:-1])
        if media_type == "application/x-www-form-urlencoded":
            return self._apply(data, quote_plus)
        return self._apply(data, str)

    def _apply_to_text(self, text: str, spell: Callable[[str], str]) -> tuple[str, frozenset[str]]:
        if PLACEHOLDER_PREFIX not in text:
            return text, frozenset()
        data, used = self._apply(text.encode("utf-8", "surrogatepass"), spell)
        return data.decode("utf-8", "surrogatepass"), used

    def _apply(self, data: bytes, spell: Callable[[str], str]) -> tuple[bytes, frozenset[str]]:
        used = self._values.keys() & set(_PLACEHOLDER.findall(data))
        spelt = {placeholder: spell(self._values[placeholder].reveal()).encode() for placeholder in used}
        if used:
            data = _PLACEHOLDER.sub(lambda match: spelt.get(match[0], match[0]), data, count=_MOST_USES)
        return data, frozenset(placeholder.decode() for placeholder in used)


ENOUGH_BITS: Final = 60
"""Below this a secret is weak: one answer of a server can test a million guesses."""

_COMMON = re.compile(
    "password|passwort|passwd|secret|admin|letmein|welcome|qwerty|changeme|iloveyou|login", re.IGNORECASE
)
_REPEATED = re.compile(r"(.{1,64}?)\1+", re.DOTALL)
_CLASSES = (
    (re.compile("[a-z]"), 26),
    (re.compile("[A-Z]"), 26),
    (re.compile("[0-9]"), 10),
    (re.compile("[^a-zA-Z0-9]"), 33),
)
_HEX = re.compile("[0-9a-f]+|[0-9A-F]+")


def guessing_bits(value: SecretValue) -> int:
    """An estimate of how hard the value is to guess, in bits: the number of its characters behind the known beginning,
    times the bits of the alphabet that they are from. A character that goes on a row (`aaaa`, `0123`) counts a quarter,
    a common word one character, a part that repeats once. An upper bound: a sentence has less."""
    text = value.reveal()
    text = text.removeprefix((_match(text) or ("", ""))[1])[:_MOST_WEIGHED]
    if repeated := _REPEATED.fullmatch(text):
        text = repeated[1]
    alphabet = 16 if _HEX.fullmatch(text) else sum(size for used, size in _CLASSES if used.search(text))
    text = _COMMON.sub("\0", text)
    steps = [ord(after) - ord(before) for before, after in pairwise(text)]
    in_rows = sum(before == after and abs(after) <= 1 for before, after in pairwise(steps))
    return int((len(text) - 0.75 * in_rows) * math.log2(alphabet)) if text else 0


def weakness(value: SecretValue) -> str | None:
    """Why `value` is weak, without any part of it; None if it is not."""
    bits = guessing_bits(value)
    if bits >= ENOUGH_BITS:
        return None
    return (
        f"it is weak: about {bits} bits behind a known beginning, and not {ENOUGH_BITS}. It is not protected from a "
        "catalyst that makes a server test guesses; of a short one, base64 and the like are not found in answers"
    )


def require_strong(name: SecretName, value: SecretValue, hint: str) -> None:
    """Raises InputError for a weak value, with `hint` to keep it all the same."""
    if why := weakness(value):
        raise InputError(f"{name}: {why}", field=str(name), hint=hint)


_MOST_WEIGHED: Final = 256  # characters
_LONG_ENOUGH: Final = 20  # characters behind the beginning of a kind: its last four say little then

_BEGINNINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "ANTHROPIC_API_KEY": ("sk-ant-",),
    "GITHUB_TOKEN": ("ghp_", "gho_", "ghs_", "ghu_", "github_pat_"),
    "GROQ_API_KEY": ("gsk_",),
    "HF_TOKEN": ("hf_",),
    "OPENAI_API_KEY": ("sk-",),
    "OPENROUTER_API_KEY": ("sk-or-",),
    "XAI_API_KEY": ("xai-",),
}


def kind_of(text: str) -> str | None:
    """The kind of key whose beginning `text` has. The longest beginning decides: `sk-ant-` before `sk-`."""
    found = _match(text)
    return found and found[0]


def looks_like_key(text: str) -> str | None:
    """The kind of key that `text` probably is: it has the beginning, a key's length, and a digit."""
    kind = kind_of(text)
    return kind if kind and len(text) >= _LONG_ENOUGH and any(map(str.isdigit, text)) else None


def doubt(name: SecretName, value: SecretValue) -> str | None:
    """A warning where `name` names a known kind of key and `value` does not begin like one. It tells no part of it."""
    expected, kind = _BEGINNINGS.get(str(name)), kind_of(value.reveal())
    if expected is None or kind == str(name):
        return None
    return f"{name} usually begins with {' or '.join(expected)}; this " + (f"looks like {kind}" if kind else "does not")


def masked(value: SecretValue) -> str:
    """The beginning of its kind, and its last four characters if the rest is long enough to stay unknown."""
    text = value.reveal()
    _, beginning = _match(text) or ("", "")
    last = text[-4:] if len(text) - len(beginning) >= _LONG_ENOUGH else ""
    return f"{beginning}…{last}"


def _match(text: str) -> tuple[str, str] | None:
    """The kind, and its beginning."""
    found = [(kind, one) for kind, known in _BEGINNINGS.items() for one in known if text.startswith(one)]
    return max(found, key=lambda match: len(match[1]), default=None)
