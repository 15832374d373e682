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

_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # one that does not end too: so it never starts again
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


def parse_json(text: str | bytes, what: str, *, most: int = MAX_VALUES, names_once: bool = False) -> Json:
    """The value of `text`, JSON by RFC 8259. Raises InputError, in which `what` names the text.

    NaN, nesting beyond MAX_DEPTH, numbers that are too long and more than `most` values are errors too. A lone
    surrogate becomes U+FFFD, so that the value can be encoded and printed. With `names_once` a name that one object has
    twice is an error as well: readers differ in which of the two they take, so a text that decides something must not
    have it.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
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
    if _SURROGATE_ESCAPE.search(decoded) or not _encodable(decoded):
        return json.loads(clean_text(json.dumps(value, ensure_ascii=False)))
    return value


def parse_object(text: str | bytes, what: str, *, most: int = MAX_VALUES, names_once: bool = False) -> dict[str, Json]:
    """Like `parse_json`, for text that has to be a JSON object."""
    value = parse_json(text, what, most=most, names_once=names_once)
    if not isinstance(value, dict):
        raise InputError(f"{what} is a JSON {kind_of(value)}, not an object")
    return value


def check_depth(value: Json, what: str, most: int = MAX_DEPTH) -> None:
    """Raises InputError where `value` is nested more than `most` deep: some 1,600 levels end a Python guest without a
    word."""
    level: list[Json] = [value] if isinstance(value, _NESTS) else []
    for _ in range(most):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, _NESTS)
        ]
        if not level:
            return
    raise InputError(f"{what} is nested more than {most} levels deep")


def write_json(value: Json) -> str:
    """Compact JSON that can be encoded as UTF-8. The value is one that `parse_json` could have made."""
    return _ENCODE(value)


def clean_text(text: str) -> str:
    """`text` with U+FFFD in place of lone surrogates, which UTF-8 cannot hold."""
    return text if _encodable(text) else _LONE_SURROGATE.sub("\ufffd", text)


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


def _check_values(text: str, what: str, most: int) -> None:
    """Raises InputError where `text` would be more than `most` values: before there are any."""
    if _separators(text) > most and _separators(_STRING.sub("", text)) > most:
        raise InputError(f"{what} has more than {most} values")


def _separators(text: str) -> int:
    return text.count(",") + text.count("[") + text.count("{")


def _encodable(text: str) -> bool:
    return text.isascii() or not _LONE_SURROGATE.search(text)


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


_DECODE = _decoder().decode  # made once: making one takes as long as reading a short text
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
