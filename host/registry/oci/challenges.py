"""What a server asks for when it answers 401: the field `WWW-Authenticate` (RFC 9110, section 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_MAX_FIELD = 8 * 1024
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?=[\s,]|$)")
_PARAMETER = re.compile(rf"[\s,]*({_WORD})\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|({_WORD}))")
_ESCAPE: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """`scheme` and the names of `parameters` are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(fields: Iterable[str]) -> tuple[Challenge, ...]:
    """Those in the given values of the field, in order. What is not one ends the reading of its value."""
    return tuple(found for field in fields for found in _in_one(field[:_MAX_FIELD]))


def _in_one(field: str) -> Iterable[Challenge]:
    at = 0
    while scheme := _SCHEME.match(field, at):
        at = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(field, at):
            at = parameter.end()
            quoted, word = parameter[2], parameter[3]
            value = _ESCAPE.sub(r"\1", quoted) if quoted is not None else word
            parameters.setdefault(parameter[1].lower(), value)
        yield Challenge(scheme[1].lower(), parameters)
