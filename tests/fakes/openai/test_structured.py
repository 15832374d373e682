import pytest

from host.fakes.openai.errors import ApiError
from host.fakes.openai.structured import instance

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}, "name": {"type": "string"}},
            "required": ["left", "name"],
        }
    },
}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        pytest.param({"type": "string"}, "word", id="a string is the word"),
        pytest.param({"type": "string", "minLength": 6}, "wordxx", id="a string that must be longer"),
        pytest.param({"type": "string", "maxLength": 2}, "wo", id="a string that must be shorter"),
        pytest.param({"type": "string", "format": "date"}, "2023-11-14", id="a string with a format"),
        pytest.param({"type": "integer"}, 0, id="an integer"),
        pytest.param({"type": "integer", "minimum": 3}, 3, id="an integer from 3"),
        pytest.param({"type": "integer", "exclusiveMinimum": 3}, 4, id="an integer above 3"),
        pytest.param({"type": "integer", "exclusiveMinimum": 0}, 1, id="an integer above 0"),
        pytest.param({"type": "integer", "maximum": -2}, -2, id="an integer to -2"),
        pytest.param({"type": "integer", "exclusiveMaximum": 0}, -1, id="an integer below 0"),
        pytest.param({"type": "integer", "minimum": 1, "multipleOf": 5}, 5, id="a positive multiple of 5"),
        pytest.param({"type": "integer", "minimum": 1.5}, 2, id="an integer from a broken bound"),
        pytest.param({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5, id="a number between"),
        pytest.param(
            {"type": "number", "minimum": 0, "exclusiveMinimum": 0, "maximum": 9}, 1, id="both kinds of bound"
        ),
        pytest.param({"type": "boolean"}, True, id="a boolean"),
        pytest.param({"type": "null"}, None, id="null"),
        pytest.param({"type": ["string", "null"]}, "word", id="the first of several types"),
        pytest.param({"const": [1]}, [1], id="a constant"),
        pytest.param({"enum": ["b", "a"]}, "b", id="the first of an enumeration"),
        pytest.param({"type": "array", "items": {"type": "null"}}, [], id="an array is empty"),
        pytest.param(
            {"type": "array", "items": {"type": "null"}, "minItems": 2}, [None, None], id="unless it must not be"
        ),
        pytest.param({"type": "array", "prefixItems": [{"const": 1}], "minItems": 2}, [1, {}], id="a tuple"),
        pytest.param({"type": "object", "properties": {"a": {}}}, {}, id="an object has what is required"),
        pytest.param(
            {"properties": {"a": {"const": 1}}, "required": ["a", "b"]}, {"a": 1, "b": {}}, id="and nothing else"
        ),
        pytest.param({"anyOf": [{"const": 1}, {"const": 2}]}, 1, id="the first of a choice"),
        pytest.param(
            TREE["$defs"]["node"] | {"$defs": TREE["$defs"], "required": ["name"]}, {"name": "word"}, id="a reference"
        ),
        pytest.param({"$defs": {"a/b": {"const": 1}}, "$ref": "#/$defs/a~1b"}, 1, id="a reference with an escape"),
        pytest.param({"properties": {"me": {"$ref": "#"}}, "required": []}, {}, id="a reference to the root"),
        pytest.param(True, {}, id="a schema that takes anything"),
        pytest.param({}, "word", id="a schema without a type"),
    ],
)
def test_the_smallest_instance_of(schema, expected):
    assert instance(schema, "word") == expected


def test_a_recursive_choice_takes_its_way_out():
    tree, depth = instance(TREE, "word"), 0
    while tree is not None:
        assert set(tree) == {"left", "name"}
        tree, depth = tree["left"], depth + 1
    assert depth < 4


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"$ref": "#"}, id="a reference to itself"),
        pytest.param({"properties": {"me": {"$ref": "#"}}, "required": ["me"]}, id="an object that contains itself"),
        pytest.param({"$ref": "#/$defs/none"}, id="a reference that leads nowhere"),
        pytest.param({"type": "file"}, id="a type unheard of"),
        pytest.param({"type": []}, id="no type at all"),
        pytest.param({"type": "object", "required": "a"}, id="required that is no list"),
        pytest.param({"type": "array", "minItems": 1e9}, id="more items than fit"),
        pytest.param({"type": "integer", "minimum": "0"}, id="a bound that is text"),
        pytest.param({"type": "integer", "minimum": 2, "maximum": 1}, id="bounds that exclude each other"),
        pytest.param({"type": "number", "multipleOf": 0}, id="multiples of nothing"),
        pytest.param(False, id="a schema that takes nothing"),
        pytest.param("string", id="a string"),
    ],
)
def test_a_schema_that_has_no_instance_is_a_400(schema):
    with pytest.raises(ApiError) as caught:
        instance(schema, "word")
    assert (caught.value.status, caught.value.code) == (400, "invalid_json_schema")
