"""A schema is read whole or refused, with the place in it that is to blame."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from host.component.schema import InputSchema
from host.errors import InputError, ManifestError

ATTACHMENT = {"$attachment": "speech"}


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        pytest.param(5, "schema.input is not a schema", id="a number"),
        pytest.param({"type": "strin"}, "schema.input.type", id="a type that is none"),
        pytest.param({"type": []}, "schema.input.type", id="no type at all"),
        pytest.param({"enum": "a"}, "schema.input.enum", id="options as a text"),
        pytest.param({"required": "a"}, "schema.input.required", id="a required name outside a list"),
        pytest.param({"required": [5]}, "schema.input.required", id="a required number"),
        pytest.param({"minimum": "1"}, "schema.input.minimum", id="a bound that is a text"),
        pytest.param({"minLength": -1}, "schema.input.minLength", id="a length below zero"),
        pytest.param({"maxItems": 1.5}, "schema.input.maxItems", id="a count with a fraction"),
        pytest.param({"multipleOf": 0}, "schema.input.multipleOf", id="multiples of nothing"),
        pytest.param({"uniqueItems": 1}, "schema.input.uniqueItems", id="a number for a flag"),
        pytest.param({"pattern": 5}, "schema.input.pattern", id="a pattern that is a number"),
        pytest.param({"properties": []}, "schema.input.properties", id="a list of properties"),
        pytest.param({"properties": {"a": 5}}, "schema.input.properties.a", id="a property's number"),
        pytest.param({"items": {"type": 5}}, "schema.input.items.type", id="an item's type"),
        pytest.param({"prefixItems": {}}, "schema.input.prefixItems", id="first items that are no list"),
        pytest.param({"contains": True, "minContains": "1"}, "schema.input.minContains", id="a count that is a text"),
        pytest.param({"allOf": {}}, "schema.input.allOf", id="forms that are no list"),
        pytest.param({"anyOf": [True, 5]}, "schema.input.anyOf[1]", id="a form that is a number"),
        pytest.param({"anyOf": []}, "schema.input.anyOf", id="no forms at all"),
        pytest.param({"items": [{}]}, "schema.input.items", id="a list of items, as older drafts have it"),
        pytest.param({"patternProperties": 5}, "schema.input.patternProperties", id="a number of patterns"),
        pytest.param({"dependentRequired": {"a": "b"}}, "schema.input.dependentRequired.a", id="a dependency"),
        pytest.param({"$ref": 5}, "schema.input.$ref", id="a reference that is a number"),
        pytest.param({"$ref": "#/$defs/a", "$defs": {"a": 5}}, "schema.input.$defs.a", id="a reference to no schema"),
        pytest.param({"$schema": 5}, "schema.input.$schema", id="a draft that is a number"),
        pytest.param({"$schema": "http://evil.test/draft"}, "schema.input.$schema", id="somebody's own draft"),
        pytest.param({"$schema": "http://json-schema.org/draft-04/schema#"}, "schema.input.$schema", id="an old draft"),
    ],
)  # fmt: skip
def test_a_malformed_schema_is_refused_with_its_place(schema: Any, place: str) -> None:
    with pytest.raises(ManifestError) as error:
        InputSchema.compile(schema)
    assert f"the manifest: {place}" in str(error.value)


def test_a_schema_is_named_as_its_owner_says() -> None:
    with pytest.raises(ManifestError, match=r"schema\.config\.type"):
        InputSchema.compile({"type": 5}, "schema.config")


def test_what_no_value_reaches_is_not_read() -> None:
    InputSchema.compile({"$defs": {"unused": 5}, "format": 5, "x-own": [], "default": {"type": 5}}).check({})


@pytest.mark.parametrize("ref", ["#/$defs/a~1b~0%25", "#/allOf/0/items"])
def test_a_reference_is_a_json_pointer(ref: str) -> None:
    schema = {"allOf": [{"items": {"type": "string"}}], "$defs": {"a/b~%": {"type": "string"}}}
    with pytest.raises(InputError, match="has to be a string"):
        InputSchema.compile({**schema, "properties": {"x": {"$ref": ref}}}).check({"x": 5})


def test_what_stands_beside_a_reference_counts_since_draft_2019_09() -> None:
    schema = {"properties": {"a": {"$ref": "#/$defs/any", "type": "string"}}, "$defs": {"any": True}}
    InputSchema.compile({**schema, "$schema": "http://json-schema.org/draft-07/schema#"}).check({"a": 5})
    with pytest.raises(InputError):
        InputSchema.compile(schema).check({"a": 5})


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": "string", "maxLength": 5}, id="a string"),
        pytest.param({"enum": ["a", "b"]}, id="one of a list"),
        pytest.param({"type": "object", "additionalProperties": False}, id="an object without that field"),
        pytest.param({"anyOf": [{"type": "string"}, {"type": "null"}]}, id="one of two forms"),
        pytest.param({"$ref": "#/$defs/text"}, id="what is elsewhere"),
    ],
)
def test_an_attachment_fits_wherever_the_schema_wants_something(schema: Any) -> None:
    whole = InputSchema.compile({"properties": {"file": schema}, "$defs": {"text": {"type": "string"}}})
    whole.check({"file": ATTACHMENT})
    with pytest.raises(InputError):
        whole.check({"file": {"attachment": "speech"}})


def test_the_input_itself_is_no_attachment() -> None:
    with pytest.raises(InputError, match="operation is required"):
        InputSchema.compile({"required": ["operation"]}).check(ATTACHMENT)


def test_an_attachment_does_not_open_a_field_that_there_is_not() -> None:
    with pytest.raises(InputError, match="file is not known here"):
        InputSchema.compile({"additionalProperties": False}).check({"file": ATTACHMENT})


def test_one_schema_checks_on_many_threads_at_once() -> None:
    schema = InputSchema.compile({"properties": {"a": {"items": {"type": "integer"}}}})

    def verdict(number: int) -> str:
        try:
            schema.check({"a": [0] * 500 + ["x"] * (number % 2)})
        except InputError as error:
            return str(error.field)
        return ""

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(verdict, range(64))) == ["", "a[500]"] * 32
