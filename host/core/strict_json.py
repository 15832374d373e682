"""JSON from untrusted sources, read within bounds: strictly, where it decides something here; as other readers do,
where it is somebody else's and only passes through."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]  # which typeshed does not list
from math import isfinite
from typing import Any, Final, Self, TypeAlias

from host.errors import InputError

Json: TypeAlias = Any

MAX_DEPTH = 200  # a walk through a value takes two frames a level, of Python's 1,000

MAX_VALUES = 5_000_000  # a list of lists takes some thirty times its text's size

_FOREIGN_VALUES = 8_000_000  # embeddings of a full request are 6.3 million numbers

_FOREIGN_DEPTH = 400  # of what nobody walks through: it is parsed and written

_MOST_DIGITS = 4_000  # of a whole number: Python refuses longer ones

_NESTS = (dict, list, tuple)  # made once: a union of types takes longer to make than to ask

_LONG = 256 * 1024  # characters: from there on a text is read in pieces, if there is anybody to ask in between

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[,\[{]', re.DOTALL)  # a string, which need not end, or a separator
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]+")


def parse_json(
    text: str | bytes,
    what: str,
    *,
    most: int = MAX_VALUES,
    names_once: bool = False,
    check: Callable[[], object] | None = None,
    decode: Callable[[str], Json] | None = None,
) -> Json:
    """The value of `text`, JSON by RFC 8259. Raises InputError, in which `what` names the text.

    NaN, nesting beyond MAX_DEPTH, numbers that are too long and more than `most` values are errors too. A lone
    surrogate becomes U+FFFD, so that the value can be encoded and printed. With `names_once` a name that one object has
    twice is an error as well: readers differ in which of the two they take, so a text that decides something must not
    have it. A long text is read in pieces, before each of which `check` is called: it may raise whatever ends the
    reading. `decode` reads in place of the library's decoder.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        if check is not None and len(decoded) > _LONG and not names_once:
            return _in_pieces(decoded, what, most, check)
        if len(decoded) > most:
            _check_values(decoded, what, most)
        if names_once:
            decode = _decoder(_names_once(what)).decode
        value = (decode or _DECODE)(decoded)
    except (ValueError, RecursionError) as error:
        raise _unreadable(error, what) from None
    if decoded.count("[") + decoded.count("{") > MAX_DEPTH:
        check_depth(value, what)
    if "\\u" not in decoded and decoded.isascii():
        return value
    return _cleaned(value) if _may_be_lone(decoded) or not _encodable(decoded) else value


def _unreadable(error: ValueError | RecursionError, what: str) -> InputError:
    match error:
        case json.JSONDecodeError():
            return InputError(f"{what} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}")
        case UnicodeDecodeError():
            return InputError(f"{what} is not UTF-8")
        case RecursionError():
            return InputError(f"{what} is not JSON that can be read: it is nested too deeply")
    return InputError(f"{what} is not JSON that can be read: a number in it is too long or not finite")


def _in_pieces(text: str, what: str, most: int, check: Callable[[], object]) -> Json:
    from host.core.json_pieces import PieceReader  # noqa: PLC0415 - most texts are short

    unclean = _may_be_lone(text) or not _encodable(text)
    left = most

    def finish(value: Json, depth: int) -> Json:
        nonlocal left
        left -= check_depth(value, what, depth) if isinstance(value, _NESTS) else 1
        if left < 0:
            raise _too_many(what, most)
        return _cleaned(value) if unclean else value

    return PieceReader(text, check=check, scan=_SCAN, finish=finish, depth=MAX_DEPTH).read()


def foreign_text(document: str | bytes) -> str:
    """The text of somebody else's JSON: in UTF-8, UTF-16 or UTF-32, with a byte order mark or without, and else in
    Latin-1."""
    if isinstance(document, str):
        return document.removeprefix("\ufeff")
    try:
        return document.decode(json.detect_encoding(document))
    except UnicodeDecodeError:
        return document.decode("latin-1")


def parse_foreign(document: str | bytes, what: str) -> Json:
    """The value of somebody else's document, which may hold what other readers take and RFC 8259 has not: NaN and
    infinity, numbers of any length and size (as floats), and control characters in strings. Raises InputError for what
    is no JSON, for more than 8 million values and for more than 400 levels."""
    text = foreign_text(document)
    try:
        if len(text) > _FOREIGN_VALUES:
            _check_values(text, what, _FOREIGN_VALUES)
        value = _FOREIGN.decode(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(error, what) from None
    check_depth(value, what, _FOREIGN_DEPTH)
    return _cleaned(value) if _may_be_lone(text) or not _encodable(text) else value


def survey(document: str | bytes, what: str, check: Callable[[], object]) -> Json:
    """What is short of a document that `parse_foreign` would take, or would but for its size: for one that is handed on
    unread. Lists of numbers, and what is longer than a window of PieceReader, come out shortened or empty. Raises
    InputError for what is no JSON."""
    from host.core.json_pieces import PieceReader, without_numbers  # noqa: PLC0415 - most texts are short

    text = without_numbers(foreign_text(document), check)
    try:
        reader = PieceReader(text, check=check, scan=_FOREIGN.scan_once, finish=_kept, depth=MAX_DEPTH, keep=False)  # type: ignore[attr-defined]
        value = reader.read()
    except json.JSONDecodeError as error:
        raise _unreadable(error, what) from None
    except (ValueError, RecursionError):  # too deep, or a number that is longer than a window
        return None
    entries = value.items() if isinstance(value, dict) else ()
    return {name: one for name, one in entries if not _is_deep(one)} if isinstance(value, dict) else value


def _kept(value: Json, _depth: int) -> Json:
    return value


def _is_deep(value: Json) -> bool:
    try:
        check_depth(value, "it", MAX_DEPTH - 1)
    except InputError:
        return True
    return False


def parse_object(
    text: str | bytes,
    what: str,
    *,
    most: int = MAX_VALUES,
    names_once: bool = False,
    check: Callable[[], object] | None = None,
) -> dict[str, Json]:
    """Like `parse_json`, for text that has to be a JSON object."""
    value = parse_json(text, what, most=most, names_once=names_once, check=check)
    if not isinstance(value, dict):
        raise InputError(f"{what} is a JSON {kind_of(value)}, not an object")
    return value


class WrittenObject(dict[str, Json]):
    """A JSON object that knows how it was written: numbers, blanks, the order of names. `WrittenObject.read` reads one.
    It may change like any dict. `text` is as it was written as far as a value is the very one that was read."""

    __slots__ = ("_spans", "_text", "_was")

    def __init__(
        self, values: Mapping[str, Json], text: str, was: Mapping[str, Json], spans: Mapping[str, tuple[int, int]]
    ) -> None:
        """`spans` say where the values in `was` stand in `text`."""
        super().__init__(values)
        self._text = text
        self._was = was
        self._spans = spans

    @classmethod
    def read(cls, text: str | bytes, what: str, *, most: int = MAX_VALUES) -> Self:
        """Like `parse_object`. A name that an object has twice is an error: readers differ in which one they take, and
        the text goes to another reader."""
        reader = _MemberReader(what)
        value = parse_json(text, what, most=most, decode=reader.decode)
        if not isinstance(value, dict):
            raise InputError(f"{what} is a JSON {kind_of(value)}, not an object")
        return cls(value, reader.text, value, reader.spans)

    def changed(self, values: Mapping[str, Json]) -> Self:
        """An object with these values. It knows how this one was written."""
        return type(self)(values, self._text, self._was, self._spans)

    def part(self, name: str) -> str:
        """The text of the value of `name`, as it was read."""
        begin, end = self._spans[name]
        return self._text[begin:end]

    def within(self, name: str, what: str) -> WrittenObject | None:
        """The object that `name` has, with its own text; None where it has none. Raises InputError."""
        return WrittenObject.read(self.part(name), what) if isinstance(self._was.get(name), dict) else None

    def was(self, name: str, default: Json = None) -> Json:
        """The value of `name` that was read; `default` where there was none."""
        return self._was.get(name, default)

    def text(self) -> str:
        """Raises TypeError, ValueError for values that JSON has not."""
        was, spans = self._was, self._spans
        kept = []
        for name, value in self.items():
            if name in spans and value is was.get(name, spans):
                kept.append(name)
        if len(kept) == len(self) == len(was):
            return self._text
        unchanged = set(kept)
        names = [*(name for name in was if name in self), *(name for name in self if name not in was)]
        parts = [
            f"{write_strictly(name)}:{self.part(name) if name in unchanged else write_strictly(self[name])}"
            for name in names
        ]
        return "{" + ",".join(parts) + "}"


def as_written(values: Mapping[str, Json], like: Mapping[str, Json]) -> Mapping[str, Json]:
    """`values`, which know how they were written where `like` does."""
    return like.changed(values) if isinstance(like, WrittenObject) else values


class _MemberReader:
    """Reads an object, and where the value of each of its names stands."""

    def __init__(self, what: str) -> None:
        self.text = ""
        self.spans: dict[str, tuple[int, int]] = {}
        self._what = what

    def decode(self, text: str) -> Json:
        """The value of `text`. Raises JSONDecodeError, ValueError; InputError for a name that is there twice."""
        self.text = text
        at = _BLANK(text, 0).end()
        if text[at : at + 1] != "{":
            return _DECODE(text)
        value: dict[str, Json] = {}
        at = _BLANK(text, at + 1).end()
        more = text[at : at + 1] != "}"
        while more:
            if text[at : at + 1] != '"':
                raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
            name, at = scanstring(text, at + 1, True)
            at = _BLANK(text, at).end()
            if text[at : at + 1] != ":":
                raise json.JSONDecodeError("Expecting ':' delimiter", text, at)
            begin = _BLANK(text, at + 1).end()
            try:
                one, end = _SCAN_ONCE(text, begin)
            except StopIteration as error:
                raise json.JSONDecodeError("Expecting value", text, error.value) from None
            except _Twice as error:
                raise _twice(self._what, error.name) from None
            if name in value:
                raise _twice(self._what, name)
            value[name], self.spans[name] = one, (begin, end)
            at = _BLANK(text, end).end()
            more = text[at : at + 1] == ","
            if more:
                at = _BLANK(text, at + 1).end()
            elif text[at : at + 1] != "}":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        if (end := _BLANK(text, at + 1).end()) != len(text):
            raise json.JSONDecodeError("Extra data", text, end)
        return value


def check_depth(value: Json, what: str, most: int = MAX_DEPTH) -> int:
    """The number of values in the lists and objects of `value`. Raises InputError where it is nested more than `most`
    deep: some 1,600 levels end a Python guest without a word."""
    level: list[Json] = [value] if isinstance(value, _NESTS) else []
    found = 0
    for _ in range(most):
        found += sum(map(len, level))
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, _NESTS)
        ]
        if not level:
            return found
    raise InputError(f"{what} is nested more than {most} levels deep")


def write_json(value: Json) -> str:
    """Compact JSON that can be encoded as UTF-8. The value is one that `parse_json` could have made."""
    return _ENCODE(value)


def json_bytes(value: Json) -> bytes:
    """`write_json` as UTF-8, with `?` in place of lone surrogates, which values have that are not from `parse_json`."""
    return _ENCODE(value).encode("utf-8", "replace")


def clean_text(text: str) -> str:
    """`text` with U+FFFD in place of lone surrogates, which UTF-8 cannot hold."""
    return text if _encodable(text) else _LONE_SURROGATE.sub(lambda lone: "\ufffd" * len(lone[0]), text)


def kind_of(value: Json) -> str:
    """JSON's name for the type of `value`."""
    names = {
        list: "array",
        str: "string",
        bool: "boolean",
        int: "number",
        float: "number",
        type(None): "null",
        dict: "object",
    }
    return names.get(type(value), type(value).__name__)


def count_values(text: str | bytes) -> int:
    """At most so many values are in the JSON text; fewer where its strings have commas and brackets."""
    if isinstance(text, bytes):
        return text.count(b",") + text.count(b"[") + text.count(b"{") + 1
    return text.count(",") + text.count("[") + text.count("{") + 1


def _check_values(text: str, what: str, most: int) -> None:
    """Raises InputError where `text` would be more than `most` values: before there are any."""
    if count_values(text) - 1 <= most:
        return
    separators = strings = 0
    for found in _TOKEN.finditer(text):
        if text[found.start()] == '"':
            strings += 1  # each is a value or a name
        else:
            separators += 1
        if separators > most or strings > 2 * most + 1:
            raise _too_many(what, most)


def _too_many(what: str, most: int) -> InputError:
    return InputError(f"{what} has more than {most} values", hint="send it in several parts")


def _may_be_lone(text: str) -> bool:
    """Whether there is an escape of a surrogate, alone or one of a pair."""
    return "\\ud" in text or "\\uD" in text


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cleaned(value: Json) -> Json:
    """`value` without lone surrogates, in its names too. Two frames a level."""
    match value:
        case str():
            return clean_text(value)
        case dict():
            return {clean_text(name): _cleaned(inner) for name, inner in value.items()}
        case list():
            return [_cleaned(inner) for inner in value]
    return value


def _names_once(what: str) -> Callable[[list[tuple[str, Json]]], dict[str, Json]]:
    def named(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for given, value in pairs:
            name = clean_text(given)  # as `parse_json` hands it on
            if name in found:
                raise _twice(what, name)
            found[name] = value
        return found

    return named


class _Twice(Exception):
    """A name that one object has twice."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _each_once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise _Twice(next(name for name, count in names.items() if count > 1))
    return found


def _twice(what: str, name: str) -> InputError:
    name = clean_text(name[:80])
    return InputError(f"{what} has {name!r} twice in one object", field=name)


def _decoder(pairs: Callable[[list[tuple[str, Json]]], dict[str, Json]] | None = None) -> json.JSONDecoder:
    return json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=pairs)


def _no_constant(name: str) -> Json:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(text)
    return value


def _whole(text: str) -> int | float:
    return int(text) if len(text) <= _MOST_DIGITS else float(text)


_FOREIGN = json.JSONDecoder(parse_int=_whole, strict=False)
_BLANK: Callable[[str, int], Any] = re.compile(r"[ \t\n\r]*+").match
write_strictly = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_SCAN_ONCE = _decoder(_each_once).scan_once  # type: ignore[attr-defined]  # as below
_SCAN = _decoder().scan_once  # type: ignore[attr-defined]  # the library's own; typeshed does not list it
_DECODE = _decoder().decode  # made once: making one takes as long as reading a short text
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


_NOT_SAID: Final = object()


def write_body(params: Mapping[str, Json], outside: Collection[str], *, stream: bool, streams: bool) -> str:
    """The JSON body for `params`, without those that are `outside` it: as they were written, as far as that is known.
    With `stream` it asks for events, where the operation `streams`. Raises InputError for values that JSON has not."""
    written = params if isinstance(params, WrittenObject) else None
    body: Mapping[str, Json] = params
    if outside:
        body = {name: one for name, one in params.items() if name not in outside}
    said = _NOT_SAID if written is None else written.was("stream", _NOT_SAID)
    if said is not _NOT_SAID and "stream" not in body and (said is True) == stream:
        body = {**body, "stream": said}
    elif stream and streams:
        body = {**body, "stream": True}
    try:
        if written is None:
            return write_strictly(body)
        return (written if body is params else written.changed(body)).text()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the input is not JSON: {error}") from None
