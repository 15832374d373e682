"""Keywords that say what a value itself has to be (JSON Schema, draft 2020-12, Validation, 6).

`format` and what describes content are annotations there, and none of a check's business here either.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeGuard

from host.component.schema import words
from host.component.schema.checking import NONE, Keys, Node, Pass, Path, Words
from host.core.strict_json import Json

if TYPE_CHECKING:
    from host.component.schema.document import Reader

Add: TypeAlias = "Callable[[Reader, Node, Mapping[str, Json], str], None]"
"""Puts the rule of a keyword that a schema has into the node that is made of it; the text says where the schema is, for
the ManifestError that a malformed keyword raises."""


def is_number(value: Json) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: Json) -> bool:
    return is_number(value) and value == int(value)


def is_count(value: Json) -> bool:
    return is_whole(value) and value >= 0


def is_text(value: Json) -> TypeGuard[str]:
    return isinstance(value, str)


def is_list(value: Json) -> TypeGuard[Sequence[Json]]:
    return isinstance(value, list | tuple)


def is_object(value: Json) -> TypeGuard[dict[str, Json]]:
    return isinstance(value, dict)


_IS: Mapping[str, Callable[[Json], bool]] = {
    "string": is_text,
    "integer": is_whole,
    "number": is_number,
    "boolean": lambda value: isinstance(value, bool),
    "array": is_list,
    "object": is_object,
    "null": lambda value: value is None,
}

_PLAIN: Mapping[str, tuple[type, ...]] = {  # what is of a type without a test: nearly every value that is right
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}


class _Bound(NamedTuple):
    """`on` are the values that a keyword speaks of, `takes` what its own value has to be."""

    on: Callable[[Json], bool]
    takes: Callable[[Json], bool]
    holds: Callable[[Any, Any], bool]
    words: str


def _at_least(value: Sequence[Json], least: int) -> bool:
    return len(value) >= least


def _at_most(value: Sequence[Json], most: int) -> bool:
    return len(value) <= most


def _is_multiple(value: float, of: float) -> bool:
    from fractions import Fraction  # noqa: PLC0415 - imports decimal, and few schemas need it

    return Fraction(str(value)) % Fraction(str(of)) == 0


_BOUNDS = {
    "minimum": _Bound(is_number, is_number, operator.ge, "has to be {} or more"),
    "maximum": _Bound(is_number, is_number, operator.le, "has to be {} or less"),
    "exclusiveMinimum": _Bound(is_number, is_number, operator.gt, "has to be more than {}"),
    "exclusiveMaximum": _Bound(is_number, is_number, operator.lt, "has to be less than {}"),
    "multipleOf": _Bound(is_number, lambda of: is_number(of) and of > 0, _is_multiple, "has to be a multiple of {}"),
    "minLength": _Bound(is_text, is_count, _at_least, "has to have {} or more characters"),
    "maxLength": _Bound(is_text, is_count, _at_most, "has to have {} or fewer characters"),
    "minItems": _Bound(is_list, is_count, _at_least, "has to have {} or more items"),
    "maxItems": _Bound(is_list, is_count, _at_most, "has to have {} or fewer items"),
    "minProperties": _Bound(is_object, is_count, _at_least, "has to have {} or more fields"),
    "maxProperties": _Bound(is_object, is_count, _at_most, "has to have {} or fewer fields"),
}


def _bound(keyword: str) -> Add:
    bound = _BOUNDS[keyword]

    def add(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
        given = schema[keyword]
        if not bound.takes(given):
            raise reader.wrong(f"{where}.{keyword}", "a number that makes sense there")

        said = bound.words.format(words.shown(given))

        def rule(value: Json, at: Path, run: Pass) -> Keys:
            if bound.on(value) and not bound.holds(value, given):
                run.mistake(at, said)
            return NONE

        node.add(rule)

    return add


def _type(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    given = schema["type"]
    types = tuple(given) if is_list(given) else (given,)
    if not types or not all(is_text(one) and one in _IS for one in types):
        raise reader.wrong(f"{where}.type", f"one of {', '.join(_IS)}, or a list of them")
    tests = [_IS[one] for one in types]
    plain = frozenset(one for name in types for one in _PLAIN[name])

    def rule(value: Json, at: Path, run: Pass) -> Keys:
        if type(value) not in plain and not any(test(value) for test in tests):
            run.mistake(at, lambda: words.not_of_type(value, types), types)
        return NONE

    node.add(rule)


def _enum(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    options = reader.items(schema["enum"], f"{where}.enum")
    _one_of(node, options, lambda value: lambda: words.none_of(value, options))


def _const(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    del reader, where
    only = schema["const"]
    said = f"has to be {words.shown(only)}"
    _one_of(node, [only], lambda value: said)  # noqa: ARG005 - unlike in a list, the value is not shown


def _one_of(node: Node, options: Sequence[Json], said: Callable[[Json], Words]) -> None:
    known = frozenset(map(canonical, options))
    scalar = not any(is_object(one) or is_list(one) for one in options)

    def rule(value: Json, at: Path, run: Pass) -> Keys:
        hopeless = scalar and (is_object(value) or is_list(value))
        if hopeless or counted_canonical(value, run) not in known:
            run.mistake(at, said(value))
        return NONE

    node.add(rule)


def _required(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    names = reader.names(schema["required"], f"{where}.required")

    def rule(value: Json, at: Path, run: Pass) -> Keys:
        if is_object(value):
            for name in names:
                if name not in value:
                    run.mistake((at, name), "is required")
        return NONE

    node.add(rule, 1 + len(names) // 8)


def _dependent_required(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    place = f"{where}.dependentRequired"
    given = reader.table(schema["dependentRequired"], place)
    needs_of = {name: reader.names(one, f"{place}.{words.name(name)}") for name, one in given.items()}
    node.add(required_beside(needs_of), 1 + sum(map(len, needs_of.values())) // 8)


def required_beside(needs_of: Mapping[str, Sequence[str]]) -> Callable[[Json, Path, Pass], Keys]:
    def rule(value: Json, at: Path, run: Pass) -> Keys:
        for name, needs in needs_of.items() if is_object(value) else ():
            for needed in needs if name in value else ():
                if needed not in value:
                    run.mistake((at, needed), f"is required beside {words.name(name)}")
        return NONE

    return rule


def _unique_items(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    def rule(value: Json, at: Path, run: Pass) -> Keys:
        seen: set[str] = set()
        for index, one in enumerate(value if is_list(value) else ()):
            text = counted_canonical(one, run)
            if text in seen:
                run.mistake((at, index), "is there twice")
                break
            seen.add(text)
        return NONE

    if reader.flag(schema["uniqueItems"], f"{where}.uniqueItems"):
        node.add(rule)


def _pattern(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    holds = reader.pattern(schema["pattern"], f"{where}.pattern")
    said = f"does not match the pattern {words.shown(schema['pattern'])}"

    def rule(value: Json, at: Path, run: Pass) -> Keys:
        if is_text(value) and not holds(value, run):
            run.mistake(at, said)
        return NONE

    node.add(rule)


ASSERTIONS: Mapping[str, Add] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    **{keyword: _bound(keyword) for keyword in _BOUNDS},
    "required": _required,
    "dependentRequired": _dependent_required,
    "uniqueItems": _unique_items,
    "pattern": _pattern,
}


def canonical(value: Json) -> str:
    """One text for all that JSON Schema calls equal: 1 and 1.0, objects in any order. Texts in a set can't be made to
    collide, as numbers can."""
    if type(value) is str:
        return f'"{value}'  # unlike every other value's, and cheaper than JSON
    return json.dumps(_plain(value), sort_keys=True)


def counted_canonical(value: Json, run: Pass) -> str:
    text = canonical(value)
    run.spend(4 + (len(text) >> 5))
    return text


def _plain(value: Json) -> Json:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if is_object(value):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if is_list(value) else value
