"""Reads a JSON Schema and bounds the work that it can cause, before `jsonschema_rs` gets it.

1. Every subschema becomes a definition with a number; subschemas refer to each other by that number. References to
   anything outside, circles and patterns that need backtracking are refused. Unknown keywords are left out.
2. The weight is computed: the most work that the schema can cause for one value, at any depth of any input. A schema
   whose work doubles with each level of a value has no bound, and is refused.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

from host.core.strict_json import MAX_DEPTH, Json, clean_text
from host.errors import ManifestError

if TYPE_CHECKING:
    from jsonschema_rs import Validator, ValidatorMap

MAX_SUBSCHEMAS = 4_096
MAX_NESTED = 16  # schemas for one and the same value, one inside the other: the library's stack grows with them
MAX_PATTERNS = 256
MAX_PATTERN_LENGTH = 4_096  # characters
MAX_PATTERN_BYTES = 1 << 16  # compiled: then none takes more than a millisecond to compile, and 30 ns a character
MAX_WEIGHT = 20_000  # units of work for one value: inputs of 2,500 values can always be checked
MAX_READING = 2_000_000  # steps to compute a weight: about a second
MAX_PLACE = 300  # characters of a place in a schema

_DRAFT_7 = "http://json-schema.org/draft-07/schema"
DRAFTS = ("https://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2019-09/schema", _DRAFT_7)

_SAME, _FIELD, _ITEM = "same", "field", "item"
_APPLIED = {
    # keyword: what its schemas apply to. The value itself, or its fields or items
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "not", "if", "then", "else"), _SAME),
    **dict.fromkeys(("dependentSchemas", "dependencies"), _SAME),
    **dict.fromkeys(("properties", "patternProperties", "propertyNames"), _FIELD),
    **dict.fromkeys(("additionalProperties", "unevaluatedProperties"), _FIELD),
    **dict.fromkeys(("prefixItems", "contains", "items", "additionalItems", "unevaluatedItems"), _ITEM),
}
_TABLES = ("properties", "patternProperties", "dependentSchemas", "dependencies")
_FOR_EACH = ("patternProperties", "propertyNames", "contains")  # the others pass over what has a schema by its name
_ATTACHMENT = {"type": "object", "required": ["$attachment"]}

_Key: TypeAlias = tuple[str, str | int | None]  # fields or items; the name or the place of one, None for the others


@dataclass(slots=True)
class _Node:
    """The cost of one subschema. `same` are the subschemas that it applies to the same value, `each` those to each
    field or item. `inside` are those for one field or item alone, and for the others. Weighing adds up `same`."""

    work: int = 1  # units of some 20 ns, for the value and for every 32 characters of it
    unevaluated: bool = False  # the library then goes through `same` again
    same: list[int] = field(default_factory=list)
    each: list[tuple[str, int]] = field(default_factory=list)
    inside: dict[_Key, Counter[int]] = field(default_factory=dict)
    height: int = -1  # of the schemas in `same`, one inside the other; below 0 before they are added up
    visits: int = 1


class SchemaReader:
    """Reads `document`, which errors call `what`. `definitions` then has all of its subschemas; `s0` is the whole.

    With `attachments` an object with `$attachment` fits every field and item that has a schema: it stands for bytes
    that are elsewhere. Raises ManifestError for schemas that are refused. Subschemas without a reference to them are
    not read, and keywords that do not apply others are for the library to judge."""

    def __init__(self, document: Json, what: str, *, attachments: bool = False) -> None:
        self.what = what
        self.definitions: dict[str, Json] = {}
        self.places: dict[str, str] = {}  # of the definitions in the document
        self.nodes: list[_Node] = []
        self.reads_texts = self.reads_names = False  # whether the characters of texts and names cost anything
        self._document = document
        self._attachments = attachments
        self._names: dict[int, str] = {}  # by the identity of a part of the document, which lives as long
        self._unread: list[tuple[int, Mapping[str, Json]]] = []
        self._patterns: set[str] = set()
        draft = document.get("$schema", DRAFTS[0]) if isinstance(document, dict) else DRAFTS[0]
        if not isinstance(draft, str) or (draft := draft.removesuffix("#")) not in DRAFTS:
            raise wrong(f"{what}.$schema", "a draft that is known here: " + ", ".join(DRAFTS))
        self.draft = draft
        if isinstance(self._reference(document, what), bool):
            self._define(document, what)
        while self._unread:
            self._read(*self._unread.pop())

    def _read(self, number: int, schema: Mapping[str, Json]) -> None:
        node, where = self.nodes[number], self.places[f"s{number}"]
        for keyword in schema.keys() & {"$dynamicRef", "$recursiveRef"}:  # their meaning depends on the way there
            raise ManifestError(f"the manifest: {where} has {keyword}, which is not enforced here")
        if "$id" in schema and schema is not self._document:
            raise ManifestError(f"the manifest: {where} has an $id of its own, so references in it would not be clear")
        out: dict[str, Json] = {}
        self.definitions[f"s{number}"] = out
        extra: list[Json] = []
        if "$ref" in schema:
            extra.append(self._applied(node, "allOf", None, *self._referred(schema["$ref"], f"{where}.$ref")))
            schema = {} if self.draft == _DRAFT_7 else schema  # draft 7 passes over what is beside a reference
        for keyword, given in schema.items():
            place = f"{where}.{keyword}"
            if keyword in _COSTS:
                if keyword == "multipleOf" and isinstance(given, int | float) and not 1e-15 <= given <= 1e15:
                    raise wrong(place, "a number between 1e-15 and 1e15")
                node.work += _COSTS[keyword] or _leaves(given)
                out[keyword] = given if keyword != "pattern" else self._pattern(given, place)
            elif keyword in ("anyOf", "oneOf"):
                # behind an `if`: the library then says that none fits, and does not list the mistakes of each
                choice = {"if": {keyword: self._parts(node, keyword, given, place)}, "else": False}
                extra.append({"$ref": f"#/definitions/{self._define(choice, where)}"})
            elif keyword in _APPLIED:
                out[keyword] = self._parts(node, keyword, given, place)
        self.reads_texts |= not _OF_TEXT.isdisjoint(schema)
        self.reads_names |= not _OF_NAMES.isdisjoint(schema)
        node.unevaluated = not schema.keys().isdisjoint(("unevaluatedProperties", "unevaluatedItems"))
        if schema.get("uniqueItems"):  # each part of each item is compared
            part = len(self.nodes)
            node.each.append((_ITEM, part))
            self.nodes.append(_Node(work=27, each=[(_ITEM, part), (_FIELD, part)]))
        if extra:
            given = out.get("allOf", [])
            out["allOf"] = [*extra, *given] if isinstance(given, list) else given

    def _parts(self, node: _Node, keyword: str, given: Json, place: str) -> Json:
        """References in place of the schemas of `keyword`. What is malformed stays, for the library."""
        if keyword in _TABLES and isinstance(given, dict):
            cost = {"properties": 0, "patternProperties": 5 + _COSTS["pattern"]}.get(keyword, 1)
            node.work += cost * len(given)
            return {
                self._pattern(name, place) if keyword == "patternProperties" else name: one
                if keyword == "dependencies" and isinstance(one, list)
                else self._applied(node, keyword, name, one, f"{place}.{bare(name)}")
                for name, one in given.items()
            }
        if isinstance(given, list | tuple) and (keyword.endswith("Of") or keyword in ("prefixItems", "items")):
            return [self._applied(node, keyword, index, one, f"{place}[{index}]") for index, one in enumerate(given)]
        return given if keyword in _TABLES else self._applied(node, keyword, None, given, place)

    def _applied(self, node: _Node, keyword: str, name: str | int | None, schema: Json, where: str) -> Json:
        """A reference to `schema`, which `node` applies by `keyword`."""
        reference, kind = self._reference(schema, where), _APPLIED[keyword]
        if isinstance(reference, bool):
            return reference
        number = int(target(reference)[1:])
        if kind == _SAME:
            node.same.append(number)
            return reference
        if keyword in _FOR_EACH:
            node.each.append((kind, number))
        else:
            node.inside.setdefault((kind, name), Counter())[number] += 1
        return {"if": _ATTACHMENT, "else": reference} if self._attachments else reference

    def _reference(self, schema: Json, where: str) -> Json:
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise wrong(where, "a schema: an object, true or false")
        if id(schema) not in self._names:
            if len(self._names) >= MAX_SUBSCHEMAS:
                raise ManifestError(f"the manifest: {self.what} has more than {MAX_SUBSCHEMAS} schemas in it")
            self._unread.append((len(self.nodes), schema))
            self._names[id(schema)] = self._define({}, where)
        return {"$ref": f"#/definitions/{self._names[id(schema)]}"}

    def _define(self, definition: Json, where: str) -> str:
        name = f"s{len(self.nodes)}"
        self.nodes.append(_Node())
        self.definitions[name], self.places[name] = definition, where[:MAX_PLACE]
        return name

    def _referred(self, ref: Json, where: str) -> tuple[Json, str]:
        """Only JSON Pointers into the document (RFC 6901, 6) are followed: nothing is ever fetched."""
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            raise wrong(where, "a place in the schema itself, like #/$defs/name")
        try:
            found, names = pointed(self._document, ref)
        except LookupError:
            raise wrong(where, f"a place that there is: {shown(ref)}") from None
        return found, reduce(lambda place, step: f"{place[:MAX_PLACE]}.{bare(step)}", names, self.what)

    def _pattern(self, text: Json, where: str) -> str:
        """`text`, if it is a regular expression of ECMA-262 that matches in linear time."""
        if not isinstance(text, str):
            raise wrong(where, "a regular expression")
        if text in self._patterns:
            return text
        if len(self._patterns) >= MAX_PATTERNS:
            raise ManifestError(f"the manifest: {self.what} has more than {MAX_PATTERNS} patterns")
        if len(text) > MAX_PATTERN_LENGTH:
            raise wrong(where, f"a pattern of {MAX_PATTERN_LENGTH} or fewer characters: {shown(text)}")
        try:
            validator({"pattern": text})
        except ValueError:
            wanted = "a pattern that matches in linear time, without look-around and references"
            raise wrong(where, f"{wanted}: {shown(text)}") from None
        self._patterns.add(text)
        return text


def pointed(document: Json, ref: str) -> tuple[Json, list[str]]:
    """The place in `document` that `ref` (`#`, `#/…`) points to, and the steps to it as they are written. Raises
    LookupError where there is none."""
    found, names = document, ref.split("/")[1:]
    for step in names:
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, list | tuple) and key.isdecimal() and len(key) < 8 and int(key) < len(found):
            found = found[int(key)]
        else:
            raise LookupError(ref)
    return found, names


def validator(document: Json) -> Validator:
    """The library's validator: with patterns that cannot backtrack, without a network, without values in errors."""
    import jsonschema_rs  # noqa: PLC0415 - takes 10 ms, and not every schema needs it

    return jsonschema_rs.validator_for(document, **_options())


def validators(document: Json) -> ValidatorMap:
    """The validator of each schema in `document`, by its pointer."""
    import jsonschema_rs  # noqa: PLC0415 - as above

    return jsonschema_rs.validator_map_for(document, **_options())


def _options() -> Any:
    import jsonschema_rs  # noqa: PLC0415 - as above

    return {"pattern_options": jsonschema_rs.RegexOptions(size_limit=MAX_PATTERN_BYTES), "offline": True, "mask": "…"}


def _leaves(value: Json) -> int:
    """The cost of comparing with `value`: a number takes long where the other one is of another type."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return 2  # found by their hash
    return sum(25 if isinstance(one, int | float) else 2 for one in values_in(value))


_COSTS = {
    # keyword: units of work; 0 where comparing takes as many as there is to compare with
    **dict.fromkeys(("minItems", "maxItems", "minProperties", "maxProperties", "type", "uniqueItems"), 1),
    **dict.fromkeys(("minContains", "maxContains"), 1),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), 2),
    **dict.fromkeys(("enum", "const", "required", "dependentRequired"), 0),
    **dict.fromkeys(("minLength", "maxLength"), 9),
    "pattern": 50,
    "multipleOf": 150,
}
_OF_TEXT = {"minLength", "maxLength", "pattern", "uniqueItems"}  # comparing with other keywords takes 1 ns
_OF_NAMES = {"patternProperties", "propertyNames", "uniqueItems"}


class Scales:
    """Computes the weight of a schema: the most work for one value, and for 32 characters of one text, in units.

    Applying a node to a value costs what it and its `same` cost. These apply others to each field and item: the sum of
    their weights is the weight one level deeper. Inputs are MAX_DEPTH deep, so that many rounds find the bound; a
    schema that does not contain itself needs as many rounds as it is deep."""

    def __init__(self, reader: SchemaReader) -> None:
        self._nodes = reader.nodes
        self._what = reader.what
        self._left = MAX_READING  # the computation itself is bounded, too

    def weigh(self) -> int:
        """Raises ManifestError where there is no bound, or one above MAX_WEIGHT."""
        for number in range(len(self._nodes)):
            self._add_up(number, ())
        weights = costs = [node.work for node in self._nodes]
        inside = [list({tuple(terms.items()) for terms in node.inside.values()}) for node in self._nodes]
        for _ in range(MAX_DEPTH):
            deeper = [
                max([cost, *(sum([times * weights[one] for one, times in terms]) for terms in several)])
                for cost, several in zip(costs, inside, strict=True)
            ]
            self._spend(sum(len(terms) for several in inside for terms in several), max(deeper))
            if deeper == weights:
                break
            weights = deeper
        return weights[0]

    def _add_up(self, number: int, above: tuple[int, ...]) -> _Node:
        """The node with all of its `same` in it. Raises ManifestError for circles, and for too many one inside the
        other."""
        node = self._nodes[number]
        if number in above:
            raise ManifestError(f"the manifest: {self._what} refers to itself without end")
        if node.height < 0 and len(above) <= MAX_NESTED:
            self._take(node, [self._add_up(inner, (*above, number)) for inner in node.same])
        if max(node.height, 0) + len(above) > MAX_NESTED:
            limit = f"{MAX_NESTED} schemas for one value are the most"
            raise ManifestError(f"the manifest: {self._what} is nested too deeply: {limit}")
        return node

    def _take(self, node: _Node, same: Sequence[_Node]) -> None:
        node.height = 1 + max((one.height for one in same), default=-1)
        # of `unevaluated…`, the library asks each level below which fields it took, up to three times
        again = 1 + 3 * node.height if node.unevaluated else 1
        node.visits += sum(one.visits for one in same)
        node.work += again * sum(one.work for one in same)
        self._spend(node.visits * 100 if node.unevaluated else 1, node.work)  # the library unfolds these in memory
        if not same and not node.each:
            return
        inside: dict[_Key, Counter[int]] = {}
        for key in {(_FIELD, None), (_ITEM, None)}.union(node.inside, *(one.inside for one in same)):
            several = [(node.inside, 1), *((one.inside, again) for one in same)]
            terms = Counter(number for kind, number in node.each * (1 + node.unevaluated) if kind == key[0])
            for given, times in several:
                for number, count in given.get(key, given.get((key[0], None), {})).items():
                    terms[number] += count * times
            self._spend(1 + len(node.each) + len(several) + len(terms), node.work)
            if terms:
                inside[key] = terms
        node.inside = inside

    def _spend(self, steps: int, weight: int) -> None:
        self._left -= steps
        if self._left < 0 or weight > MAX_WEIGHT:
            raise ManifestError(
                f"the manifest: {self._what} applies too many schemas to one value",
                hint="a field that several forms describe can be described once, beside them",
            )


def values_in(value: Json) -> Iterator[Json]:
    """`value` and all values in it."""
    level = [value]
    while level:
        yield from level
        nested = [one for one in level if isinstance(one, dict | list | tuple)]
        level = [inner for one in nested for inner in (one.values() if isinstance(one, dict) else one)]


def target(reference: Mapping[str, Json]) -> str:
    """The name of the definition that is referred to, also where attachments fit."""
    pointer: str = reference["$ref"] if "$ref" in reference else reference["else"]["$ref"]
    return pointer.rpartition("/")[2]


def wrong(where: str, wanted: str) -> ManifestError:
    """The error for a place in a schema."""
    return ManifestError(f"the manifest: {where[:MAX_PLACE]} is not {wanted}")


# Texts out of a schema or a value, on one line and short: none can be taken for the host's own words.

MAX_SHOWN = 60  # characters of a value or a name
_PLAIN_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]{0,63}\Z")


def shown(value: Json) -> str:
    """`value` as JSON, cut where it is long."""
    text = clean_text(json.dumps(value[:MAX_SHOWN] if isinstance(value, str) else value, ensure_ascii=False))
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def bare(name: str) -> str:
    """A name without quotes, where it is like a programmer's."""
    return name if len(name) <= MAX_SHOWN and all(map(_PLAIN_NAME.match, name.split("."))) else shown(name)


def steps(path: Iterable[str | int]) -> str:
    """`.messages[0].content`; a name that is not a programmer's stands in quotes, as JSON."""
    return "".join(
        f"[{key}]" if isinstance(key, int) else f".{key}" if _PLAIN_NAME.match(key) else f"[{shown(key)}]"
        for key in path
    )
