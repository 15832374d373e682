"""Parameters to begin with, whatever the manifest says."""

from __future__ import annotations

from typing import Any

import pytest

from host.component.manifest import Manifest
from host.component.operations import OperationSpec
from host.server.console.views import starting


def spec(params: Any, **more: Any) -> OperationSpec:
    return OperationSpec("do.it", schema=params, **more)


def test_an_example_of_the_manifest_comes_first() -> None:
    manifest = Manifest(
        examples=[
            {"input": "nonsense"},
            {"input": {"operation": "other", "params": {"a": 0}}},
            {"input": {"operation": "did.it", "params": {"a": 1}}},
        ]
    )
    assert starting(manifest, spec({"required": ["b"]}, aliases=("did.it",))) == {"a": 1}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        pytest.param({"type": "string"}, "", id="a text"),
        pytest.param({"type": ["null", "integer"]}, 0, id="a number or nothing"),
        pytest.param({"type": "boolean"}, False, id="a choice"),
        pytest.param({"enum": ["low", "high"]}, "low", id="the first of several"),
        pytest.param({"const": 7}, 7, id="the only one"),
        pytest.param({"type": "string", "default": "auto"}, "auto", id="the default"),
        pytest.param({"type": "string", "examples": ["gpt"]}, "gpt", id="an example"),
        pytest.param({"type": "array", "items": {"type": "string"}}, [""], id="a list"),
        pytest.param({"type": "array"}, [], id="a list of anything"),
        pytest.param({"anyOf": [{"type": "integer"}, {}]}, 0, id="the first alternative"),
        pytest.param({"$ref": "#/$defs/message"}, {"role": "user"}, id="what it refers to"),
        pytest.param({"$ref": "#/$defs/itself"}, None, id="what refers to itself"),
        pytest.param({"$ref": "https://example.com/"}, None, id="what is elsewhere"),
        pytest.param({"$ref": 5, "type": {}}, None, id="nonsense"),
        pytest.param(True, None, id="anything"),
        pytest.param({"type": []}, None, id="no type"),
        pytest.param({"type": "object", "properties": [], "required": 5}, {}, id="an object that is not one"),
    ],
)
def test_what_is_required_has_a_value_of_its_kind(schema: Any, value: Any) -> None:
    defs = {
        "message": {"type": "object", "required": ["role"], "properties": {"role": {"enum": ["user"]}}},
        "itself": {"$ref": "#/$defs/itself"},
    }
    whole = {"$defs": defs, "type": "object", "required": ["it"], "properties": {"it": schema, "not": {}}}
    assert starting(None, spec(whole)) == {"it": value}


def test_a_schema_that_doubles_itself_ends() -> None:
    again = {name: {"$ref": "#/$defs/twice"} for name in "abc"}
    twice = {"type": "object", "required": ["a", "b", "c"], "properties": again}
    found = starting(None, spec({"$defs": {"twice": twice}, **twice}))
    assert 3 < str(found).count(":") < 400


def test_without_a_schema_the_path_says_what_is_needed() -> None:
    assert starting(None, spec(True, in_path=("file_id",))) == {"file_id": ""}
