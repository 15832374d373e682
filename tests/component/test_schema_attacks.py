"""A schema and a value that were made to cost time, memory, a file or the process: each attack by its name."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from host.component import schema_bounds as document
from host.component.schema import InputSchema
from host.core.strict_json import MAX_DEPTH, parse_object
from host.errors import InputError, ManifestError

MANY = list(range(2_000_000))
LONGEST_S = 30.0  # of CPU: what is a second or two here, on a machine that is slow


def nested(value: Any, times: int) -> Any:
    for _ in range(times):
        value = [value]
    return value


def unfolding(keyword: str, count: int) -> dict[str, Any]:
    """Each definition applies the next one twice."""
    twice = {f"a{n}": {keyword: [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(count)}
    return {"$ref": "#/$defs/a0", "$defs": {**twice, f"a{count}": {"type": "string"}}}


def verdict(schema: Any, value: Any) -> str:
    """What becomes of the two: `refused`, `wrong`, `fits`. Fails where that takes long."""
    began = time.thread_time()
    found = "fits"
    try:
        InputSchema.compile(schema).check(value)
    except ManifestError:
        found = "refused"
    except InputError:
        found = "wrong"
    assert time.thread_time() - began < LONGEST_S
    return found


def doubling(**applies: Any) -> dict[str, Any]:
    """A schema that applies itself twice to what is in a value."""
    return {"$ref": "#/$defs/a", "$defs": {"a": applies}}


AGAIN = {"$ref": "#/$defs/a"}
ITEMS = {"items": AGAIN}


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_a_schema_that_unfolds_to_a_million_million_is_refused(keyword: str) -> None:
    with pytest.raises(ManifestError, match=r"nested too deeply|too many schemas"):
        InputSchema.compile(unfolding(keyword, 40))
    with pytest.raises(ManifestError, match="too many schemas"):
        InputSchema.compile({keyword: [{keyword: [{keyword: [{}] * 40}] * 40}] * 40})


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(doubling(anyOf=[ITEMS, ITEMS]), id="anyOf"),
        pytest.param(doubling(oneOf=[ITEMS, {"prefixItems": [AGAIN]}]), id="oneOf"),
        pytest.param(doubling(allOf=[{"properties": {"a": AGAIN}}], patternProperties={"": AGAIN}), id="allOf, by name"),
        pytest.param(doubling(allOf=[ITEMS], items=AGAIN), id="beside allOf"),
        pytest.param(doubling(items={"allOf": [AGAIN, AGAIN]}), id="one level deeper"),
        pytest.param({"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"allOf": [AGAIN, AGAIN]}}}, id="by way of another"),
        pytest.param(doubling(**{"if": ITEMS, "then": ITEMS, "else": ITEMS}), id="if, then, else"),
        pytest.param(doubling(**{"not": ITEMS}, items=AGAIN), id="not"),
        pytest.param(doubling(contains=AGAIN, items=AGAIN), id="contains"),
        pytest.param(doubling(dependentSchemas={"a": {"additionalProperties": AGAIN}, "b": {"properties": {"a": AGAIN}}}), id="dependentSchemas"),
        pytest.param(doubling(patternProperties={"a": AGAIN, "b": AGAIN}), id="patternProperties"),
        pytest.param(doubling(allOf=[ITEMS], unevaluatedItems=False), id="unevaluatedItems, which looks twice"),
        pytest.param(doubling(anyOf=[{"additionalProperties": AGAIN}], unevaluatedProperties=False), id="unevaluatedProperties"),
        pytest.param({"$schema": "http://json-schema.org/draft-07/schema#", "dependencies": {"a": {"additionalProperties": {"$ref": "#"}}, "b": {"additionalProperties": {"$ref": "#"}}}}, id="dependencies"),
    ],
)  # fmt: skip
def test_a_schema_that_doubles_with_each_level_of_a_value_is_refused(schema: Any) -> None:
    with pytest.raises(ManifestError, match="too many schemas"):
        InputSchema.compile(schema)


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(doubling(properties={"left": AGAIN, "right": AGAIN}), id="two fields"),
        pytest.param(doubling(properties={"a": AGAIN}, additionalProperties=AGAIN), id="a field, and the others"),
        pytest.param(doubling(prefixItems=[AGAIN], items=AGAIN), id="an item, and the others"),
        pytest.param(doubling(items=AGAIN, additionalProperties=AGAIN), id="items, and fields"),
        pytest.param(
            doubling(anyOf=[{"type": "string"}, {"type": "array", "items": AGAIN}]), id="one of several forms"
        ),
        pytest.param(doubling(properties={"a": AGAIN}, unevaluatedProperties=False), id="and nothing else"),
    ],
)
def test_a_schema_that_contains_itself_once_is_read(schema: Any) -> None:
    InputSchema.compile(schema).check([])


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
    count = document.MAX_SUBSCHEMAS - 10
    chain = {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(count)} | {f"a{count}": {}}
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


def test_a_tree_as_deep_as_json_may_be_is_checked_to_its_end() -> None:
    tree = InputSchema.compile({**TREE, "$defs": {"any": {"anyOf": TREE["$defs"]["any"]["anyOf"][:2]}}})
    tree.check({"a": nested("leaf", MAX_DEPTH - 1)}["a"])
    with pytest.raises(InputError):
        tree.check(nested({}, MAX_DEPTH - 1))


@pytest.mark.parametrize(
    "schema", [TREE, {"items": {"$ref": "#"}}, {"items": {}}, {"uniqueItems": True}, {"enum": [[]]}]
)
def test_a_tree_that_is_deeper_is_an_error_and_not_the_end(schema: Any) -> None:
    for times in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(InputError, match="nested too deeply"):
            InputSchema.compile(schema).check({"a": nested("leaf", times)}["a"])


def test_schemas_for_one_value_fit_the_stack_at_every_depth_of_the_value() -> None:
    schema: Any = {"type": ["array", "string"], "items": {"$ref": "#"}}
    for _ in range(document.MAX_NESTED // 2 - 1):
        schema = {"allOf": [{"anyOf": [{"type": "integer"}, schema]}]}
    compiled = InputSchema.compile(schema)
    before = threading.stack_size(8 << 20)
    try:
        with ThreadPoolExecutor(1) as threads:
            threads.submit(compiled.check, nested("leaf", MAX_DEPTH - 1)).result()
            with pytest.raises(InputError):
                threads.submit(compiled.check, nested({}, MAX_DEPTH - 1)).result()
    finally:
        threading.stack_size(before)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        pytest.param({"items": {"type": "integer"}}, MANY, id="an item after the other"),
        pytest.param({"uniqueItems": True}, MANY, id="items that are compared"),
        pytest.param({"uniqueItems": True}, [{"k": ["x" * 1000] * 10, "n": n} for n in range(20_000)], id="large items that are compared"),
        pytest.param({"contains": {"const": -1}}, MANY, id="items that are searched"),
        pytest.param({"contains": {"required": ["a"], "properties": {"b": {"pattern": "^b*$"}}}, "minContains": 9}, [{"b": "b" * 100}] * 200_000, id="forms that are searched"),
        pytest.param({"items": {"allOf": [{}] * 1000}}, MANY[:5000], id="many schemas for each of many items"),
        pytest.param({"items": {"enum": [{"k": n} for n in range(500)] + [0]}}, [0] * len(MANY), id="large options"),
        pytest.param({"items": {"enum": list(range(500))}}, [0.5] * 200_000, id="options that are numbers"),
        pytest.param({"items": {"required": [f"a{n}" for n in range(4000)]}}, [{}] * 100_000, id="many required names"),
        pytest.param({"items": {"properties": {f"a{n}": {} for n in range(4000)}}}, [{"b": 1}] * 100_000, id="many names"),
        pytest.param({"items": {"dependentRequired": {f"a{n}": ["b"] for n in range(4000)}}}, [{"a0": 1}] * 100_000, id="many names that need others"),
        pytest.param({"items": {"pattern": "x"}}, ["a" * 1_000_000 + "x"] * 100, id="a long text, often"),
        pytest.param({"patternProperties": {f"{n}[a-z]*x": {"type": "string"} for n in range(200)}}, {f"{n}" + "a" * 50: n for n in range(100_000)}, id="many patterns for many names"),
        pytest.param({"propertyNames": {"pattern": "^a*$"}}, {"a" * 1_000_000 + f"{n}": n for n in range(50)}, id="a pattern for long names"),
        pytest.param({"unevaluatedProperties": False, "anyOf": [{"patternProperties": {str(n): {"type": "integer"}}} for n in range(50)]}, {str(n): n for n in range(200_000)}, id="fields that are seen by many forms"),
        pytest.param({"unevaluatedItems": False, "allOf": [{"contains": {"type": "integer"}}] * 10}, MANY[:500_000], id="items that are seen by many forms"),
        pytest.param(
            {"additionalProperties": {"anyOf": [{"const": n} for n in range(100)]}},
            {str(n): 99 for n in range(50_000)},
            id="many fields with many forms",
        ),
        pytest.param({"items": {"multipleOf": 1e-15}}, [1.7e308] * 100_000, id="multiples of a small number"),
        pytest.param({"items": {"multipleOf": 0.1}}, [10**4000] * 10_000, id="multiples with many digits"),
        pytest.param({"items": {"minimum": 0.5, "enum": [10**4000]}}, [10**4000] * 10_000, id="numbers with many digits"),
    ],
)  # fmt: skip
def test_a_check_ends_soon(schema: Any, value: Any) -> None:
    assert verdict({"properties": {"a": schema}}, {"a": value}) in {"fits", "wrong"}


@pytest.mark.parametrize("of", [0, -1, 5e-324, 1e-300, 1e300, 10**400], ids=str)
def test_multiples_that_take_long_to_find_are_refused(of: Any) -> None:
    with pytest.raises(ManifestError, match=r"schema\.input\.multipleOf"):
        InputSchema.compile({"multipleOf": of})


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 10**5000, [float("nan")] * 3],
    ids=["nan", "infinity", "more digits than Python prints", "several"],
)
@pytest.mark.parametrize("schema", [{"multipleOf": 0.1}, {"minimum": 0}, {"enum": [1, 0.5]}, {"uniqueItems": True}])
def test_what_is_no_number_of_json_ends_nothing(schema: Any, value: Any) -> None:
    assert verdict({"items": schema, **schema}, value) in {"fits", "wrong"}


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("a" * 1_000_000, id="a long one"),
        pytest.param("(" * 4000 + ")" * 4000, id="a nested one"),
        pytest.param("a?" * 2000 + "a" * 2000, id="a wide one"),
        pytest.param("[^a]{1000}{1000}{1000}", id="one that repeats"),
        pytest.param("\\p{L}{1,999}", id="one of all letters"),
    ],
)
def test_a_giant_pattern_is_refused_soon(pattern: str) -> None:
    assert verdict({"properties": {"a": {"pattern": pattern}}}, {"a": "b"}) in {"refused", "wrong"}
    assert verdict({"patternProperties": {pattern: {}}}, {"a": "b"}) in {"refused", "fits"}


def test_a_text_costs_nothing_that_nothing_goes_through() -> None:
    schema = InputSchema.compile({"properties": {"file": {"type": "string", "minLength": 1}}})
    schema.check({"file": "A" * 50_000_000})


def test_a_million_mistakes_are_told_as_one_and_not_looked_for() -> None:
    schema = InputSchema.compile({"properties": {"a": {"items": {"enum": [f"option-{n}" for n in range(500)]}}}})
    with pytest.raises(InputError, match=r"a\[0\] is .* none of the 500"):
        schema.check({"a": ["nearly-an-option"] * 1_000_000})


@pytest.mark.parametrize(
    "schema",
    [
        {"items": {"type": "string"}},
        {"anyOf": [{"items": {"type": "string"}}, {"items": {"type": "object"}}]},
        {"oneOf": [{"items": {"anyOf": [{"type": "string"}, {"enum": [True]}]}}, {"type": "object"}]},
        {"unevaluatedItems": {"type": "string"}},
        {"items": {"allOf": [{"required": [f"a{n}" for n in range(50)]}, {"type": "object"}]}},
    ],
)
def test_three_hundred_thousand_mistakes_take_no_memory(schema: Any) -> None:
    script = (
        "import json, resource, sys\n"
        "from host.component.schema import InputSchema\n"
        "from host.errors import InputError\n"
        "schema, value = InputSchema.compile(json.loads(sys.argv[1])), list(range(300_000))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    schema.check(value)\nexcept InputError:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(schema)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < 120_000  # KiB: the value itself takes some 12 MB, each copy in the library as much


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
