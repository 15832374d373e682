"""JSON Schemas of the SDK's parameters, from their types.

They describe, and refuse little: an API takes more from one month to the next. Values of a list that may grow are in a
description, null stands for a parameter that may be left out, and the members of a union of objects are one object with
the fields of all of them. Objects that have a name in the SDK are definitions, which schemas share.
"""

from __future__ import annotations

import collections.abc
import datetime as dt
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from sdk import takes_file, takes_files, without_omitted
from typing_extensions import get_type_hints, is_typeddict

_NUMBER = r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$"
_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", bytes: "string"}
_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable, set)
_DICTS = (dict, collections.abc.Mapping)
_NAMED = 10  # values of a list in a description
_ORDER = ("string", "integer", "number", "boolean", "array", "object", "null")
FILE = {"$ref": "#/$defs/file"}


class Schemas:
    """Makes schemas; `definitions` are those that they refer to, by name."""

    def __init__(self) -> None:
        self.definitions: dict[str, dict[str, Any]] = {}
        self._names: dict[Any, str] = {}

    def parameter(self, name: str, hint: Any, *, required: bool, in_text: bool) -> dict[str, Any]:
        """The schema of one parameter. `in_text`: it goes into a path, a query or a form, where it may be text."""
        if takes_file(hint) and not any(map(is_typeddict, without_omitted(hint))):
            several = [{"type": "array", "items": FILE}] if takes_files(hint) else []
            null = [] if required else [{"type": "null"}]
            return {"anyOf": [FILE, *several, *null]} if several or null else dict(FILE)
        made = _without_values(self.of(hint), name)
        if not required:
            made = _with(made, "null")
        return _rendered(_as_text(made) if in_text else made)

    def of(self, hint: Any) -> dict[str, Any]:
        """The schema of a type: `type` is a list, and `values` (the known values) is not rendered yet."""
        members = without_omitted(hint)
        if len(members) != 1:
            return self._union(members)
        [one] = members
        origin, arguments = typing.get_origin(one), typing.get_args(one)
        if origin in (typing.Annotated, typing.Required, typing.NotRequired):
            return self.of(arguments[0])
        if one is None or one is types.NoneType:
            return {"type": ["null"]}
        if one in _SCALARS:
            return {"type": [_SCALARS[one]]}
        if one in (dt.datetime, dt.date):
            return {"type": ["string"]}
        if origin is typing.Literal:
            return self._literal(arguments)
        if origin in _LISTS:
            return {"type": ["array"], "items": self.of(arguments[0])}
        if origin in _DICTS or one is dict:
            return {"type": ["object"]}
        if is_typeddict(one):
            return {"type": ["object"], "$ref": f"#/$defs/{self._defined(one)}"}
        return {}

    def _literal(self, values: Iterable[Any]) -> dict[str, Any]:
        kinds = {_SCALARS[type(value)] for value in values if value is not None}
        return {"type": _sorted(kinds), "values": [value for value in values if isinstance(value, str)]}

    def _defined(self, one: Any) -> str:
        """The name of the definition of a TypedDict."""
        if one in self._names:
            return self._names[one]
        name = one.__name__.removesuffix("Param").removesuffix("Params")
        if name in self.definitions:  # another of that name: the one of this module
            name = "".join(part.title() for part in one.__module__.split(".")[-1].split("_")) + name
        while name in self.definitions:
            name += "2"
        self._names[one] = name
        self.definitions[name] = {}  # for one that holds itself
        self.definitions[name] = self._fields(one)
        return name

    def _fields(self, one: Any) -> dict[str, Any]:
        fields, required = {}, []
        for key, hint in get_type_hints(one, include_extras=True).items():
            name = _alias(hint) or key
            fields[name] = self.of(hint)
            if _is_required(one, key, hint):
                required.append(name)
            else:
                fields[name] = _with(fields[name], "null")
        return {**({"required": sorted(required)} if required else {}), "properties": fields}

    def _union(self, members: list[Any]) -> dict[str, Any]:
        objects = [one for one in members if is_typeddict(_bare(one))]
        rest = [self.of(one) for one in members if one not in objects]
        if len(objects) == 1:
            rest.append(self.of(objects[0]))
        elif objects:
            rest.append({"type": ["object"], "$ref": f"#/$defs/{self._merged(tuple(map(_bare, objects)))}"})
        made: dict[str, Any] | None = None
        for one in rest:
            made = one if made is None else _either(made, one)
        return made or {}

    def _merged(self, objects: tuple[Any, ...]) -> str:
        """The name of the definition for any of several TypedDicts."""
        if objects in self._names:
            return self._names[objects]
        names = [one.__name__.removesuffix("Param").removesuffix("Params") for one in objects]
        name = f"{names[0]}Or{len(names) - 1}"
        while name in self.definitions:
            name += "2"
        self._names[objects] = name
        self.definitions[name] = {}
        each = [self._fields(one) for one in objects]
        required = set(each[0].get("required", ()))
        fields: dict[str, Any] = {}
        for one in each:
            required &= set(one.get("required", ()))
            for key, made in one["properties"].items():
                fields[key] = _either(fields[key], made) if key in fields else made
        found = {key: made if key in required else _with(made, "null") for key, made in fields.items()}
        self.definitions[name] = {**({"required": sorted(required)} if required else {}), "properties": found}
        return name

    def rendered(self) -> dict[str, Any]:
        """The definitions, as they are written."""
        return {name: _definition(one) for name, one in sorted(self.definitions.items())}


def _bare(hint: Any) -> Any:
    return _bare(typing.get_args(hint)[0]) if typing.get_origin(hint) is typing.Annotated else hint


def _is_required(one: Any, key: str, hint: Any) -> bool:
    """`__required_keys__` does not see `Required` in annotations that are texts."""
    marked = typing.get_origin(hint)
    return marked is typing.Required or (marked is not typing.NotRequired and key in one.__required_keys__)


def _alias(hint: Any) -> str | None:
    if typing.get_origin(hint) in (typing.Required, typing.NotRequired):
        return _alias(typing.get_args(hint)[0])
    found = [getattr(one, "alias", None) for one in typing.get_args(hint)[1:]]
    return next(filter(None, found), None) if typing.get_origin(hint) is typing.Annotated else None


def _with(made: dict[str, Any], kind: str) -> dict[str, Any]:
    return {**made, "type": _sorted({*made["type"], kind})} if "type" in made else made


def _either(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The schema of what fits one or the other, or more."""
    if one == other:
        return one
    if "type" not in one or "type" not in other:
        return {}
    made: dict[str, Any] = {"type": _sorted({*one["type"], *other["type"]})}
    values = list(dict.fromkeys([*one.get("values", ()), *other.get("values", ())]))
    if values:
        made["values"] = values
    for keyword, kind in (("$ref", "object"), ("items", "array")):
        found = [schema.get(keyword) for schema in (one, other) if kind in schema["type"]]
        if keyword == "items" and len(found) == 2 and None not in found:
            made[keyword] = _either(*found)
        elif found and all(schema == found[0] for schema in found) and found[0] is not None:
            made[keyword] = found[0]
    return made


def _sorted(kinds: Iterable[str]) -> list[str]:
    return sorted(set(kinds) - ({"integer"} if "number" in kinds else set()), key=_ORDER.index)


def _as_text(made: dict[str, Any]) -> dict[str, Any]:
    """The same for a query or a form, where each value may be text, and a list of one its only value."""
    kinds = set(made.get("type", ()))
    if not kinds or "string" in kinds:
        return made
    if kinds & {"integer", "number"}:
        pattern = _NUMBER if "number" in kinds else "^[0-9]+$"
        return {**made, "type": _sorted({*kinds, "string"}), "pattern": pattern}
    if kinds & {"boolean"}:
        null = [None] if "null" in kinds else []
        return {"enum": [True, False, "true", "false", *null]}
    return {**made, "type": _sorted({*kinds, "string"})} if "array" in kinds else made


def _definition(one: Mapping[str, Any]) -> dict[str, Any]:
    fields = one["properties"].items()
    return {**one, "properties": {key: _rendered(_without_values(made, key)) for key, made in fields}}


def _without_values(made: dict[str, Any], name: str) -> dict[str, Any]:
    """The names of models are many, and others next month."""
    return {key: value for key, value in made.items() if key != "values" or not name.endswith("model")}


def _rendered(made: Mapping[str, Any]) -> dict[str, Any]:
    """With `type` as short as it can be, and the known values in the description."""
    shown = {key: value for key, value in made.items() if key != "values"}
    if "items" in shown:
        shown["items"] = _rendered(shown["items"])
        if not shown["items"]:
            del shown["items"]
    if len(shown.get("type", ())) == 1:
        [shown["type"]] = shown["type"]
    if values := [value for value in made.get("values", ()) if value]:
        shown["description"] = _listed(values)
    return shown


def _listed(values: list[str]) -> str:
    if len(values) > _NAMED:
        return ", ".join(values[:_NAMED]) + ", …"
    return " or ".join(filter(None, [", ".join(values[:-1]), values[-1]]))
