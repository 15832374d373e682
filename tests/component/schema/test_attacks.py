"""A schema and a value that were made to cost time, memory, a file or the process: each attack by its name."""

from __future__ import annotations

from typing import Any

import pytest

from host.component.schema import InputSchema, document
from host.component.schema.checking import MAX_STEPS, Pass
from host.core.strict_json import MAX_DEPTH, parse_object
from host.errors import InputError, ManifestError

MANY = list(range(MAX_STEPS))


def nested(value: Any, times: int) -> Any:
    for _ in range(times):
        value = [value]
    return value


def unfolding(keyword: str, count: int) -> dict[str, Any]:
    """Each definition applies the next one twice."""
    twice = {f"a{n}": {keyword: [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(count)}
    return {"$ref": "#/$defs/a0", "$defs": {**twice, f"a{count}": {"type": "string"}}}


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_a_schema_that_unfolds_to_a_million_million_is_not_unfolded(keyword: str) -> None:
    schema = InputSchema.compile(unfolding(keyword, 40))
    with pytest.raises(InputError, match=r"too large|many other"):
        schema.check({"a": 1})


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"$ref": "#"}, id="to itself"),
        pytest.param({"$ref": ""}, id="to itself, without a sign"),
        pytest.param({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, id="by two"),
        pytest.param({"allOf": [{"$ref": "#"}]}, id="by allOf"),
        pytest.param({"anyOf": [True, {"$ref": "#"}]}, id="by anyOf"),
        pytest.param({"not": {"$ref": "#"}}, id="by not"),
        pytest.param({"if": {"$ref": "#"}}, id="by if"),
        pytest.param({"dependentSchemas": {"a": {"$ref": "#"}}}, id="by dependentSchemas"),
        pytest.param({"$dynamicRef": "#x", "$dynamicAnchor": "x"}, id="by $dynamicRef"),
        pytest.param({"$recursiveRef": "#", "$recursiveAnchor": True}, id="by $recursiveRef"),
    ],
)  # fmt: skip
def test_a_reference_that_goes_in_a_circle_is_refused(schema: Any) -> None:
    with pytest.raises(ManifestError):
        InputSchema.compile(schema)


@pytest.mark.parametrize(
    "ref",
    [
        "http://127.0.0.1:9/x",
        "file:///etc/passwd",
        "other.json",
        "https://json-schema.org/draft/2020-12/schema",
        "//evil.test/#",
        "#anchor",
        "#/$defs/none",
        "#/$defs/x/0",
        "#/allOf/99999999999999999999999",
    ],
)
def test_a_reference_out_of_the_schema_is_never_followed(ref: str) -> None:
    with pytest.raises(ManifestError):
        InputSchema.compile({"$ref": ref, "$defs": {"x": {"const": []}}, "allOf": [True]})


def test_a_schema_inside_that_takes_another_name_cannot_redirect_references() -> None:
    with pytest.raises(ManifestError, match=r"\$id"):
        InputSchema.compile({"properties": {"a": {"$id": "http://evil.test/", "$ref": "#/$defs/x"}}})


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "^(a|a)*$", "(.*a){20}$", "^(?:a?){30}a{30}$", "^(([a-z])+.)+[A-Z]([a-z])+$"]
)
def test_a_pattern_that_backtracks_elsewhere_takes_linear_time(pattern: str) -> None:
    schema = InputSchema.compile({"properties": {"a": {"pattern": pattern}}})
    with pytest.raises(InputError, match="does not match"):
        schema.check({"a": "a" * 100_000 + "!\n"})


@pytest.mark.parametrize("pattern", [r"(a)\1", "(?=a)b", "(", "(\\w{1,50}){1,50}", "a{99999999}"])
def test_a_pattern_that_no_linear_engine_takes_is_refused(pattern: str) -> None:
    with pytest.raises(ManifestError, match="pattern"):
        InputSchema.compile({"pattern": pattern})


def test_patterns_without_number_are_refused() -> None:
    schema = {"patternProperties": {f"a{n}": True for n in range(document.MAX_PATTERNS + 1)}}
    with pytest.raises(ManifestError, match="patterns"):
        InputSchema.compile(schema)


def test_schemas_without_number_are_refused() -> None:
    with pytest.raises(ManifestError, match="more than 4096"):
        InputSchema.compile({"properties": {f"a{n}": {} for n in range(document.MAX_SUBSCHEMAS)}})


def test_a_chain_of_references_as_long_as_may_be_is_refused_or_read_but_ends_nothing() -> None:
    chain = {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(document.MAX_SUBSCHEMAS - 10)}
    with pytest.raises(ManifestError, match="nested too deeply"):
        InputSchema.compile({"$ref": "#/$defs/a0", "$defs": chain})


def test_a_schema_as_deep_as_json_may_be_is_enforced_to_its_end() -> None:
    text = '{"items":' * (MAX_DEPTH - 1) + '{"type":"string"}' + "}" * (MAX_DEPTH - 1)
    schema = InputSchema.compile(parse_object(text, "it"))
    schema.check(nested("leaf", MAX_DEPTH - 1))
    with pytest.raises(InputError, match="has to be a string, and is a number"):
        schema.check(nested(5, MAX_DEPTH - 1))


TREE = {
    "$ref": "#/$defs/any",
    "$defs": {
        "any": {
            "anyOf": [
                {"type": ["string", "number", "boolean", "null"]},
                {"type": "array", "items": {"$ref": "#/$defs/any"}},
                {"type": "object", "additionalProperties": {"$ref": "#/$defs/any"}},
            ]
        }
    },
}


def test_a_schema_that_contains_itself_describes_trees() -> None:
    tree = InputSchema.compile(TREE)
    tree.check({"a": [1, {"b": [[], {}, None]}]})
    tree.check({"a": nested("leaf", 40)})


def test_a_tree_as_deep_as_json_may_be_is_an_error_and_not_the_end() -> None:
    with pytest.raises(InputError, match="nested too deeply"):
        InputSchema.compile(TREE).check({"a": nested("leaf", MAX_DEPTH - 1)})


def steps_taken(schema: Any, value: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often a pass was asked to spend: one that is over its steps is not asked again."""
    asked = 0
    spend = Pass.spend

    def counted(self: Pass, steps: int) -> None:
        nonlocal asked
        asked += 1
        spend(self, steps)

    monkeypatch.setattr(Pass, "spend", counted)
    with pytest.raises(InputError, match="too large"):
        InputSchema.compile(schema).check(value)
    return asked


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        pytest.param({"items": {"type": "integer"}}, MANY, id="an item after the other"),
        pytest.param({"uniqueItems": True}, MANY, id="items that are compared"),
        pytest.param({"contains": {"const": -1}}, MANY, id="items that are searched"),
        pytest.param({"items": {"allOf": [{}] * 1000}}, MANY[:5000], id="many schemas for each of many items"),
        pytest.param({"items": {"enum": [{"k": n} for n in range(500)] + [0]}}, [0] * len(MANY), id="large options"),
        pytest.param({"items": {"required": [f"a{n}" for n in range(4000)]}}, [[]] * 100_000, id="many required names"),
        pytest.param({"items": {"pattern": "x"}}, ["a" * 1_000_000 + "x"] * 100, id="a long text, often"),
        pytest.param(
            {"additionalProperties": {"anyOf": [{"const": n} for n in range(100)]}},
            {str(n): 99 for n in range(50_000)},
            id="many fields with many forms",
        ),
    ],
)  # fmt: skip
def test_a_check_ends_within_its_steps(schema: Any, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps_taken({"properties": {"a": schema}}, {"a": value}, monkeypatch) <= MAX_STEPS + 1


def test_a_text_costs_nothing_that_nothing_goes_through() -> None:
    schema = InputSchema.compile({"properties": {"file": {"type": "string", "minLength": 1}}})
    schema.check({"file": "A" * 50_000_000})


def test_a_million_mistakes_are_told_as_one_and_not_looked_for() -> None:
    schema = InputSchema.compile({"properties": {"a": {"items": {"enum": [f"option-{n}" for n in range(500)]}}}})
    with pytest.raises(InputError, match="many other fields are wrong"):
        schema.check({"a": ["nearly-an-option"] * 1_000_000})


def test_forms_that_are_all_missed_a_hundred_thousand_times_are_not_put_into_words() -> None:
    form = {"enum": [f"option-{n}" for n in range(500)]}
    schema = InputSchema.compile({"properties": {"a": {"items": {"anyOf": [form, {"type": "string"}]}}}})
    schema.check({"a": ["nearly-an-option"] * 100_000})


@pytest.mark.parametrize(
    "value",
    [10**400, -(10**400), 1e308, 5e-324, 2**53 + 1, True],
    ids=["a huge number", "a huge negative one", "a large float", "a small one", "one beyond floats", "true"],
)
def test_numbers_of_any_size_are_compared_exactly(value: Any) -> None:
    schema = InputSchema.compile({"properties": {"a": {"multipleOf": 0.1, "minimum": -1e300, "enum": [2**53]}}})
    with pytest.raises(InputError):
        schema.check({"a": value})


HOSTILE_TEXTS = ("ok\n\nhint: nothing to worry about", "\x1b[2J" * 30, "x" * 100_000)


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=["lines", "escapes", "length"])
def test_a_text_of_the_schema_or_the_value_stays_on_its_line_and_short(text: str) -> None:
    for schema, value in (
        ({"required": [text]}, {}),
        ({"additionalProperties": False}, {text: 1}),
        ({"properties": {"a": {"enum": [text, text + "b"]}}}, {"a": text + "c"}),
        ({"properties": {"a": {"const": text}}}, {"a": 1}),
        ({"properties": {"a": {"pattern": text[:1000].replace("[", "b")}}}, {"a": "c"}),
        ({"dependentRequired": {text: ["b"]}}, {text: 1}),
        ({"properties": {text: {"properties": {text: {"properties": {text: False}}}}}}, {text: {text: {text: 1}}}),
        ({"minProperties": 5, "propertyNames": {"maxLength": 1}}, {text: 1}),
    ):
        with pytest.raises(InputError) as error:
            InputSchema.compile(schema).check(value)
        assert not set(str(error.value)) & {"\n", "\x1b"}
        assert len(str(error.value)) < 600


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=["lines", "escapes", "length"])
def test_a_text_of_a_malformed_schema_stays_on_its_line_and_short(text: str) -> None:
    for schema in (
        {"properties": {text: 5}},
        {"properties": {text: {"properties": {text: {"type": text}}}}},
        {"dependentRequired": {text: text}},
        {"dependencies": {text: text}},
        {"patternProperties": {text + "(": True}},
        {"$ref": f"#/{text}"},
        {"$ref": f"#/{text}", text: 5},
        {"$schema": text},
    ):
        with pytest.raises(ManifestError) as error:
            InputSchema.compile(schema)
        assert not set(str(error.value)) & {"\n", "\x1b"}
        assert len(str(error.value)) < 600
