"""Whatever schema and value come together: the verdict is jsonschema-rs's own, draft by draft."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host.component.schema import InputSchema
from host.errors import InputError

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
        "$ref": st.just("#/$defs/x"),
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


def accepts(schema: InputSchema, value: Any) -> bool:
    try:
        schema.check(value)
    except InputError:
        return False
    return True


@pytest.mark.parametrize("draft", DRAFTS)
def test_what_is_accepted_is_what_a_library_accepts(draft: str) -> None:
    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(schemas(draft), LEAVES, st.lists(VALUES, min_size=1, max_size=4))
    def agrees(schema: dict[str, Any], referred: Any, values: list[Any]) -> None:
        whole = {**schema, "$schema": DRAFTS[draft], "$defs": {"x": referred}}
        ours = InputSchema.compile(whole)
        theirs = jsonschema_rs.validator_for(whole, validate_formats=False)
        assert [accepts(ours, value) for value in values] == [theirs.is_valid(value) for value in values]

    agrees()
