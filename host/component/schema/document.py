"""A schema as a whole: read once, with whatever cannot be enforced refused; then any number of values are checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias
from urllib.parse import unquote

from host.component.schema import words
from host.component.schema.applicators import APPLICATORS, applied_too
from host.component.schema.assertions import ASSERTIONS, is_list, is_object
from host.component.schema.checking import MAX_MISTAKES, Mistake, Node, Pass, Path, TooLarge
from host.core.strict_json import Json, clean_text
from host.errors import InputError, ManifestError

MAX_SUBSCHEMAS = 4_096
MAX_PLACE = 300  # characters of where something is
MAX_PATTERNS = 256
MAX_PATTERN_BYTES = 1 << 16  # compiled: then none takes more than a millisecond to compile, and 30 ns a character

_DRAFT_7 = "http://json-schema.org/draft-07/schema"
_DRAFTS = ("https://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2019-09/schema", _DRAFT_7)
_NOT_HERE = ("$dynamicRef", "$recursiveRef")  # whose meaning depends on the way that led there

Holds: TypeAlias = Callable[[str, Pass], bool]


class InputSchema:
    """A schema that was understood. `compile` makes it; thread-safe."""

    def __init__(self, node: Node, *, tracks: bool) -> None:
        self._node = node
        self._tracks = tracks

    @classmethod
    def compile(cls, schema: Json, what: str = "schema.input") -> InputSchema:
        """`what` names it in the ManifestError that a schema raises which is malformed, of an unknown draft, too large,
        refers to anything outside itself, or goes round in a circle without going into the value."""
        reader = Reader(schema, what)
        try:
            node = reader.node(schema, what)
        except RecursionError:
            raise ManifestError(f"the manifest: {what} is nested too deeply") from None
        reader.check_circles()
        return cls(node, tracks=reader.tracks)

    def check(self, value: Json, within: str = "") -> None:
        """Raises InputError with the path of the first field that is wrong, and how many more there are. `value` is one
        that `json.dumps` takes; `within` names what it is (`config`), and begins the paths then. Objects with
        `$attachment` fit everywhere."""
        root: Path = (None, within) if within else None
        whole = within or "the input"
        try:
            found, _ = Pass(root, tracks=self._tracks).attempt(self._node, value, root)
        except TooLarge:
            raise InputError(
                f"{whole} is too large to be checked against the manifest's schema",
                field=within or None,
                hint="large data can be an attachment",
            ) from None
        except RecursionError:
            raise InputError(
                f"{whole} is nested too deeply to be checked against the manifest's schema", field=within or None
            ) from None
        if found:
            raise _told(found, whole)


class Reader:
    """Makes nodes of a document's schemas, each once. `tracks` is whether one asks what the others have looked at."""

    def __init__(self, document: Json, what: str) -> None:
        self.tracks = False
        self._document = document
        self._what = what
        self._nodes: dict[int, Node] = {}  # by the identity of a part of the document, which lives as long
        self._patterns: dict[str, Holds] = {}
        draft = document.get("$schema", _DRAFTS[0]) if is_object(document) else _DRAFTS[0]
        if not isinstance(draft, str) or (draft := draft.removesuffix("#")) not in _DRAFTS:
            raise self.wrong(f"{what}.$schema", "a draft that is known here: " + ", ".join(_DRAFTS))
        self._only_ref = draft == _DRAFT_7  # which passes over what is beside a reference

    def node(self, schema: Json, where: str) -> Node:
        if isinstance(schema, bool):
            return Node() if schema else _nothing()
        if not is_object(schema):
            raise self.wrong(where, "a schema: an object, true or false")
        if (known := self._nodes.get(id(schema))) is not None:
            return known
        where = where[:MAX_PLACE]
        if len(self._nodes) >= MAX_SUBSCHEMAS:
            raise ManifestError(f"the manifest: {self._what} has more than {MAX_SUBSCHEMAS} schemas in it")
        node = self._nodes[id(schema)] = Node()
        for keyword in _NOT_HERE:
            if keyword in schema:
                raise ManifestError(f"the manifest: {where} has {keyword}, which is not enforced here")
        if "$id" in schema and schema is not self._document:
            raise ManifestError(f"the manifest: {where} has an $id of its own, so references in it would not be clear")
        if "$ref" in schema:
            applied_too(node, self._referred(schema["$ref"], f"{where}.$ref"))
        if "$ref" not in schema or not self._only_ref:
            for keywords, add in (*ASSERTIONS.items(), *APPLICATORS.items()):
                if not schema.keys().isdisjoint(keywords.split()):
                    add(self, node, schema, where)
        return node

    def nodes(self, given: Json, where: str) -> tuple[Node, ...]:
        return tuple(self.node(one, f"{where}[{index}]") for index, one in enumerate(self.items(given, where)))

    def nodes_by_name(self, given: Json, where: str) -> dict[str, Node]:
        return {name: self.node(one, f"{where}.{words.name(name)}") for name, one in self.table(given, where).items()}

    def items(self, given: Json, where: str) -> Sequence[Json]:
        if not is_list(given):
            raise self.wrong(where, "a list")
        return given

    def table(self, given: Json, where: str) -> Mapping[str, Json]:
        if not is_object(given):
            raise self.wrong(where, "an object")
        return given

    def names(self, given: Json, where: str) -> tuple[str, ...]:
        if not is_list(given) or not all(isinstance(one, str) for one in given):
            raise self.wrong(where, "a list of names")
        return tuple(given)

    def flag(self, given: Json, where: str) -> bool:
        if not isinstance(given, bool):
            raise self.wrong(where, "true or false")
        return given

    def pattern(self, text: Json, where: str) -> Holds:
        """Whether a text has a part that matches: a search, by the regular expressions of ECMA-262 less what would need
        backtracking."""
        if not isinstance(text, str):
            raise self.wrong(where, "a regular expression")
        if text not in self._patterns:
            if len(self._patterns) >= MAX_PATTERNS:
                raise ManifestError(f"the manifest: {self._what} has more than {MAX_PATTERNS} patterns")
            self._patterns[text] = self._compiled(text, where)
        return self._patterns[text]

    def wrong(self, where: str, wanted: str) -> ManifestError:
        return ManifestError(f"the manifest: {where[:MAX_PLACE]} is not {wanted}")

    def check_circles(self) -> None:
        """Raises ManifestError where a schema applies itself to the very value that it is applied to."""
        if not any(node.same for node in self._nodes.values()):
            return
        from graphlib import CycleError, TopologicalSorter  # noqa: PLC0415 - few schemas need it

        try:
            TopologicalSorter({node: node.same for node in self._nodes.values()}).prepare()
        except CycleError:
            raise ManifestError(f"the manifest: {self._what} refers to itself without end") from None

    def _referred(self, ref: Json, where: str) -> Node:
        """Only JSON Pointers into the document (RFC 6901, 6) are followed: nothing is ever fetched."""
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            raise self.wrong(where, "a place in the schema itself, like #/$defs/name")
        found, place = self._document, self._what
        for step in ref.split("/")[1:]:
            place = f"{place[:MAX_PLACE]}.{words.name(step)}"
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            if is_object(found) and key in found:
                found = found[key]
            elif is_list(found) and key.isdecimal() and len(key) < 8 and int(key) < len(found):
                found = found[int(key)]
            else:
                raise self.wrong(where, f"a place that there is: {words.shown(ref)}")
        return self.node(found, place)

    def _compiled(self, text: str, where: str) -> Holds:
        from jsonschema_rs import Draft202012Validator, RegexOptions  # noqa: PLC0415 - for schemas with patterns alone

        try:
            engine = Draft202012Validator(
                {"pattern": text}, pattern_options=RegexOptions(size_limit=MAX_PATTERN_BYTES), offline=True
            )
        except ValueError:
            raise self.wrong(
                where, f"a pattern that matches in linear time, without look-around and references: {words.shown(text)}"
            ) from None

        def holds(given: str, run: Pass) -> bool:
            run.spend(1 + (len(given) >> 5))
            return engine.is_valid(clean_text(given))

        return holds


def _nothing() -> Node:
    node = Node()

    def rule(value: Json, at: Path, run: Pass) -> frozenset[str | int]:
        del value
        run.mistake(at, "is not known here")
        return frozenset()

    node.add(rule)
    return node


def _told(found: Sequence[Mistake], whole: str) -> InputError:
    """The first mistake by its field's name, and how many others there are."""
    fields = sorted((words.field_of(mistake.at), index) for index, mistake in enumerate(found))
    field, index = fields[0]
    said = found[index].words
    told, hint = (said, None) if isinstance(said, str) else said()
    others = len({name for name, _ in fields}) - 1
    more = ", and another field is wrong" if others == 1 else f", and {others} other fields are wrong" if others else ""
    if len(found) >= MAX_MISTAKES:
        more = ", and many other fields are wrong"
    return InputError(f"{field or whole} {told}{more}", field=field or None, hint=hint)
