"""JSON Schema (drafts 2020-12, 2019-09 and 7), checked by `jsonschema_rs`. What is ours: bounds, and words.

A schema and a value both come from strangers, and a check stands before every run. The library is native code that
nothing interrupts, so the work is bounded before it begins:

1. A schema is read. Its subschemas are put side by side and refer to each other by name. References to anything
   outside, circles and backtracking patterns are refused.
2. Its weight is computed: the most work that it can cause for one value inside the input, whatever the input is. A
   schema that doubles has no bound, and is refused.
3. An input is measured before it is checked: weight times size is the work, and there is a limit to it.
4. The library is asked for the first mistake only, and never for the mistakes of every form of an `anyOf`: listing
   those takes memory without bound.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

from host.core.strict_json import MAX_DEPTH, Json, clean_text, kind_of
from host.errors import InputError, ManifestError

if TYPE_CHECKING:
    from jsonschema_rs import RegexOptions, ValidationError, Validator, ValidatorMap

MAX_SUBSCHEMAS = 4_096
MAX_NESTED = 16  # schemas for one and the same value, one inside the other: the library's stack grows with them
MAX_BRANCHES = 4_096  # schemas for one and the same value in all, each counted as often as it is reached
MAX_PATTERNS = 256
MAX_PATTERN_LENGTH = 4_096  # characters
MAX_PATTERN_BYTES = 1 << 16  # compiled: then none takes more than a millisecond to compile, and 30 ns a character
MAX_WEIGHT = 20_000  # units of work for one value: inputs of 2,500 values can always be checked
MAX_WORK = 50_000_000  # units of work for one input, some 20 ns each: about a second
MAX_READING = 2_000_000  # steps to compute a weight: about a second
MAX_PLACE = 300  # characters of where something is
MAX_FORMS = 8  # times that a mistake is traced into the form that was meant

_DRAFT_7 = "http://json-schema.org/draft-07/schema"
_DRAFTS = {
    "https://json-schema.org/draft/2020-12/schema": "Draft202012Validator",
    "https://json-schema.org/draft/2019-09/schema": "Draft201909Validator",
    _DRAFT_7: "Draft7Validator",
}

_Path: TypeAlias = tuple[str | int, ...]
_Told: TypeAlias = tuple[_Path, str, str | None]  # the field, what is wrong with it, and a hint


class InputSchema:
    """A schema that was read. `compile` makes it; thread-safe."""

    def __init__(self, schema: Json, reader: _Reader) -> None:
        self._schema = schema
        self._is_plain = _is_plain(schema)
        self._weight, self._text_weight = _weigh(reader.nodes, reader.what)
        self._forms = _Forms(reader.definitions, reader.draft)
        self._open_forms: _Forms | None = None
        if not self._is_plain:
            self._forms.build(reader.places)

    @classmethod
    def compile(cls, schema: Json, what: str = "schema.input") -> InputSchema:
        """Read `schema`; `what` names it in errors.

        Raises ManifestError for a schema that is malformed, of an unknown draft, too large, costs too much to check,
        refers to anything outside itself, or refers to itself without going into the value."""
        return cls(schema, _Reader(schema, what))

    def check(self, value: Json, within: str = "") -> None:
        """Raises InputError with the path of a field that is wrong. `value` is one that `json.dumps` takes; `within`
        names it (`config`) and begins the paths then. Objects with `$attachment` fit everywhere.

        Raises ValueError or TypeError for values that JSON does not have."""
        if self._is_plain and _plainly_fits(self._schema, value):
            return
        whole = within or "the input"
        self._measure(value, whole, within or None)
        try:
            fits = self._forms.whole.is_valid(value)
        except ValueError:  # a subclass of str or list, or a key that is a number
            value = json.loads(clean_text(json.dumps(value, ensure_ascii=False)))
            self._measure(value, whole, within or None)
            fits = self._forms.whole.is_valid(value)
        if fits:
            return
        forms = self._forms
        if _has_attachment(value):
            forms = self._open_forms = self._open_forms or forms.open_to_attachments()
            if forms.whole.is_valid(value):
                return
        at, words, hint = forms.mistake(value)
        name = _field_of((within, *at) if within else at)
        raise InputError(f"{name or whole} {words}", field=name or None, hint=hint)

    def _measure(self, value: Json, whole: str, name: str | None) -> None:
        """Raises InputError where checking `value` may take too long, or more of the stack than there is."""
        values = texts = 0
        level = [value]
        for _ in range(MAX_DEPTH + 1):
            values += len(level)
            inner: list[Json] = []
            for one in level:
                kind = type(one)
                if kind is str:
                    texts += len(one) >> 5
                elif kind is dict or isinstance(one, dict):
                    inner += one.values()
                    if self._text_weight > 1:  # names are matched with patterns, or measured
                        texts += sum(map(len, map(str, one))) >> 5
                elif kind is list or kind is tuple:
                    inner += one
                elif kind is int:
                    if not -(1 << 63) < one < 1 << 63:  # the library goes through its decimal digits
                        values += (one.bit_length() >> 6) ** 2 * 2
                elif kind is float:
                    values += 0 if -1e18 < one < 1e18 else 8
                elif isinstance(one, list | tuple):
                    inner += one
            if values * self._weight + texts * self._text_weight > MAX_WORK:
                raise InputError(
                    f"{whole} is too large to be checked against the manifest's schema",
                    field=name,
                    hint="large data can be an attachment",
                )
            if not inner:
                return
            level = inner
        raise InputError(f"{whole} is nested too deeply to be checked against the manifest's schema", field=name)


# Reading: a schema becomes definitions that the library takes, and nodes whose weight is computed.

_SAME, _NAMED, _REST, _EACH = "same", "named", "rest", "each"
_APPLIED = {
    # keyword: what its schemas are for. The value itself; fields or items by name or place, the others, or each of them
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "not", "if", "then", "else"), (_SAME, "")),
    **dict.fromkeys(("dependentSchemas", "dependencies"), (_SAME, "")),
    "properties": (_NAMED, "field"),
    **dict.fromkeys(("patternProperties", "propertyNames"), (_EACH, "field")),
    **dict.fromkeys(("additionalProperties", "unevaluatedProperties"), (_REST, "field")),
    "prefixItems": (_NAMED, "item"),
    "contains": (_EACH, "item"),
    **dict.fromkeys(("items", "additionalItems", "unevaluatedItems"), (_REST, "item")),
}
_TABLES = ("properties", "patternProperties", "dependentSchemas", "dependencies")
_PATTERN_TEXT = 48  # units for 32 characters


@dataclass(slots=True)
class _Node:
    """What a subschema costs. `work` is for the value itself, in units; `text` for every 32 characters of it. `same`
    are the schemas that it applies to that same value; with `unevaluated` the library goes through them again. The
    others are for fields and items: by kind and name, for those not named, and for each."""

    work: int = 1
    text: int = 0
    same: list[int] = field(default_factory=list)
    unevaluated: bool = False
    named: dict[tuple[str, str | int], int | None] = field(default_factory=dict)
    rest: dict[str, int] = field(default_factory=dict)
    each: list[tuple[str, int]] = field(default_factory=list)


class _Reader:
    """Reads a schema into `definitions`, by name. `s0` is the whole. Parts that nothing refers to are not read."""

    def __init__(self, document: Json, what: str) -> None:
        self.what = what
        self.definitions: dict[str, Json] = {}
        self.places: dict[str, str] = {}  # of the definitions in the document
        self.nodes: list[_Node] = []
        self._document = document
        self._names: dict[int, str] = {}  # by the identity of a part of the document, which lives as long
        self._unread: list[tuple[int, Mapping[str, Json]]] = []
        self._patterns: set[str] = set()
        draft = document.get("$schema", next(iter(_DRAFTS))) if isinstance(document, dict) else next(iter(_DRAFTS))
        if not isinstance(draft, str) or (draft := draft.removesuffix("#")) not in _DRAFTS:
            raise _wrong(f"{what}.$schema", "a draft that is known here: " + ", ".join(_DRAFTS))
        self.draft = draft
        if isinstance(self._reference(document, what), bool):
            self._define(_Node(), document)
        while self._unread:
            self._read(*self._unread.pop())

    def _read(self, number: int, schema: Mapping[str, Json]) -> None:
        node, where = self.nodes[number], self.places[f"s{number}"]
        for keyword in ("$dynamicRef", "$recursiveRef"):  # whose meaning depends on the way that led there
            if keyword in schema:
                raise ManifestError(f"the manifest: {where} has {keyword}, which is not enforced here")
        if "$id" in schema and schema is not self._document:
            raise ManifestError(f"the manifest: {where} has an $id of its own, so references in it would not be clear")
        out: dict[str, Json] = {}
        self.definitions[f"s{number}"] = out
        extra: list[Json] = []
        if "$ref" in schema:
            extra.append(self._applied(node, (_SAME, ""), None, *self._referred(schema["$ref"], f"{where}.$ref")))
            schema = {} if self.draft == _DRAFT_7 else schema  # that passes over what is beside a reference
        for keyword, given in schema.items():
            place = f"{where}.{keyword}"
            if keyword in _COSTS:
                if keyword == "multipleOf" and isinstance(given, int | float) and not 1e-15 <= given <= 1e15:
                    raise _wrong(place, "a number between 1e-15 and 1e15")
                work, text = _COSTS[keyword]
                node.work, node.text = node.work + work(given), node.text + text
                out[keyword] = given if keyword != "pattern" else self._pattern(given, place)
            elif keyword in ("anyOf", "oneOf"):
                # behind an `if`: the library then says that none fits, and does not list what is wrong with each
                choice = {"if": {keyword: self._parts(node, keyword, given, place)}, "else": False}
                extra.append({"$ref": f"#/definitions/{self._define(_Node(), choice, where)}"})
            elif keyword in _APPLIED:
                out[keyword] = self._parts(node, keyword, given, place)
        node.unevaluated = not schema.keys().isdisjoint(("unevaluatedProperties", "unevaluatedItems"))
        if node.unevaluated:
            node.each.extend(one for one in tuple(node.each) if one[0] == "item")
        if schema.get("uniqueItems"):  # of which each part is compared
            part = _Node(work=25, text=2)
            part.each = [("item", len(self.nodes)), ("field", len(self.nodes))]
            node.each.append(("item", len(self.nodes)))
            self.nodes.append(part)
        if isinstance(patterns := schema.get("patternProperties"), dict):
            node.each.append(("field", len(self.nodes)))
            self.nodes.append(_Node(work=5 * len(patterns), text=_PATTERN_TEXT * len(patterns)))
        if extra:
            given = out.get("allOf", [])
            out["allOf"] = [*extra, *given] if isinstance(given, list) else given

    def _parts(self, node: _Node, keyword: str, given: Json, place: str) -> Json:
        """References in the place of the schemas that `keyword` has. What is malformed stays, for the library."""
        role = _APPLIED[keyword]
        if keyword in _TABLES and isinstance(given, dict):
            node.work += len(given) if role[0] == _SAME else 0
            return {
                self._pattern(name, place) if keyword == "patternProperties" else name: one
                if keyword == "dependencies" and isinstance(one, list)
                else self._applied(node, role, name, one, f"{place}.{_name(name)}")
                for name, one in given.items()
            }
        if isinstance(given, list | tuple) and (keyword.endswith("Of") or keyword in ("prefixItems", "items")):
            role = role if role[0] == _SAME else (_NAMED, "item")
            return [self._applied(node, role, index, one, f"{place}[{index}]") for index, one in enumerate(given)]
        return given if keyword in _TABLES else self._applied(node, role, None, given, place)

    def _applied(self, node: _Node, role: tuple[str, str], key: Any, schema: Json, where: str) -> Json:
        reference = self._reference(schema, where)
        number = None if isinstance(reference, bool) else int(_definition(reference["$ref"])[1:])
        how, kind = role
        if how == _NAMED:
            node.named[kind, key] = number
        elif number is None:
            pass
        elif how == _SAME:
            node.same.append(number)
        elif how == _REST and kind not in node.rest:
            node.rest[kind] = number
        else:
            node.each.append((kind, number))
        return reference

    def _reference(self, schema: Json, where: str) -> Json:
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise _wrong(where, "a schema: an object, true or false")
        if id(schema) not in self._names:
            if len(self._names) >= MAX_SUBSCHEMAS:
                raise ManifestError(f"the manifest: {self.what} has more than {MAX_SUBSCHEMAS} schemas in it")
            self._unread.append((len(self.nodes), schema))
            self._names[id(schema)] = self._define(_Node(), {}, where)
        return {"$ref": f"#/definitions/{self._names[id(schema)]}"}

    def _define(self, node: _Node, definition: Json, where: str = "") -> str:
        name = f"s{len(self.nodes)}"
        self.nodes.append(node)
        self.definitions[name], self.places[name] = definition, where[:MAX_PLACE]
        return name

    def _referred(self, ref: Json, where: str) -> tuple[Json, str]:
        """Only JSON Pointers into the document (RFC 6901, 6) are followed: nothing is ever fetched."""
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            raise _wrong(where, "a place in the schema itself, like #/$defs/name")
        found, place = self._document, self.what
        for step in ref.split("/")[1:]:
            place = f"{place[:MAX_PLACE]}.{_name(step)}"
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and key in found:
                found = found[key]
            elif isinstance(found, list | tuple) and key.isdecimal() and len(key) < 8 and int(key) < len(found):
                found = found[int(key)]
            else:
                raise _wrong(where, f"a place that there is: {_shown(ref)}")
        return found, place

    def _pattern(self, text: Json, where: str) -> str:
        """`text`, which is a regular expression of ECMA-262 less what would need backtracking."""
        if not isinstance(text, str):
            raise _wrong(where, "a regular expression")
        if text in self._patterns:
            return text
        if len(self._patterns) >= MAX_PATTERNS:
            raise ManifestError(f"the manifest: {self.what} has more than {MAX_PATTERNS} patterns")
        self._patterns.add(text)
        if len(text) > MAX_PATTERN_LENGTH:
            raise _wrong(where, f"a pattern of {MAX_PATTERN_LENGTH} or fewer characters: {_shown(text)}")
        try:
            _validator({"pattern": text})
        except ValueError:
            raise _wrong(
                where, f"a pattern that matches in linear time, without look-around and references: {_shown(text)}"
            ) from None
        return text


def _wrong(where: str, wanted: str) -> ManifestError:
    return ManifestError(f"the manifest: {where[:MAX_PLACE]} is not {wanted}")


def _leaves(value: Json) -> int:
    """What comparing with `value` costs: a number takes long where the other one is of another type."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return 2  # found by their hash
    return sum(25 if isinstance(one, int | float) else 2 for one in _inside(value))


def _inside(value: Json) -> Iterator[Json]:
    """`value` and all values in it."""
    level = [value]
    while level:
        yield from level
        level = [
            inner
            for one in level
            if isinstance(one, dict | list | tuple)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]


_COSTS: Mapping[str, tuple[Callable[[Json], int], int]] = {
    # keyword: the units of work that it takes, and those for 32 characters of a text
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), (lambda _: 2, 0)),
    **dict.fromkeys(("minLength", "maxLength"), (lambda _: 1, 8)),
    **dict.fromkeys(("minItems", "maxItems", "minProperties", "maxProperties", "type"), (lambda _: 1, 0)),
    **dict.fromkeys(("minContains", "maxContains", "uniqueItems"), (lambda _: 1, 0)),
    **dict.fromkeys(("enum", "const", "required", "dependentRequired"), (_leaves, 1)),
    "multipleOf": (lambda _: 150, 0),
    "pattern": (lambda _: 2, _PATTERN_TEXT),
}


# Weighing: the most work that a schema can cause for one value, as deep in an input as may be.


def _weigh(nodes: Sequence[_Node], what: str) -> tuple[int, int]:
    """The most work for one value, and for 32 characters of one text. Raises ManifestError where there is no bound, or
    one above MAX_WEIGHT.

    To apply a schema to a value costs what it and its schemas for that same value cost. They apply others to each field
    and item: the sum of the weights of these is the weight one level deeper. Inputs are MAX_DEPTH deep, so that many
    rounds find the bound. Schemas that don't contain themselves need as many rounds as they are deep."""
    meter = _Meter(what)
    unfolded = _unfold(nodes, meter)
    sums = {number: found for number, applied in enumerate(unfolded) if (found := _sums_of(nodes, applied, meter))}
    steps = sum(len(terms) for several in sums.values() for terms in several)

    def heaviest(costs: Sequence[int]) -> int:
        least = [sum([times * costs[one] for one, times in applied.items()]) for applied in unfolded]
        weights = list(least)
        for _ in range(MAX_DEPTH):
            meter.spend(steps)
            deeper = list(weights)
            for number, several in sums.items():
                below = max([sum([times * weights[one] for one, times in terms.items()]) for terms in several])
                deeper[number] = max(least[number], below)
            if deeper == weights:
                break
            if max(deeper) > MAX_WEIGHT:
                raise meter.too_much()
            weights = deeper
        return weights[0]

    work, text = heaviest([node.work for node in nodes]), heaviest([node.text for node in nodes])
    if max(work, text) > MAX_WEIGHT:
        raise meter.too_much()
    return work, text


class _Meter:
    """Bounds what weighing itself takes, and says what is wrong with `what`."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._left = MAX_READING

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise self.too_much()

    def too_deep(self) -> ManifestError:
        return ManifestError(
            f"the manifest: {self.what} is nested too deeply: {MAX_NESTED} schemas for one value are the most"
        )

    def too_much(self) -> ManifestError:
        return ManifestError(
            f"the manifest: {self.what} applies too many schemas to one value",
            hint="a field that several forms describe can be described once, beside them",
        )


def _unfold(nodes: Sequence[_Node], meter: _Meter) -> list[dict[int, int]]:
    """Of each node, the nodes that are applied to the same value, itself included, each with how many times. Raises
    ManifestError for circles."""
    heights: dict[int, int] = {}
    for number in range(len(nodes)):
        _height(nodes, number, (), heights, meter)
    unfolded: list[dict[int, int]] = []
    for number, node in enumerate(nodes):
        applied: dict[int, int] = {}
        unread, visits = [(number, 1)], 0
        while unread:
            one, times = unread.pop()
            applied[one] = applied.get(one, 0) + times
            visits += len(nodes[one].same)
            if visits > MAX_BRANCHES or times > MAX_WEIGHT:
                raise meter.too_much()
            # of `unevaluated…`, the library asks each level below which fields it took, up to three times
            below = times * (1 + 3 * heights[one]) if nodes[one].unevaluated else times
            unread.extend((inner, below) for inner in nodes[one].same)
        meter.spend(1 + visits * (100 if node.unevaluated else 1))  # which the library unfolds in memory
        unfolded.append(applied)
    return unfolded


def _height(nodes: Sequence[_Node], number: int, above: _Path, heights: dict[int, int], meter: _Meter) -> int:
    """How many schemas are inside the one with this number for the same value, one inside the other."""
    if number in above:
        raise ManifestError(f"the manifest: {meter.what} refers to itself without end")
    if number not in heights:
        if len(above) > MAX_NESTED:
            raise meter.too_deep()
        below = [_height(nodes, inner, (*above, number), heights, meter) for inner in nodes[number].same]
        heights[number] = 1 + max(below, default=-1)
    if heights[number] + len(above) > MAX_NESTED:
        raise meter.too_deep()
    return heights[number]


def _sums_of(nodes: Sequence[_Node], applied: Mapping[int, int], meter: _Meter) -> list[dict[int, int]]:
    """What is applied to one field or item of the value, and how many times: for each that has a schema of its own, and
    for all others."""
    several = [(nodes[one], times) for one, times in applied.items()]
    sums = []
    for kind, name in {("field", None), ("item", None), *(key for one, _ in several for key in one.named)}:
        terms: dict[int, int] = {}
        for node, times in several:
            meter.spend(1 + len(node.each))
            own = node.named.get((kind, name), node.rest.get(kind)) if name is not None else node.rest.get(kind)
            for number in (own, *(one for of, one in node.each if of == kind)):
                if number is not None:
                    terms[number] = terms.get(number, 0) + times
        if terms:
            sums.append(terms)
    return sums


# Checking: the library's validators, and the first mistake in words.


def _validator(document: Json, draft: str = next(iter(_DRAFTS))) -> Validator:
    import jsonschema_rs  # noqa: PLC0415 - takes 10 ms, and not every run needs it

    validator: type[Validator] = getattr(jsonschema_rs, _DRAFTS[draft])
    return validator(document, pattern_options=_options(), offline=True, mask="…")


def _options() -> RegexOptions:
    from jsonschema_rs import RegexOptions  # noqa: PLC0415 - as above

    return RegexOptions(size_limit=MAX_PATTERN_BYTES)


class _Forms:
    """The definitions of a schema, as the library has them."""

    def __init__(self, definitions: Mapping[str, Json], draft: str) -> None:
        self._definitions = definitions
        self._draft = draft

    def build(self, places: Mapping[str, str]) -> None:
        """Raises ManifestError where the library finds a keyword malformed."""
        try:
            _ = self.whole
        except ValueError as error:
            _, name, *path = (*getattr(error, "instance_path", ()), "", "s0")[:-2] or ("", "s0")
            path = path[1:] if path[:2] in (["if", "anyOf"], ["if", "oneOf"]) else path  # which stand behind an `if`
            raise _wrong(f"{places[str(name)]}{_steps(path)}", "what JSON Schema has there") from None

    @cached_property
    def _document(self) -> Json:
        return {"$schema": self._draft, "allOf": [{"$ref": "#/definitions/s0"}], "definitions": self._definitions}

    @cached_property
    def whole(self) -> Validator:
        return _validator(self._document, self._draft)

    @cached_property
    def _parts(self) -> ValidatorMap:
        from jsonschema_rs import validator_map_for  # noqa: PLC0415 - as above

        return validator_map_for(self._document, pattern_options=_options(), offline=True, mask="…")

    def open_to_attachments(self) -> _Forms:
        """Forms that an object with `$attachment` fits wherever there is a schema for a field or an item: it stands for
        bytes that are elsewhere."""
        return _Forms({name: _open(one) for name, one in self._definitions.items()}, self._draft)

    def mistake(self, value: Json) -> _Told:
        """The first mistake of `value`, which does not fit."""
        return self._mistake("", value, (), MAX_FORMS) or ((), "has a form that it may not have", None)

    def _mistake(self, where: str, value: Json, at: _Path, left: int) -> _Told | None:
        """Of `value`, which is at `at`, under the definition at `where`. None where it fits. `left` bounds how many
        forms are gone into."""
        validator = self._parts[where] if where else self.whole
        if (error := _first_error(validator, value)) is None:
            return None
        owner, inner = self._owner(error, where), value
        for step in error.instance_path:
            step = str(step) if isinstance(inner, dict) else step  # noqa: PLW2901 - a name of digits comes as a number
            inner, at = inner[step], (*at, step)
        keyword = error.kind.name
        last = error.schema_path[-1]
        if keyword == "falseSchema" and len(error.schema_path) in (1, 3):  # longer is that of a property of this name
            if last == "additionalProperties":
                return _unknown(min(inner), owner, at)
            if last == "propertyNames":
                return (*at, min(inner)), _NAME_IS_WRONG, None
        if keyword == "falseSchema" and last == "else" and isinstance(asked := owner.get("if"), dict):
            for choice in asked.keys() & {"anyOf", "oneOf"}:
                return self._none_fits(asked[choice], inner, at, left)
        if keyword == "unevaluatedProperties" and owner[keyword] and left:
            name = min(error.kind.as_dict()["unexpected"])
            return self._mistake(_target(owner[keyword]), inner[name], (*at, name), left - 1)
        return _in_words(error, owner, inner, at)

    def _owner(self, error: ValidationError, where: str) -> Json:
        """The schema whose keyword found the mistake, with the definition at `where`."""
        path = (
            error.schema_path
            if error.schema_path[0] == "definitions"
            else ["definitions", _definition(where), *error.schema_path]
        )
        found: Json = {"definitions": self._definitions}
        for step in path[:-1]:
            found = found[step if isinstance(found, list) else str(step)]
        return found

    def _none_fits(self, forms: Sequence[Json], value: Json, at: _Path, left: int) -> _Told:
        """The form that was meant is of the value's own type, its tags are the value's, and its first mistake is the
        deepest."""
        errors = {
            _target(one): _first_error(self._parts[_target(one)], value) for one in forms if isinstance(one, dict)
        }
        fitting = sum(one is True or (one is not False and errors[_target(one)] is None) for one in forms)
        if fitting:
            return at, f"has {fitting} of the forms of which it may have one", None
        wrong = {where: error for where, error in errors.items() if error is not None}
        types = {
            where: _types_in(self._owner(error, where))
            for where, error in wrong.items()
            if error.kind.name == "type" and not error.instance_path
        }
        alike = [where for where in wrong if where not in types]
        if types and not alike:
            return at, *_not_of_type(value, dict.fromkeys(one for several in types.values() for one in several))
        meant = [where for where in alike if self._may_be_meant(where, value, MAX_NESTED)]
        meant.sort(key=lambda where: len(wrong[where].instance_path), reverse=True)
        depths = [len(wrong[where].instance_path) for where in meant]
        if left and depths and depths.count(depths[0]) == 1:
            found = self._mistake(meant[0], value, at, left - 1)
            if found is not None:
                return found
        return at, f"has none of the {len(forms)} forms that it may have", None

    def _may_be_meant(self, where: str, value: Json, left: int) -> bool:
        """False where the form has a tag, a field with a fixed value, and `value` has another one there."""
        form = self._definitions[_definition(where)]
        if not isinstance(value, dict) or not left:
            return True
        for name, one in form.get("properties", {}).items():
            tag = self._definitions[_definition(_target(one))] if name in value and isinstance(one, dict) else {}
            options = [tag["const"]] if "const" in tag else tag.get("enum")
            if options is not None and isinstance(value[name], str) and value[name] not in options:
                return False
        return all(
            self._may_be_meant(_target(one), value, left - 1)
            for one in form.get("allOf", ())
            if isinstance(one, dict) and "$ref" in one
        )


def _definition(pointer: str) -> str:
    return pointer.rpartition("/")[2]


def _target(schema: Mapping[str, Json]) -> str:
    """Of a reference, and of one that is open to attachments."""
    target: str = schema["$ref"] if "$ref" in schema else schema["else"]["$ref"]
    return target


def _first_error(validator: Validator, value: Json) -> ValidationError | None:
    from jsonschema_rs import ValidationError  # noqa: PLC0415 - for a mistake alone

    try:
        validator.validate(value)
    except ValidationError as error:
        return error
    return None


_ATTACHMENT = {"type": "object", "required": ["$attachment"]}


def _open(definition: Json) -> Json:
    """A definition whose schemas for fields and items are fitted by attachments, too."""

    def opened(given: Json) -> Json:
        if isinstance(given, list):
            return [opened(one) for one in given]
        return {"if": _ATTACHMENT, "else": given} if isinstance(given, dict) else given

    if not isinstance(definition, dict):
        return definition
    return {
        keyword: given
        if _APPLIED.get(keyword, (_SAME,))[0] == _SAME or keyword == "propertyNames"
        else {name: opened(one) for name, one in given.items()}
        if keyword in _TABLES
        else opened(given)
        for keyword, given in definition.items()
    }


def _has_attachment(value: Json) -> bool:
    return any(isinstance(one, dict) and "$attachment" in one for one in _inside(value))


_PLAIN_TYPES = {"string": str, "boolean": bool, "object": dict, "array": list, "integer": int}
_PLAIN_KEYWORDS = {
    "$schema",
    "type",
    "properties",
    "required",
    "additionalProperties",
    "enum",
    "description",
    "default",
}


def _is_plain(schema: Json) -> bool:
    """Whether the schema is so plain that it is certainly well-formed, and that most values can be checked without the
    library. Importing it takes 10 ms, and schemas of settings are like that."""
    if isinstance(schema, bool):
        return True
    required, named = schema.get("required", []), schema.get("properties", {})
    return (
        schema.keys() <= _PLAIN_KEYWORDS
        and schema.get("type", "object") in tuple(_PLAIN_TYPES)
        and isinstance(schema.get("enum", []), list)
        and all(isinstance(one, str) for one in schema.get("enum", ()))
        and isinstance(named, dict)
        and isinstance(required, list)
        and all(isinstance(one, str) and one in named for one in required)
        and len(set(required)) == len(required)
        and all(map(_is_plain, (*named.values(), schema.get("additionalProperties", True))))
    )


def _plainly_fits(schema: Json, value: Json) -> bool:
    """Whether `value` certainly fits a plain schema."""
    if isinstance(schema, bool):
        return schema
    if "enum" in schema or ("type" in schema and type(value) is not _PLAIN_TYPES[schema["type"]]):
        return type(value) is str and value in schema.get("enum", ()) and schema.get("type", "string") == "string"
    if type(value) is not dict:
        return True
    named, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    return all(name in value for name in schema.get("required", ())) and all(
        _plainly_fits(named.get(name, others), one) for name, one in value.items()
    )


# Words: a value may be a secret. It is shown only where it comes near to what it was to be.

_TYPES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_PLAIN_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]{0,63}\Z")
_MAX_SHOWN = 60  # characters of a value or a name
_MAX_PATH = 200
_MAX_LISTED = 8
_MAX_COMPARED = 500

_BOUNDS = {
    "minimum": "has to be {} or more",
    "maximum": "has to be {} or less",
    "exclusiveMinimum": "has to be more than {}",
    "exclusiveMaximum": "has to be less than {}",
    "multipleOf": "has to be a multiple of {}",
    "minLength": "has to have {} or more characters",
    "maxLength": "has to have {} or fewer characters",
    "minItems": "has to have {} or more items",
    "maxItems": "has to have {} or fewer items",
    "minProperties": "has to have {} or more fields",
    "maxProperties": "has to have {} or fewer fields",
    "pattern": "does not match the pattern {}",
    "const": "has to be {}",
}
_NAME_IS_WRONG = "has a name that is not allowed"
_ALWAYS = {
    "falseSchema": "is not known here",
    "not": "has a form that it may not have",
    "unevaluatedItems": "has items that are not known here",
}


def _in_words(error: ValidationError, owner: Mapping[str, Json], value: Json, at: _Path) -> _Told:
    """The mistake that a keyword of `owner` found in `value`."""
    keyword = error.kind.name
    if keyword in _BOUNDS:
        return at, _BOUNDS[keyword].format(_shown(owner[keyword])), None
    match keyword:
        case "type":
            return at, *_not_of_type(value, _types_in(owner))
        case "enum":
            return at, *_none_of(value, owner["enum"])
        case "required":
            name = error.kind.as_dict()["property"]
            last = str(error.schema_path[-1])  # or dependentRequired, or dependencies
            needs_of: Mapping[str, Json] = {} if last == keyword else owner[last]
            beside = [one for one, needs in needs_of.items() if one in value and name in needs]
            if beside:
                return (*at, name), f"is required beside {_name(beside[0])}", None
            return (*at, name), "is required", None
        case "additionalProperties" | "unevaluatedProperties":
            return _unknown(min(error.kind.as_dict()["unexpected"]), owner, at)
        case "propertyNames":
            return (*at, error.kind.as_dict()["error"].instance), _NAME_IS_WRONG, None
        case "uniqueItems":
            return (*at, _repeated(value)), "is there twice", None
        case "contains":
            least, most = owner.get("minContains", 1), owner.get("maxContains")
            allowed = f"{least} or more" if most is None else f"{least} to {most}"
            return at, f"has to have {allowed} items of a form", None
    return at, _ALWAYS.get(keyword, "has a form that it may not have"), None


def _field_of(at: _Path) -> str:
    """`params.messages[0].content`; a name that is none of a programmer's is in quotes, as JSON."""
    path = _steps(at).removeprefix(".")
    return path if len(path) <= _MAX_PATH else f"…{path[-_MAX_PATH:]}"


def _steps(path: Iterable[str | int]) -> str:
    return "".join(
        f"[{key}]" if isinstance(key, int) else f".{key}" if _PLAIN_NAME.match(key) else f"[{_shown(key)}]"
        for key in path
    )


def _types_in(schema: Mapping[str, Json]) -> Sequence[str]:
    given = schema["type"]
    return [given] if isinstance(given, str) else given


def _not_of_type(value: Json, types: Iterable[str]) -> tuple[str, None]:
    wanted = " or ".join(_TYPES[one] for one in types)
    kind = kind_of(value)
    return f"has to be {wanted}, and is {'a boolean' if kind == 'boolean' else _TYPES.get(kind, kind)}", None


def _none_of(value: Json, options: Sequence[Json]) -> tuple[str, str]:
    near = _nearest(value, [one for one in options if isinstance(one, str)])
    given = f"is {_shown(value)}, which " if near else ""
    return f"{given}is none of the {len(options)} that it may be", near or f"it may be {_listed(options)}"


def _unknown(name: str, owner: Mapping[str, Json], at: _Path) -> _Told:
    known = tuple(owner.get("properties", ()))
    hint = _nearest(name, known) or f"known are {_listed(known, quoted=False) or 'none'}"
    return (*at, name), "is not known here", hint


def _nearest(value: Json, options: Sequence[str]) -> str | None:
    """`did you mean …?`, where something comes near."""
    if not isinstance(value, str) or not options:
        return None
    from difflib import get_close_matches  # noqa: PLC0415 - for a mistake alone

    near = get_close_matches(value[:_MAX_SHOWN], options[:_MAX_COMPARED], n=3, cutoff=0.5)
    return f"did you mean {_listed(near, quoted=False)}?" if near else None


def _listed(options: Sequence[Json], *, quoted: bool = True) -> str:
    names = [_name(one) if isinstance(one, str) and not quoted else _shown(one) for one in options[:_MAX_LISTED]]
    return ", ".join(names) + (f", … ({len(options)} in all)" if len(options) > _MAX_LISTED else "")


def _name(text: str) -> str:
    """A name out of a schema: bare where that cannot be mistaken for the host's own words."""
    return text if len(text) <= _MAX_SHOWN and all(map(_PLAIN_NAME.match, text.split("."))) else _shown(text)


def _shown(value: Json) -> str:
    """As JSON, cut where it is long: nothing in it can be taken for the host's own words."""
    text = clean_text(json.dumps(value[:_MAX_SHOWN] if isinstance(value, str) else value, ensure_ascii=False))
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def _repeated(items: Sequence[Json]) -> int:
    """The place of the first item that is equal to one before it. 1 and 1.0 are, 1 and true are not."""
    seen: set[str] = set()
    for index, one in enumerate(items):
        text = json.dumps(_canonical(one), sort_keys=True)
        if text in seen:
            return index
        seen.add(text)
    return len(items) - 1


def _canonical(value: Json) -> Json:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _canonical(one) for key, one in value.items()}
    return [_canonical(one) for one in value] if isinstance(value, list | tuple) else value
