"""Whatever schema and value come together: the verdict, the field that is named, and the time that it takes."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host.component.schema import InputSchema
from host.errors import InputError, ManifestError

DRAFTS = {
    "2020-12": "https://json-schema.org/draft/2020-12/schema",
    "2019-09": "https://json-schema.org/draft/2019-09/schema",
    "7": "http://json-schema.org/draft-07/schema#",
}
TYPES = ["string", "integer", "number", "boolean", "array", "object", "null"]
NAMES = st.sampled_from(["a", "b", "c"])
COUNTS = st.integers(0, 3)
SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 5) | st.sampled_from([0.0, 1.0, 1.5, -2.5, "", "a", "b", "ab", "abc"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
TOLD = st.lists(NAMES, max_size=2, unique=True)
LEAVES = st.booleans() | st.sampled_from(
    [{"type": "string"}, {"type": "array"}, {"type": "integer"}, {"required": ["a"]}]
)


def keywords(draft: str, inner: Any) -> dict[str, Any]:
    """What each keyword of a draft may have for a value."""
    some, two = st.lists(inner, min_size=1, max_size=3), st.lists(inner, min_size=1, max_size=2)
    known = {
        "type": st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True),
        "enum": st.lists(VALUES, min_size=1, max_size=3, unique_by=lambda value: json.dumps(value, sort_keys=True)),
        "const": VALUES,
        "minimum": st.integers(-2, 3),
        "maximum": st.sampled_from([-1, 0.5, 2]),
        "exclusiveMinimum": st.integers(-2, 3),
        "exclusiveMaximum": st.sampled_from([1, 1.5, 2]),
        "multipleOf": st.sampled_from([1, 2, 0.5]),
        **dict.fromkeys(["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"], COUNTS),
        "uniqueItems": st.booleans(),
        "required": TOLD,
        "pattern": st.sampled_from(["^a", "b$", "[ab]{2}"]),
        "properties": st.dictionaries(NAMES, inner, max_size=2),
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b|c"]), inner, max_size=1),
        **dict.fromkeys(["additionalProperties", "propertyNames", "contains", "not", "if", "then", "else"], inner),
        **dict.fromkeys(["allOf", "anyOf", "oneOf"], some),
        "$ref": st.just("#/$defs/x"),  # in some tests, that is the schema itself
    }
    if draft == "7":
        known["dependencies"] = st.dictionaries(NAMES, inner | TOLD, max_size=2)
    else:
        known["dependentRequired"] = st.dictionaries(NAMES, TOLD, max_size=2)
        known["dependentSchemas"] = st.dictionaries(NAMES, inner, max_size=2)
        known |= dict.fromkeys(["unevaluatedProperties", "unevaluatedItems"], inner)
        known |= dict.fromkeys(["minContains", "maxContains"], COUNTS)
    if draft == "2020-12":
        return {**known, "prefixItems": two, "items": inner}
    return {**known, "items": inner | two, "additionalItems": inner}


def schemas(draft: str) -> Any:
    def larger(inner: Any) -> Any:
        known = keywords(draft, inner)
        chosen = st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=4, unique=True)
        return chosen.flatmap(lambda names: st.fixed_dictionaries({name: known[name] for name in names}))

    return st.recursive(LEAVES, larger, max_leaves=8).filter(lambda schema: isinstance(schema, dict))


def mistake(schema: InputSchema, value: Any) -> InputError | None:
    try:
        schema.check(value)
    except InputError as error:
        return error
    return None


MANY = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), database=None)
SOME = settings(MANY, max_examples=120)


@pytest.mark.parametrize("draft", DRAFTS)
def test_what_is_accepted_is_what_the_library_accepts(draft: str) -> None:
    """It reads a schema as it is written here, and is given one that was taken apart by us."""

    @MANY
    @given(schemas(draft), LEAVES, st.lists(VALUES, min_size=1, max_size=4))
    def agrees(schema: dict[str, Any], referred: Any, values: list[Any]) -> None:
        whole = {**schema, "$schema": DRAFTS[draft], "$defs": {"x": referred}}
        ours, theirs = InputSchema.compile(whole), jsonschema_rs.validator_for(whole, validate_formats=False)
        assert [mistake(ours, value) is None for value in values] == [theirs.is_valid(value) for value in values]

    agrees()


SECRET = "sk-0123456789abcdef"
SECRETS = st.recursive(
    st.just(SECRET) | st.integers(-3, 5) | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def is_there(value: Any, field: str) -> bool:
    """Whether the value has that field, or all of its path but the name of what is missing."""
    *path, last = re.findall(r"[^.\[\]]+", field)
    for step in path:
        value = value[int(step) if isinstance(value, list) else step]
    return int(last) < len(value) if isinstance(value, list) else isinstance(value, dict)


@pytest.mark.parametrize("draft", DRAFTS)
def test_a_mistake_names_a_field_of_the_value_and_shows_nothing_of_it(draft: str) -> None:
    @SOME
    @given(schemas(draft), LEAVES, SECRETS)
    def holds(schema: dict[str, Any], referred: Any, value: Any) -> None:
        whole = InputSchema.compile({**schema, "$schema": DRAFTS[draft], "$defs": {"x": referred}})
        error = mistake(whole, value)
        assert "0123456789" not in str(error)
        assert error is None or error.field is None or is_there(value, error.field)

    holds()


@pytest.mark.parametrize("draft", DRAFTS)
def test_what_is_read_is_checked_soon(draft: str) -> None:
    """Each schema refers to itself wherever a schema may be, so that many double: those have to be refused."""

    @SOME
    @given(schemas(draft), st.integers(1, 30), st.sampled_from(["a", "b"]))
    def ends(schema: dict[str, Any], depth: int, name: str) -> None:
        whole = {"properties": {"a": {"$ref": "#/$defs/x"}}, "$schema": DRAFTS[draft], "$defs": {"x": schema}}
        try:
            read = InputSchema.compile(whole)
        except ManifestError:
            return
        value: Any = 1
        for _ in range(depth):
            value = [{name: value}, value] if depth < 8 else [{name: value}]
        began = time.thread_time()
        mistake(read, {"a": value})
        assert time.thread_time() - began < 20

    ends()
