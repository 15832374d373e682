"""JSON from untrusted sources, read within bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import isfinite
from typing import Any, TypeAlias

from host.errors import InputError

Json: TypeAlias = Any

MAX_DEPTH = 200  # a walk through a value takes two frames a level, of Python's 1,000

MAX_VALUES = 5_000_000  # a list of lists takes some thirty times its text's size

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
    keep: bool = True,
) -> Json:
    """The value of `text`, JSON by RFC 8259. Raises InputError, in which `what` names the text.

    NaN, nesting beyond MAX_DEPTH, numbers that are too long and more than `most` values are errors too. A lone
    surrogate becomes U+FFFD, so that the value can be encoded and printed. With `names_once` a name that one object has
    twice is an error as well: readers differ in which of the two they take, so a text that decides something must not
    have it. A long text is read in pieces, before each of which `check` is called: it may raise whatever ends the
    reading. Without `keep` a long text is checked, and what comes out is short: see PieceReader.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        if check is not None and len(decoded) > _LONG and not names_once:
            return _in_pieces(decoded, what, most, check, keep=keep)
        if len(decoded) > most:
            _check_values(decoded, what, most)
        value = _decoder(_names_once(what)).decode(decoded) if names_once else _DECODE(decoded)
    except json.JSONDecodeError as error:
        raise InputError(f"{what} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError:
        raise InputError(f"{what} is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        reason = (
            "it is nested too deeply"
            if isinstance(error, RecursionError)
            else "a number in it is too long or not finite"
        )
        raise InputError(f"{what} is not JSON that can be read: {reason}") from None
    if decoded.count("[") + decoded.count("{") > MAX_DEPTH:
        check_depth(value, what)
    if "\\u" not in decoded and decoded.isascii():
        return value
    return _cleaned(value) if _may_be_lone(decoded) or not _encodable(decoded) else value


def _in_pieces(text: str, what: str, most: int, check: Callable[[], object], *, keep: bool) -> Json:
    from host.core.json_pieces import PieceReader  # noqa: PLC0415 - most texts are short

    unclean = _may_be_lone(text) or not _encodable(text)
    left = most

    def finish(value: Json, depth: int) -> Json:
        nonlocal left
        left -= check_depth(value, what, depth) if isinstance(value, _NESTS) else 1
        if left < 0:
            raise _too_many(what, most)
        return _cleaned(value) if unclean else value

    return PieceReader(text, check=check, scan=_SCAN, finish=finish, depth=MAX_DEPTH, keep=keep).read()


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
                raise InputError(f"{what} has {name[:80]!r} twice in one object", field=name[:80])
            found[name] = value
        return found

    return named


def _decoder(pairs: Callable[[list[tuple[str, Json]]], dict[str, Json]] | None = None) -> json.JSONDecoder:
    return json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=pairs)


def _no_constant(name: str) -> Json:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(text)
    return value


_SCAN = _decoder().scan_once  # type: ignore[attr-defined]  # the library's own; typeshed does not list it
_DECODE = _decoder().decode  # made once: making one takes as long as reading a short text
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
