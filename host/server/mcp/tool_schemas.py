"""The schema that a tool shows: JSON Schema as the strictest clients and models take it.

One tool that a client does not take can cost it all tools of the server. So what is shown is a part of JSON Schema, and
says less than the manifest, never more about what fits: the manifest's own schema checks every call.

- The whole is an object with properties. Nothing combines it: `anyOf`, `oneOf` and `allOf` at the top, `if` and `not`
  are refused by Anthropic's API. What they say about properties is gathered.
- null is not shown where a property may as well be left out.
- References are written out: some clients refuse `$ref`, others lose it. One that leads back to itself is cut there.
- Names of properties are `[a-zA-Z0-9_.-]{1,64}`. Others are renamed here, and `restored` names them back in a call.
- Each schema has one `type`, or nothing but an `anyOf`; an array has `items`; what is required is among the properties;
  `enum` has texts alone; `const`, `default: null`, true and false as schemas, and formats that Gemini refuses are gone.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from host.component.schema_bounds import pointed
from host.core.strict_json import Json, kind_of, write_json
from host.errors import InputError

Schema = dict[str, Any]

DEEPEST: Final = 10  # levels of objects and lists: below, only the type is shown
MOST_SCHEMAS: Final = 4_000  # read for one tool, once references are written out: after them, only the type is shown
LONGEST_NAME: Final = 64

_NAME = re.compile(rf"[a-zA-Z0-9_.-]{{1,{LONGEST_NAME}}}")
_OTHER = re.compile(r"[^a-zA-Z0-9_.-]+")
_HASH = 8

_OF_TYPE: Final = {  # the keywords that are shown, by the type that they are about
    "object": ("minProperties", "maxProperties"),
    "array": ("minItems", "maxItems"),
    "string": ("minLength", "maxLength", "pattern"),
    "integer": ("minimum", "maximum"),
    "number": ("minimum", "maximum"),
    "boolean": (),
    "null": (),
}
_TELLING: Final = {  # keywords that show the type of a schema that does not say it
    "object": ("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"),
    "string": ("minLength", "maxLength", "pattern", "format", "contentEncoding"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_FORMATS: Final = {"string": ("date-time",), "integer": ("int32", "int64"), "number": ("float", "double")}
_COMBINED: Final = ("anyOf", "oneOf")
_CONDITIONAL: Final = ("then", "else")
_ALONE: Final = ("required", "not", "description", "title", "$comment")  # of a choice that only says what is needed


class ToolSchema:
    """The shown form of `document`, the schema of an object."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self._left = MOST_SCHEMAS
        self._real = _renamed(_property_names(document))
        self._names = {shown: real for real, shown in self._real.items()}
        self.shown = self._top(document)

    def restored(self, arguments: Mapping[str, Json]) -> dict[str, Json]:
        """`arguments` with the names of the document. Raises InputError where one is given under both of its names."""
        if not self._names:
            return dict(arguments)
        found: dict[str, Json] = self._restored(dict(arguments), [self.shown])
        return found

    def _restored(self, value: Any, schemas: Sequence[Schema]) -> Any:
        """`value`, which stands where `schemas` say what fits. What no schema names is data, and stays as it is."""
        schemas = list(_forms(schemas))
        if isinstance(value, list):
            items = [one["items"] for one in schemas if "items" in one]
            return [self._restored(one, items) for one in value] if items else value
        if not isinstance(value, dict) or not schemas:
            return value
        restored: dict[str, Json] = {}
        name: str
        for name, one in value.items():
            inside = [schema["properties"][name] for schema in schemas if name in schema.get("properties", ())]
            real: str = self._names.get(name, name) if inside else name
            if real != name and real in value:
                raise InputError(f"{real[:80]} is given twice, also as {name}", field=real[:80])
            more = [schema.get("additionalProperties") for schema in schemas]
            restored[real] = self._restored(one, inside or [schema for schema in more if isinstance(schema, dict)])
        return restored

    # reading

    def _top(self, document: Json) -> Schema:
        whole, refs = self._whole(document, ())
        choices = [part for name in _COMBINED for part in _list(whole.pop(name, ()))]
        needed = _needed(choices)
        parts = [self._whole(choice, refs)[0] for choice in choices]
        for name, alternatives in _by_name(parts).items():
            known = whole.setdefault("properties", {})
            if name not in known:
                known[name] = alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives}
        required = [set(_texts(part.get("required"))) for part in parts]
        if required:
            whole["required"] = [*_texts(whole.get("required")), *sorted(set.intersection(*required))]
        whole["type"] = "object"
        shown = self._typed(whole, "object", 0, refs)
        shown.setdefault("properties", {})
        said = _sentence(whole.get("description"), needed)
        return {**shown, **({"description": said} if said else {})}

    def _whole(self, schema: Json, refs: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
        """The keywords of `schema` with those that it refers to and combines by `allOf`, and the references on the way
        to it: one that leads back gives nothing but a type."""
        if not isinstance(schema, dict):
            return {}, refs
        self._left -= 1
        whole = {name: one for name, one in schema.items() if name not in ("$ref", "allOf", "if", *_CONDITIONAL)}
        if isinstance(whole.get("properties"), dict):
            whole["properties"] = dict(whole["properties"])
        if self._left < 0:
            return whole, refs
        parts = _list(schema.get("allOf"))
        optional = [schema[name] for name in _CONDITIONAL if name in schema]
        optional += _values(schema.get("dependentSchemas"))
        if isinstance(ref := schema.get("$ref"), str):
            try:
                target = pointed(self._document, ref)[0]
            except LookupError:
                target = True
            if ref in refs:
                return {**_only_type(target), **whole}, refs
            refs = (*refs, ref)
            parts = [target, *parts]
        for part in parts:
            more, refs = self._whole(part, refs)
            _add(whole, more)
        for part in optional:
            more, refs = self._whole(part, refs)
            for name, one in _table(more.get("properties")).items():
                whole.setdefault("properties", {}).setdefault(name, one)
        return whole, refs

    # showing

    def _shown(self, schema: Json, depth: int, refs: tuple[str, ...], *, optional: bool = False) -> Schema:
        """With `optional`, of a property that may be left out, null is not shown."""
        whole, refs = self._whole(schema, refs)
        if depth > DEEPEST or self._left < sum(len(_list(whole.get(name))) for name in _COMBINED):
            return _cut(whole)
        description = _text(whole.pop("description", ""))
        choices = [part for name in _COMBINED for part in _list(whole.pop(name, ()))]
        if needed := _needed(choices):
            description, choices = _sentence(description, needed), []
        forms = [form for one in choices for form in _flat(self._chosen(whole, one, depth, refs))]
        if not choices:
            forms = [self._typed(one, kind, depth, refs) for one, kind in _by_type(whole)]
        forms = [one for at, one in enumerate(forms) if one not in forms[:at]] or [{}]
        if optional:
            forms = [one for one in forms if one.get("type") != "null"] or forms
        if len(forms) == 1:
            [shown] = forms
            said = _sentence(description, _text(shown.get("description")) if description else "")
            default = {} if whole.get("default") is None or "anyOf" in shown else {"default": whole["default"]}
            return {**shown, **default, **({"description": said} if said else {})}
        return {"anyOf": [{**({"description": description} if description else {}), **one} for one in forms]}

    def _chosen(self, whole: Schema, choice: Json, depth: int, refs: tuple[str, ...]) -> Schema:
        """One choice of several, with what is said about all of them."""
        part, refs = self._whole(choice, refs)
        shared = {name: one for name, one in whole.items() if name not in ("default", "title")}
        _add(part, shared)
        return self._shown(part, depth, refs)

    def _typed(self, whole: Schema, kind: str, depth: int, refs: tuple[str, ...]) -> Schema:
        """What `whole` says about values of the type `kind`; of any type, where that is empty."""
        shown: Schema = {"type": kind} if kind else {}
        if isinstance(title := whole.get("title"), str):
            shown["title"] = title
        shown |= {name: whole[name] for name in _OF_TYPE.get(kind, ()) if whole.get(name) is not None}
        notes = ""
        if kind in ("integer", "number"):
            _bounds(shown, whole, kind)
        if isinstance(format_ := whole.get("format"), str) and kind in _FORMATS:
            if format_ in _FORMATS[kind]:
                shown["format"] = format_
            else:
                notes = f"Format: {format_}."
        values = whole.get("enum")
        if isinstance(values, list):
            if kind == "string" and all(values) and len(values) == len(set(values)):
                shown["enum"] = values
            else:
                notes = f"One of: {', '.join(write_json(one) for one in values[:50])}."
        if kind == "array":
            shown["items"] = self._items(whole, depth, refs)
        if kind == "object":
            self._object(shown, whole, depth, refs)
        return {**shown, "description": notes} if notes else shown

    def _items(self, whole: Schema, depth: int, refs: tuple[str, ...]) -> Schema:
        given = whole.get("items")
        first = [*_list(whole.get("prefixItems")), *_list(given)]
        if first:
            rest = [given] if isinstance(given, dict) else []
            return self._shown({"anyOf": [*first, *rest]} if len(first) + len(rest) > 1 else first[0], depth + 1, refs)
        return self._shown(given, depth + 1, refs)

    def _object(self, shown: Schema, whole: Schema, depth: int, refs: tuple[str, ...]) -> None:
        properties = {name: one for name, one in _table(whole.get("properties")).items() if one is not False}
        required = list(dict.fromkeys(_texts(whole.get("required"))))
        properties = {**properties, **{name: {} for name in required if name not in _table(whole.get("properties"))}}
        if len(properties) > max(0, self._left):
            return
        if properties:
            named = {self._real.get(name, name): one for name, one in properties.items()}
            wanted = [self._real.get(name, name) for name in required if name in properties]
            shown["properties"] = {
                name: self._shown(one, depth + 1, refs, optional=name not in wanted) for name, one in named.items()
            }
            shown |= {"required": wanted} if wanted else {}
        more = whole.get("additionalProperties")
        if isinstance(more, bool):
            if more or not whole.get("patternProperties"):
                shown["additionalProperties"] = more
        elif isinstance(more, dict):
            shown["additionalProperties"] = self._shown(more, depth + 1, refs)


def _property_names(document: Json) -> list[str]:
    """Every name that a property has or that is required, anywhere in the document."""
    found: dict[str, None] = {}
    left: list[Json] = [document]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            found |= dict.fromkeys([*_table(one.get("properties")), *_texts(one.get("required"))])
            left += one.values()
        elif isinstance(one, list):
            left += one
    return sorted(found)


def _renamed(names: Sequence[str]) -> dict[str, str]:
    """The names that clients do not take, each with one that no other has."""
    plain = {name: _OTHER.sub("_", name).strip("_")[:LONGEST_NAME] for name in names if not _NAME.fullmatch(name)}
    taken = Counter([*plain.values(), *(name for name in names if name not in plain)])
    return {name: short if short and taken[short] == 1 else _hashed(short, name) for name, short in plain.items()}


def _hashed(short: str, name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:_HASH]
    return f"{short[: LONGEST_NAME - _HASH - 1]}_{digest}".lstrip("_")


def _by_type(whole: Schema) -> Iterator[tuple[Schema, str]]:
    """The schema for each type that it allows. An `enum` is taken apart by the types of its values."""
    values = [whole["const"]] if "const" in whole else whole.get("enum")
    types = [one for one in _texts(whole.get("type")) or [_text(whole.get("type"))] if one in _OF_TYPE]
    if isinstance(values, list) and values:
        for kind in dict.fromkeys(_type_of(one, types) for one in values):
            own = [one for one in values if _type_of(one, types) == kind]
            if not types or kind in types:
                if kind == "string" and "" in own and len(own) > 1:
                    yield {**whole, "enum": [""]}, "string"
                    own = [one for one in own if one]
                yield {**whole, "enum": own}, kind
        return
    if not types:
        types = [kind for kind, telling in _TELLING.items() if any(name in whole for name in telling)][:1] or [""]
    yield from ((whole, kind) for kind in types)


def _type_of(value: Json, types: Sequence[str]) -> str:
    return "integer" if type(value) is int and "number" not in types else kind_of(value)


def _bounds(shown: Schema, whole: Schema, kind: str) -> None:
    """Exclusive bounds as inclusive ones: those of integers as they are, others a little wider."""
    for name, step, narrower in (("Minimum", 1, max), ("Maximum", -1, min)):
        bound = whole.get(f"exclusive{name}")
        if isinstance(bound, int | float) and not isinstance(bound, bool):
            whole_number = kind == "integer" and bound == int(bound)
            inclusive = int(bound) + step if whole_number else bound
            known = shown.get(name.lower())
            shown[name.lower()] = inclusive if known is None else narrower(known, inclusive)


def _add(whole: Schema, more: Schema) -> None:
    """Adds what `more` says to `whole`: both hold."""
    for name, one in more.items():
        if name == "properties" and isinstance(one, dict):
            known = whole.setdefault("properties", {})
            for key, schema in one.items():
                known[key] = schema if known.get(key, schema) == schema else {"allOf": [known[key], schema]}
        elif name == "required":
            whole["required"] = [*_texts(whole.get("required")), *_texts(one)]
        elif name in _COMBINED and name in whole:
            continue  # one of them is shown, and both are checked
        elif name == "type" and "type" in whole:
            both = [kind for kind in _kinds(whole["type"]) if kind in _kinds(one)]
            whole["type"] = [kind for kind in both if kind != "integer" or "number" not in both] or whole["type"]
        elif name == "enum" and isinstance(whole.get("enum"), list):
            whole["enum"] = [value for value in whole["enum"] if value in one] or whole["enum"]
        else:
            whole.setdefault(name, one)


def _kinds(given: Json) -> list[str]:
    kinds = _texts(given) or [_text(given)]
    return [*kinds, "integer"] if "number" in kinds else kinds


def _by_name(parts: Sequence[Schema]) -> dict[str, list[Json]]:
    """The properties of several schemas, each with the different schemas that it has."""
    found: dict[str, list[Json]] = {}
    for part in parts:
        for name, one in _table(part.get("properties")).items():
            if one not in found.setdefault(name, []):
                found[name].append(one)
    return found


def _needed(choices: Sequence[Json]) -> str:
    """A sentence for choices that do nothing but require one property or another; else nothing."""
    if not choices or not all(isinstance(one, dict) and one.keys() <= set(_ALONE) for one in choices):
        return ""
    sets = [", ".join(_texts(one.get("required"))) for one in choices if isinstance(one, dict)]
    return f"Needs one of: {'; '.join(filter(None, sets))}." if any(sets) else ""


def _forms(schemas: Iterable[Schema]) -> Iterator[Schema]:
    for one in schemas:
        yield from _flat(one)


def _flat(schema: Schema) -> list[Schema]:
    return list(_forms(schema["anyOf"])) if "anyOf" in schema else [schema]


def _cut(whole: Schema) -> Schema:
    kinds = [kind for _, kind in _by_type({name: one for name, one in whole.items() if name != "enum"})]
    kind = kinds[0] if len(kinds) == 1 else ""
    shown: Schema = {"type": kind} if kind else {}
    if kind == "array":
        shown["items"] = {}
    said = _text(whole.get("description"))
    return {**shown, **({"description": said} if said else {})}


def _only_type(schema: Json) -> Schema:
    return {"type": schema["type"]} if isinstance(schema, dict) and "type" in schema else {}


def _sentence(description: Any, more: str) -> str:
    said = _text(description)
    return f"{said.rstrip('.')}. {more}" if said and more else said or more


def _text(given: Any) -> str:
    return given if isinstance(given, str) else ""


def _texts(given: Any) -> list[str]:
    return [one for one in given if isinstance(one, str)] if isinstance(given, list) else []


def _list(given: Any) -> list[Any]:
    return given if isinstance(given, list) else []


def _table(given: Any) -> dict[str, Any]:
    return given if isinstance(given, dict) else {}


def _values(given: Any) -> list[Any]:
    return list(_table(given).values())
