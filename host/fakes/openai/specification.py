"""What `specification.json` says of the API: each operation with its parameters and answer, and the models of the
answers.

The document is made from OpenAI's official Python SDK. A model is a JSON Schema in which null stands nowhere: what
may be null may be left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

ABSENT: Final[Any] = object()
_DOCUMENT = Path(__file__).with_name("specification.json")
_MAX_DEPTH = 24
# The values that a thing has where nobody said another, the first that its model knows.
_USUAL = (
    *("completed", "processed", "active", "succeeded", "enabled", "ready", "succeed", "pass", "member", "auto"),
    *("user", "default", "owner", "available"),
)
_MOMENTS = ("created", "added_at", "last_used_at", "updated_at", "last_active_at", "completed_at")


@dataclass(frozen=True, slots=True)
class ApiOperation:
    """One operation. `answer` is a JSON Schema, "binary", "text" or None for nothing; of a `page`, that of an item."""

    name: str
    method: str
    path: str  # "/v1/files/{file_id}"
    answer: Any
    required: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)  # for `parameters.check_types`
    choices: Mapping[str, list[str]] = field(default_factory=dict)
    form: bool = False
    admin: bool = False  # it takes an admin key
    page: str | None = None  # "cursor", "conversation", "next", "token" or "page"


@cache
def document() -> dict[str, Any]:
    """As tests/fakes/openai/introspection.py writes it: `{"source", "operations", "models"}`. Not to be changed."""
    read: dict[str, Any] = json.loads(_DOCUMENT.read_bytes())
    return read


@cache
def operations() -> dict[tuple[str, str], ApiOperation]:
    """By method and path. Of several for one path, which differ in what the SDK makes of the answer, the first."""
    found: dict[tuple[str, str], ApiOperation] = {}
    for name, one in document()["operations"].items():
        known = {**one, "required": tuple(one.get("required", ()))}
        found.setdefault((one["method"], one["path"]), ApiOperation(name=name, **known))
    return found


def completed(schema: Any, given: Any = ABSENT, *, word: str, now: int) -> Any:
    """Returns a value that fits `schema`, with as much of `given` as it has a place for.

    What is missing and required is made up: `word` for strings, `now` for times, the usual one of several values.
    """
    return _Completion(word, now).of(schema, given, "", 0)


class _DeadEndError(Exception):
    """A model that needs itself."""


@dataclass(frozen=True, slots=True)
class _Completion:
    word: str
    now: int

    def of(self, schema: Any, given: Any, name: str, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise _DeadEndError
        schema = _resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return _chosen(schema["enum"], given)
        if "anyOf" in schema or "oneOf" in schema:
            return self._option(schema.get("anyOf") or schema["oneOf"], given, name, depth)
        if "allOf" in schema:
            return self.of(schema["allOf"][0], given, name, depth)
        match schema.get("type"):
            case "object":
                return self._object(schema, given if isinstance(given, dict) else {}, depth)
            case "array":
                items = given if isinstance(given, list) else []
                return [self.of(schema.get("items", {}), one, name, depth + 1) for one in items]
            case "string":
                return given if isinstance(given, str) else self.word
            case "boolean":
                return given if isinstance(given, bool) else name == "deleted"
            case "integer":
                return given if _is_integer(given) else self._number(name)
            case "number":
                return given if _is_number(given) else self._number(name)
            case "null":
                return None
            case _:
                return {} if given is ABSENT else given

    def _number(self, name: str) -> int:
        return self.now if name.endswith("_at") or name in _MOMENTS or name in {"start_time", "end_time"} else 0

    def _object(self, schema: Any, given: dict[str, Any], depth: int) -> dict[str, Any]:
        known: dict[str, Any] = schema.get("properties", {})
        needed = schema.get("required", ())
        made: dict[str, Any] = {}
        for name, one in known.items():
            value = given.get(name)
            if name in needed or (value is not None and fits(one, value)):
                made[name] = self.of(one, ABSENT if value is None else value, name, depth + 1)
        if not known or "additionalProperties" in schema:
            within = schema.get("additionalProperties") or {}
            rest = {name: value for name, value in given.items() if name not in known}
            made |= {name: self.of(within, value, name, depth + 1) for name, value in rest.items()} if within else rest
        return made

    def _option(self, options: list[Any], given: Any, name: str, depth: int) -> Any:
        """That of the options which says most of `given`; of the equals, the first that ends."""
        ranked = sorted(options, key=lambda one: -_likeness(one, given))
        for one in ranked:
            try:
                return self.of(one, given, name, depth + 1)
            except _DeadEndError:
                continue
        raise _DeadEndError


def _resolved(schema: Any) -> Any:
    while "$ref" in schema:
        schema = document()["models"][schema["$ref"].rpartition("/")[2]]
    return schema


def _options(schema: Any) -> Iterator[Any]:
    schema = _resolved(schema)
    for one in schema.get("anyOf") or schema.get("oneOf") or ():
        yield from _options(one)
    if not ("anyOf" in schema or "oneOf" in schema):
        yield schema


def fits(schema: Any, value: Any) -> bool:
    """Whether `value` is of the kind that `schema` wants, without what is within it but its constants."""
    return any(_likeness(one, value) >= 0 for one in _options(schema))


def _likeness(schema: Any, value: Any) -> int:
    """How much of `value` the schema has a place for; negative if it is of another kind."""
    if value is ABSENT:
        return 0
    schema = _resolved(schema)
    if "anyOf" in schema or "oneOf" in schema:
        return max(_likeness(one, value) for one in _options(schema))
    if "const" in schema or "enum" in schema:
        return 9 if value in schema.get("enum", [schema.get("const")]) else -1
    match schema.get("type"):
        case "object":
            return _likeness_of_object(schema, value) if isinstance(value, dict) else -1
        case "array":
            return 1 if isinstance(value, list) and all(fits(schema.get("items", {}), one) for one in value) else -1
        case "string":
            return 1 if isinstance(value, str) else -1
        case "boolean":
            return 1 if isinstance(value, bool) else -1
        case "integer":
            return 1 if _is_integer(value) else -1
        case "number":
            return 1 if _is_number(value) else -1
        case _:
            return 0


def _likeness_of_object(schema: Any, value: dict[str, Any]) -> int:
    known = schema.get("properties", {})
    likeness = 1
    for name, one in known.items():
        if name in value:
            constant = _resolved(one)
            if "const" in constant and value[name] != constant["const"]:
                return -1
            likeness += 10 if "const" in constant else 1
    return likeness


def _chosen(names: list[Any], given: Any) -> Any:
    if given is not ABSENT and given in names:
        return given
    return next((one for one in _USUAL if one in names), names[0])


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
