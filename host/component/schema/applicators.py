"""Keywords that apply schemas, to a value itself or to what is in it (JSON Schema, draft 2020-12, Core, 10 and 11).

What older drafts spell otherwise is read as what became of it: a list in `items`, `additionalItems`, `dependencies`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from host.component.schema import words
from host.component.schema.assertions import Add, is_count, is_list, is_object, required_beside
from host.component.schema.checking import NONE, Keys, Mistake, Node, Pass, Path
from host.core.strict_json import Json

if TYPE_CHECKING:
    from host.component.schema.document import Reader


def _fields(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    named = reader.nodes_by_name(schema.get("properties", {}), f"{where}.properties")
    by_pattern = reader.nodes_by_name(schema.get("patternProperties", {}), f"{where}.patternProperties")
    patterned = [(reader.pattern(text, f"{where}.patternProperties"), one) for text, one in by_pattern.items()]
    others = schema.get("additionalProperties", True)
    rest = None if isinstance(others, bool) else reader.node(others, f"{where}.additionalProperties")
    told = "additionalProperties" in schema  # of every field

    def rule(value: Json, at: Path, run: Pass) -> Keys:
        if not is_object(value):
            return NONE
        seen: set[str | int] = set()
        for name in value if told or patterned or len(value) < len(named) else named:
            if name not in value:
                continue
            nodes = [one for holds, one in patterned if holds(name, run)]
            if name in named:
                nodes.append(named[name])
            if not nodes and others is False:
                run.mistake((at, name), words.not_known(name, named))
            elif not nodes and rest is not None:
                nodes.append(rest)
            for one in nodes:
                run.check(one, value[name], (at, name))
            if run.tracks and (nodes or told):
                seen.add(name)
        return seen

    node.add(rule, 1 + len(patterned))


def _property_names(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    names = reader.node(schema["propertyNames"], f"{where}.propertyNames")

    def rule(value: Json, at: Path, run: Pass) -> Keys:
        for name in value if is_object(value) else ():
            if run.attempt(names, name, (at, name))[0]:
                run.mistake((at, name), "has a name that is not allowed")
        return NONE

    node.add(rule)


def _dependent_schemas(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    _beside(node, reader.nodes_by_name(schema["dependentSchemas"], f"{where}.dependentSchemas"))


def _dependencies(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    place = f"{where}.dependencies"
    given = reader.table(schema["dependencies"], place)
    needs_of = {name: reader.names(one, f"{place}.{words.name(name)}") for name, one in given.items() if is_list(one)}
    node.add(required_beside(needs_of), 1 + sum(map(len, needs_of.values())) // 8)
    _beside(node, reader.nodes_by_name({name: one for name, one in given.items() if not is_list(one)}, place))


def _beside(node: Node, nodes: Mapping[str, Node]) -> None:
    node.same.extend(nodes.values())

    def rule(value: Json, at: Path, run: Pass) -> Keys:
        seen = NONE
        for name, one in nodes.items() if is_object(value) else ():
            if name in value:
                seen = seen | run.check(one, value, at)
        return seen

    node.add(rule, 1 + len(nodes) // 8)


def _items(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    listed, rest = "prefixItems", "items"
    if is_list(schema.get("items")):
        listed, rest = "items", "additionalItems"
    first = reader.nodes(schema.get(listed, []), f"{where}.{listed}")
    others = reader.node(schema[rest], f"{where}.{rest}") if rest in schema else None

    def rule(value: Json, at: Path, run: Pass) -> Keys:
        if not is_list(value):
            return NONE
        count = len(value) if others is not None else min(len(first), len(value))
        for index in range(count):
            one = first[index] if index < len(first) else others
            if one is not None:
                run.check(one, value[index], (at, index))
        return frozenset(range(count)) if run.tracks else NONE

    node.add(rule)


def _contains(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    wanted = reader.node(schema["contains"], f"{where}.contains")
    least, most = schema.get("minContains", 1), schema.get("maxContains")
    if not is_count(least) or not (most is None or is_count(most)):
        raise reader.wrong(f"{where}.contains", "between two numbers of items")

    def rule(value: Json, at: Path, run: Pass) -> Keys:
        if not is_list(value):
            return NONE
        found = frozenset(index for index, one in enumerate(value) if not run.attempt(wanted, one, (at, index))[0])
        if len(found) < least:
            run.mistake(at, f"has {len(found)} items of a form of which it has to have {least} or more")
        elif most is not None and len(found) > most:
            run.mistake(at, f"has {len(found)} items of a form of which it may have {most}")
        return found

    node.add(rule)


def _all_of(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    for one in reader.nodes(schema["allOf"], f"{where}.allOf"):
        applied_too(node, one)


def applied_too(node: Node, other: Node) -> None:
    """`node` says all that `other` says."""
    node.same.append(other)
    node.add(lambda value, at, run: run.check(other, value, at))


def _any_of(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    nodes = reader.nodes(schema["anyOf"], f"{where}.anyOf")
    node.same.extend(nodes)

    def rule(value: Json, at: Path, run: Pass) -> Keys:
        return frozenset[str | int]().union(*_fitting(nodes, value, at, run))

    node.add(rule)


def _one_of(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    nodes = reader.nodes(schema["oneOf"], f"{where}.oneOf")
    node.same.extend(nodes)

    def rule(value: Json, at: Path, run: Pass) -> Keys:
        fitting = _fitting(nodes, value, at, run)
        if len(fitting) > 1:
            run.mistake(at, f"has {len(fitting)} of the forms of which it may have one")
        return fitting[0] if fitting else NONE

    node.add(rule)


def _fitting(nodes: Sequence[Node], value: Json, at: Path, run: Pass) -> list[Keys]:
    """What those that fit have seen; where none fits, that is a mistake."""
    tried = [run.attempt(one, value, at) for one in nodes]
    fitting = [seen for found, seen in tried if not found]
    if not fitting:
        for mistake in _nearest([found for found, _ in tried], value, at):
            run.mistake(*mistake)
    return fitting


def _nearest(tried: Sequence[Sequence[Mistake]], value: Json, at: Path) -> Sequence[Mistake]:
    """Of forms that none fits, the one that was meant is of the value's own type, and the one with the fewest mistakes
    if no other has as few."""
    types = [next((one.types for one in found if one.at is at and one.types), ()) for found in tried]
    alike = sorted((found for found, other in zip(tried, types, strict=True) if not other), key=len)
    if not alike:
        wanted = tuple(dict.fromkeys(one for several in types for one in several))
        return [Mistake(at, lambda: words.not_of_type(value, wanted), wanted)]
    if len(alike) == 1 or len(alike[0]) < len(alike[1]):
        return alike[0]
    return [Mistake(at, f"has none of the {len(tried)} forms that it may have")]


def _not(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    refused = reader.node(schema["not"], f"{where}.not")
    node.same.append(refused)

    def rule(value: Json, at: Path, run: Pass) -> Keys:
        if not run.attempt(refused, value, at)[0]:
            run.mistake(at, "has a form that it may not have")
        return NONE

    node.add(rule)


def _if(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    asked, then, otherwise = (reader.node(schema.get(key, True), f"{where}.{key}") for key in ("if", "then", "else"))
    node.same.extend((asked, then, otherwise))

    def rule(value: Json, at: Path, run: Pass) -> Keys:
        found, seen = run.attempt(asked, value, at)
        return run.check(otherwise, value, at) if found else seen | run.check(then, value, at)

    node.add(rule)


def _unevaluated_properties(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    rest = _rest(reader, schema["unevaluatedProperties"], f"{where}.unevaluatedProperties")

    def last(value: Json, at: Path, run: Pass, seen: Keys) -> Keys:
        for name in value.keys() - seen if is_object(value) else ():
            run.check(rest, value[name], (at, name))
        return frozenset(value) if is_object(value) else NONE

    node.last.append(last)


def _unevaluated_items(reader: Reader, node: Node, schema: Mapping[str, Json], where: str) -> None:
    rest = _rest(reader, schema["unevaluatedItems"], f"{where}.unevaluatedItems")

    def last(value: Json, at: Path, run: Pass, seen: Keys) -> Keys:
        for index, one in enumerate(value if is_list(value) else ()):
            if index not in seen:
                run.check(rest, one, (at, index))
        return frozenset(range(len(value))) if is_list(value) else NONE

    node.last.append(last)


def _rest(reader: Reader, given: Json, where: str) -> Node:
    reader.tracks = True
    return reader.node(given, where)


APPLICATORS: Mapping[str, Add] = {
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
    "dependentSchemas": _dependent_schemas,
    "dependencies": _dependencies,
    "properties patternProperties additionalProperties": _fields,  # which depend on each other
    "propertyNames": _property_names,
    "prefixItems items": _items,
    "contains": _contains,
    "unevaluatedProperties": _unevaluated_properties,
    "unevaluatedItems": _unevaluated_items,
}
