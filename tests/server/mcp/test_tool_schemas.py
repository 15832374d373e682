"""The schemas that tools show are such as the strictest clients take, whatever a manifest has."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.component.schema import InputSchema
from host.errors import InputError
from host.server.mcp.execution_tool import _PARAMETERS as EXECUTION
from host.server.mcp.operation_tools import input_schema
from host.server.mcp.tool_schemas import DEEPEST, ToolSchema
from tests.conftest import openai_manifest

OPERATIONS = openai_manifest().operations
TYPES = {"object", "array", "string", "integer", "number", "boolean", "null"}
KEYWORDS = {
    *("type", "anyOf", "title", "description", "default", "enum", "format", "pattern"),
    *("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
    *("items", "minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum"),
}


def refused(schema: Any) -> Iterator[str]:
    """What strict clients do not take of the schema of a tool, by their public reports."""
    if schema.get("type") != "object" or not isinstance(schema.get("properties"), dict):
        yield "it is no object with properties"
    if {"anyOf", "oneOf", "allOf", "not", "if", "enum"} & schema.keys():
        yield "the top is combined"
    yield from _refused(schema, 0)


def _refused(schema: Any, depth: int) -> Iterator[str]:
    if not isinstance(schema, dict):
        yield f"{schema!r} is no object"
        return
    yield from (f"the keyword {name}" for name in schema.keys() - KEYWORDS)
    if depth > DEEPEST + 2:
        yield "it is too deep"
    if "anyOf" in schema:
        if schema.keys() != {"anyOf"} or len(schema["anyOf"]) < 2:
            yield "anyOf has something beside it"
        for one in schema["anyOf"]:
            if "anyOf" in one:
                yield "anyOf in anyOf"
            yield from _refused(one, depth)
        return
    kind = schema.get("type")
    if kind is not None and (not isinstance(kind, str) or kind not in TYPES):
        yield f"the type {kind!r}"
    if kind == "array" and not isinstance(schema.get("items"), dict):
        yield "an array without items"
    if "default" in schema and schema["default"] is None:
        yield "null as the default"
    if "enum" in schema and not (kind == "string" and all(isinstance(one, str) and one for one in schema["enum"])):
        yield f"the enum {schema['enum']!r}"
    if schema.get("format", "date-time") not in ("date-time", "int32", "int64", "float", "double"):
        yield f"the format {schema['format']!r}"
    properties = schema.get("properties", {})
    yield from (f"the property {name!r}" for name in properties if not re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", name))
    yield from (f"{name!r} is required and not there" for name in schema.get("required", ()) if name not in properties)
    for one in properties.values():
        yield from _refused(one, depth + 1)
    for inner in ("items", "additionalProperties"):
        if inner in schema and not isinstance(schema[inner], bool):
            yield from _refused(schema[inner], depth + 1)


def shown(**schema: Any) -> Any:
    return ToolSchema({"type": "object", **schema}).shown


def shown_property(schema: Any, **more: Any) -> Any:
    return shown(properties={"x": schema}, required=["x"], **more)["properties"]["x"]


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_operation_of_openai_is_taken_by_every_client(name: str) -> None:
    spec = OPERATIONS[name]
    schema = ToolSchema(input_schema(spec)).shown
    assert list(refused(schema)) == []
    assert schema["properties"].keys() == input_schema(spec).get("properties", {}).keys()
    assert schema.get("required", []) == input_schema(spec).get("required", [])


def test_the_host_s_own_tools_are_taken_too() -> None:
    assert list(refused(ToolSchema(EXECUTION).shown)) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"const": "a"}, {"type": "string", "enum": ["a"]}, id="const"),
        pytest.param({"enum": [1, 2]}, {"type": "integer", "description": "One of: 1, 2."}, id="an enum of numbers"),
        pytest.param(
            {"enum": ["a", None]}, {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null", "description": "One of: null."}]},
            id="an enum with null",
        ),
        pytest.param({"type": ["string", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}, id="two types"),
        pytest.param({"type": ["string"]}, {"type": "string"}, id="a list of one type"),
        pytest.param({"type": "array"}, {"type": "array", "items": {}}, id="an array without items"),
        pytest.param(
            {"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}]},
            {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}]}}, id="a tuple",
        ),
        pytest.param(True, {}, id="true"),
        pytest.param({"type": "string", "default": None}, {"type": "string"}, id="null as the default"),
        pytest.param({"type": "string", "format": "uri"}, {"type": "string", "description": "Format: uri."}, id="a format"),
        pytest.param({"type": "string", "format": "date-time"}, {"type": "string", "format": "date-time"}, id="a format that all know"),
        pytest.param({"type": "integer", "exclusiveMinimum": 0}, {"type": "integer", "minimum": 1}, id="an exclusive bound"),
        pytest.param({"type": "number", "exclusiveMaximum": 1.5}, {"type": "number", "maximum": 1.5}, id="one of numbers"),
        pytest.param({"oneOf": [{"type": "string"}, {"type": "integer"}]}, {"anyOf": [{"type": "string"}, {"type": "integer"}]}, id="oneOf"),
        pytest.param(
            {"description": "Which", "anyOf": [{"type": "string"}, {"type": "integer", "description": "Its number"}]},
            {"anyOf": [{"description": "Which", "type": "string"}, {"type": "integer", "description": "Its number"}]},
            id="a description beside anyOf",
        ),
        pytest.param({"anyOf": [{"type": "string"}]}, {"type": "string"}, id="one choice"),
        pytest.param(
            {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}}, {"properties": {"b": {"type": "integer"}}, "required": ["b"]}]},
            {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["b"]}, id="allOf",
        ),
        pytest.param({"minLength": 3}, {"type": "string", "minLength": 3}, id="a type that is only meant"),
        pytest.param(
            {"type": "object", "patternProperties": {"^x": {}}, "additionalProperties": False}, {"type": "object"},
            id="names by a pattern",
        ),
        pytest.param({"$comment": "c", "x-internal": 1, "type": "string", "deprecated": True}, {"type": "string"}, id="other keywords"),
    ],
)  # fmt: skip
def test_a_part_is_shown_as_every_client_takes_it(given: Any, expected: Any) -> None:
    assert shown_property(given) == expected


def test_what_is_optional_is_not_shown_as_null() -> None:
    assert shown(properties={"x": {"type": ["string", "null"]}})["properties"]["x"] == {"type": "string"}


def test_a_property_that_never_fits_is_not_shown() -> None:
    assert shown(properties={"x": False, "y": True})["properties"] == {"y": {}}


def test_choices_at_the_top_become_properties_and_words() -> None:
    schema = shown(
        properties={"a": {"type": "string"}, "b": {"type": "string"}}, description="Looks",
        anyOf=[{"required": ["a"]}, {"required": ["b"]}],
    )  # fmt: skip
    assert schema == {
        "type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "description": "Looks. Needs one of: a; b.",
    }  # fmt: skip
    schema = shown(
        oneOf=[
            {"properties": {"kind": {"const": "a"}, "a": {"type": "string"}}, "required": ["kind", "a"]},
            {"properties": {"kind": {"const": "b"}, "b": {"type": "integer"}}, "required": ["kind"]},
        ]
    )
    assert schema["properties"].keys() == {"kind", "a", "b"}
    assert schema["required"] == ["kind"]
    assert list(refused(schema)) == []


def test_conditions_show_the_properties_that_they_name() -> None:
    schema = shown(
        properties={"a": {"type": "string"}}, **{"if": {"required": ["a"]}, "then": {"properties": {"b": {"type": "string"}}}}
    )  # fmt: skip
    assert schema["properties"].keys() == {"a", "b"}


def test_references_are_written_out_and_circles_are_cut() -> None:
    tree = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "below": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
    }
    schema = shown(properties={"root": {"$ref": "#/$defs/tree"}}, **{"$defs": {"tree": tree}})
    assert "$" not in json.dumps(schema)
    assert schema["properties"]["root"]["properties"]["below"] == {"type": "array", "items": {"type": "object"}}
    own = shown(properties={"me": {"$ref": "#"}})
    assert own["properties"]["me"]["type"] == "object"
    assert list(refused(own)) == []


ODD_NAMES = {
    "$top": "top",
    "StartTime<": None,
    "StartTime>": None,
    "größe": "gr_e",
    "a b": "a_b",
    "x" * 70: "x" * 64,
    "": None,
}


def test_names_that_clients_refuse_are_renamed_and_named_back() -> None:
    schema = ToolSchema({"properties": {name: {"type": "string"} for name in ODD_NAMES}, "required": ["$top", "a b"]})
    assert list(refused(schema.shown)) == []
    names = list(schema.shown["properties"])
    assert len(set(names)) == len(ODD_NAMES)
    assert all(wanted in (None, name) for wanted, name in zip(ODD_NAMES.values(), names, strict=True))
    assert schema.shown["required"] == ["top", "a_b"]
    arguments = dict(zip(names, ODD_NAMES, strict=True))
    assert schema.restored(arguments) == {name: name for name in ODD_NAMES}


def test_names_are_restored_at_every_depth_and_data_stays_data() -> None:
    inner = {"type": "object", "properties": {"@id": {"type": "string"}, "free": {"type": "object"}}}
    document = {
        "properties": {
            "$filter": {"type": "array", "items": inner},
            "one": {"anyOf": [{"type": "string"}, inner]},
            "map": {"type": "object", "additionalProperties": inner},
        }
    }
    schema = ToolSchema(document)
    assert list(refused(schema.shown)) == []
    given_ = {
        "filter": [{"id": "1", "free": {"id": "2", "filter": 3}}],
        "one": {"id": "4"},
        "map": {"filter": {"id": "5"}, "id": {"id": "6"}},
        "more": {"id": "7"},
    }
    assert schema.restored(given_) == {
        "$filter": [{"@id": "1", "free": {"id": "2", "filter": 3}}],
        "one": {"@id": "4"},
        "map": {"filter": {"@id": "5"}, "id": {"@id": "6"}},
        "more": {"id": "7"},
    }
    assert schema.restored({"$filter": [{"@id": "1"}]}) == {"$filter": [{"@id": "1"}]}  # the real names do as well
    with pytest.raises(InputError, match=r"\$filter is given twice, also as filter"):
        schema.restored({"$filter": [], "filter": []})


def test_a_name_that_another_property_has_is_not_taken_from_it() -> None:
    schema = ToolSchema({"properties": {"$top": {"type": "string"}, "top": {"type": "integer"}}})
    names = list(schema.shown["properties"])
    assert names[1] == "top"
    assert schema.restored({names[0]: "a", "top": 1}) == {"$top": "a", "top": 1}


def test_what_is_deep_or_large_is_cut_in_time() -> None:
    deep: Any = {"type": "string"}
    for _ in range(40):
        deep = {"type": "object", "properties": {"in": deep}}
    assert list(refused(ToolSchema(deep).shown)) == []
    many = {
        f"d{n}": {"type": "object", "properties": {k: {"$ref": f"#/$defs/d{n + 1}"} for k in "abcdefgh"}}
        for n in range(30)
    }
    explosive = {"type": "object", "$ref": "#/$defs/d0", "$defs": {**many, "d30": {"type": "string"}}}
    began = time.process_time()
    schema = ToolSchema(explosive).shown
    assert time.process_time() - began < 5  # seconds; without a bound, 8 ** 30 schemas
    assert list(refused(schema)) == []
    assert len(json.dumps(schema)) < 1_000_000


names = st.sampled_from(["a", "b", "$top", "a b", "größe", "x" * 70, "", "id", "$attachment", "properties"])
texts = st.text(max_size=5)
leaves = st.one_of(
    st.booleans(),
    st.just({}),
    st.fixed_dictionaries({"$ref": st.sampled_from(["#", "#/$defs/a", "#/$defs/b", "#/nowhere"])}),
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.one_of(st.sampled_from(sorted(TYPES)), st.lists(st.sampled_from(sorted(TYPES)), min_size=1, unique=True)),
            "enum": st.lists(st.one_of(texts, st.integers(), st.booleans(), st.none(), st.just([1]), st.just({})), min_size=1, max_size=4),
            "const": st.one_of(texts, st.integers(), st.none()),
            "default": st.one_of(st.none(), texts, st.integers()),
            "format": st.sampled_from(["uri", "date-time", "email", "int32"]),
            "minimum": st.integers(), "exclusiveMinimum": st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
            "minLength": st.integers(0, 5), "pattern": st.just("^a"), "description": texts, "title": texts,
            "uniqueItems": st.booleans(), "multipleOf": st.integers(1, 5), "x-odd": st.none(), "nullable": st.booleans(),
        },
    ),
)  # fmt: skip


def combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(names, inner, max_size=4), "required": st.lists(names, max_size=3, unique=True),
            "patternProperties": st.dictionaries(st.just("^a"), inner), "additionalProperties": inner,
            "items": st.one_of(inner, some), "prefixItems": some, "contains": inner, "propertyNames": inner,
            "anyOf": some, "oneOf": some, "allOf": some, "not": inner, "if": inner, "then": inner, "else": inner,
            "dependentSchemas": st.dictionaries(names, inner, max_size=2), "type": st.sampled_from(["object", "array", ["object", "null"]]),
            "description": texts, "unevaluatedProperties": inner, "$defs": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
        },
    )  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(st.recursive(leaves, combined, max_leaves=20))
def test_the_schema_of_any_manifest_is_taken_by_every_client(schema: Any) -> None:
    before = copy.deepcopy(schema)
    tool = ToolSchema(schema if isinstance(schema, dict) else {})
    assert list(refused(tool.shown)) == []
    assert schema == before, "it is not changed"
    with suppress(InputError):
        tool.restored({name: {"a": [1]} for name in tool.shown["properties"]})


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(names, st.integers(), max_size=6), st.lists(names, max_size=3, unique=True))
def test_what_is_called_by_shown_names_arrives_by_the_real_ones(arguments: dict[str, int], required: list[str]) -> None:
    document = {
        "type": "object", "properties": {name: {"type": "integer"} for name in arguments},
        "required": [name for name in required if name in arguments], "additionalProperties": False,
    }  # fmt: skip
    tool = ToolSchema(document)
    called = dict(zip(tool.shown["properties"], arguments.values(), strict=True))
    InputSchema.compile(tool.shown).check(called)
    restored = tool.restored(called)
    InputSchema.compile(document).check(restored)
    assert restored == arguments
