"""A mistake is told with its field, in words, with what would be right, and without the value."""

from __future__ import annotations

from typing import Any

import pytest

from host.component.schema import InputSchema
from host.errors import InputError

MODEL = {"type": "object", "required": ["model"], "properties": {"model": {"type": "string"}}}
FORMS = {
    "oneOf": [
        {"properties": {"type": {"const": "text"}, "text": {"type": "string"}}, "required": ["type", "text"]},
        {"properties": {"type": {"const": "image"}, "url": {"type": "string"}}, "required": ["type", "url"]},
    ]
}
OPEN = {"properties": {"model": {}, "messages": {}}, "additionalProperties": False}
LONG = {"enum": [f"option-number-{n}" for n in range(20)]}
RANGES = "it may be " + ", ".join(f'"option-number-{n}"' for n in range(8)) + ", … (20 in all)"


def told(schema: Any, value: Any, **more: Any) -> InputError:
    with pytest.raises(InputError) as error:
        InputSchema.compile(schema).check(value, **more)
    return error.value


@pytest.mark.parametrize(
    ("schema", "value", "field", "message"),
    [
        pytest.param(MODEL, {}, "p.model", "p.model is required", id="a missing field"),
        pytest.param(MODEL, {"model": 5}, "p.model", "p.model has to be a string, and is a number", id="another type"),
        pytest.param(MODEL, [], "p", "p has to be an object, and is an array", id="a list for an object"),
        pytest.param({"type": ["string", "null"]}, False, "p", "p has to be a string or null, and is a boolean", id="two types"),
        pytest.param({"type": "integer"}, 1.5, "p", "p has to be an integer, and is a number", id="a fraction"),
        pytest.param({"const": "on"}, "off", "p", 'p has to be "on"', id="a constant"),
        pytest.param({"minimum": 1}, 0, "p", "p has to be 1 or more", id="a number below a bound"),
        pytest.param({"maxLength": 3}, "secret", "p", "p has to have 3 or fewer characters", id="a long text"),
        pytest.param({"pattern": "^a$"}, "secret", "p", 'p does not match the pattern "^a$"', id="a pattern"),
        pytest.param({"uniqueItems": True}, [1, 1.0], "p[1]", "p[1] is there twice", id="an item twice"),
        pytest.param({"items": MODEL}, [{"model": ""}, {}], "p[1].model", "p[1].model is required", id="an item's field"),
        pytest.param({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "p.b", "p.b is required beside a", id="a companion"),
        pytest.param({"dependencies": {"a": ["b"]}}, {"a": 1}, "p.b", "p.b is required beside a", id="a companion, as older drafts have it"),
        pytest.param({"properties": {"else": False, "if": True}}, {"else": 1}, "p.else", "p.else is not known here", id="a field named like a keyword"),
        pytest.param({"additionalProperties": {"type": "number"}}, {"1": "a"}, 'p["1"]', 'p["1"] has to be a number, and is a string', id="a field named by a number"),
        pytest.param({"unevaluatedProperties": {"type": "string"}}, {"a": 1}, "p.a", "p.a has to be a string, and is a number", id="a field of the rest"),
        pytest.param({"propertyNames": {"maxLength": 1}}, {"ab": 1}, "p.ab", "p.ab has a name that is not allowed", id="a long name"),
        pytest.param({"oneOf": [{"type": "string"}, {"maxLength": 1}]}, "a", "p", "p has 2 of the forms of which it may have one", id="two forms at once"),
        pytest.param({"contains": {"type": "string"}, "maxContains": 2}, [1], "p", "p has to have 1 to 2 items of a form", id="items of no form"),
        pytest.param({"properties": {"a": False}}, {"a": 1}, "p.a", "p.a is not known here", id="a field of no form"),
        pytest.param({"if": {"type": "null"}, "else": False}, 1, "p", "p is not known here", id="a condition that rules out the rest"),
        pytest.param({"not": {"type": "null"}}, None, "p", "p has a form that it may not have", id="what is ruled out"),
        pytest.param({"anyOf": [{"type": "string"}, {"type": "array"}]}, 5, "p", "p has to be a string or an array, and is a number", id="forms of other types"),
        pytest.param({"anyOf": [{"type": "string"}, MODEL]}, {}, "p.model", "p.model is required", id="the form of its type"),
        pytest.param(FORMS, {"type": "text"}, "p.text", "p.text is required", id="the form that comes nearest"),
        pytest.param({"additionalProperties": False}, {"a b\n": 1}, 'p["a b\\n"]', 'p["a b\\n"] is not known here', id="an odd name"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_field_and_what_would_be_right(schema: Any, value: Any, field: str, message: str) -> None:
    error = told({"properties": {"p": schema}}, {"p": value})
    assert (error.field, error.message) == (field, message)


@pytest.mark.parametrize(
    ("schema", "value", "hint"),
    [
        pytest.param(OPEN, {"modle": 1}, "did you mean model?", id="a misspelt field"),
        pytest.param(OPEN, {"zzz": 1}, "known are model, messages", id="a field like no other"),
        pytest.param({"additionalProperties": False}, {"a": 1}, "known are none", id="a field where there is none"),
        pytest.param({"enum": ["low", "high"]}, "hgih", "did you mean high?", id="a misspelt value"),
        pytest.param({"enum": ["low", 5, None]}, "zzz", 'it may be "low", 5, null', id="a value like no other"),
        pytest.param(LONG, 5, RANGES, id="a long list of values"),
    ],
)
def test_a_choice_is_answered_with_what_comes_near_or_with_what_there_is(schema: Any, value: Any, hint: str) -> None:
    assert told({"properties": {"p": schema}}, {"p": value}).hint == hint


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer"},
        {"enum": ["a", "b"]},
        {"const": 5},
        {"maxLength": 3},
        {"pattern": "^a$"},
        {"not": {"type": "string"}},
        {"anyOf": [{"type": "integer"}, {"maxLength": 1}]},
    ],
)
def test_a_value_that_is_no_misspelling_may_be_a_secret_and_is_not_shown(schema: Any) -> None:
    assert "sk-0123" not in str(told({"properties": {"p": schema}}, {"p": "sk-0123456789abcdef"}))


def test_of_several_mistakes_one_is_told() -> None:
    schema = {"properties": {"b": {"type": "string"}, "a": MODEL, "c": {"minimum": 1, "multipleOf": 2}}}
    assert told(schema, {"a": {}, "b": 5}).message == "a.model is required"
    assert told(schema, {"a": {}, "b": 5, "c": -1}).message == "a.model is required"


def test_a_mistake_about_the_whole_has_no_field() -> None:
    error = told({"minProperties": 1}, {})
    assert (error.field, error.message) == (None, "the input has to have 1 or more fields")


def test_what_is_no_input_is_named_in_front() -> None:
    schema = {"type": "object", "properties": {"base_url": {"type": "string"}}}
    assert told(schema, {"base_url": 5}, within="config").field == "config.base_url"
    assert told(schema, [], within="config").message == "config has to be an object, and is an array"
