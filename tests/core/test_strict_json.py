"""JSON from anybody: whatever it is, it is a value that can be walked, written and printed, or an InputError."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.core.strict_json import (
    MAX_DEPTH,
    WrittenObject,
    check_depth,
    clean_text,
    json_bytes,
    kind_of,
    parse_json,
    parse_object,
    write_json,
)
from host.errors import InputError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(VALUES)
def test_a_value_whose_names_are_there_once_is_read_back(value: Any) -> None:
    assert parse_json(write_json(value), "it", names_once=True) == value


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "\\u0061": 2}}]'])
def test_a_name_that_is_there_twice_is_a_mistake_where_it_decides_something(text: str) -> None:
    with pytest.raises(InputError, match="it has 'a' twice in one object"):
        parse_json(text, "it", names_once=True)
    parse_json(text, "it")


@given(VALUES)
def test_a_value_is_read_back_as_it_was_written(value: Any) -> None:
    assert parse_json(write_json(value), "it") == value
    assert parse_json(json.dumps(value).encode(), "it") == value


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("{", id="cut short"),
        pytest.param("{} {}", id="two documents"),
        pytest.param("NaN", id="NaN"),
        pytest.param("[Infinity]", id="infinity"),
        pytest.param('{"a": -Infinity}', id="negative infinity"),
        pytest.param("1e999", id="a number that is infinite once read"),
        pytest.param('{"a": [-1E+400]}', id="a negative number that is infinite once read"),
        pytest.param("1" * 400 + ".0", id="400 digits and a fraction"),
        pytest.param("1" * 5000, id="an integer of 5,000 digits"),
        pytest.param("[" * 100_000, id="100,000 opening brackets"),
        pytest.param("[" * 5000 + "]" * 5000, id="lists nested 5,000 deep"),
        pytest.param('{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), id="one level too deep"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param('"\x00"', id="a control character in a string"),
    ],
)
def test_what_is_no_json_is_an_input_error_that_names_it(text: str | bytes) -> None:
    with pytest.raises(InputError, match="the thing"):
        parse_json(text, "the thing")


def test_the_message_says_where_and_never_what() -> None:
    with pytest.raises(InputError, match="line 2, column 3") as error:
        parse_json("{\n  sk-secret: 1}", "it")
    assert "sk-secret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("1e308", 1e308, id="the largest numbers"),
        pytest.param("1e-999", 0.0, id="the smallest numbers"),
        pytest.param("9" * 400, int("9" * 400), id="a long integer"),
        pytest.param('"1e999"', "1e999", id="text that looks like an infinite number"),
        pytest.param("[" * MAX_DEPTH + "]" * MAX_DEPTH, None, id="as deep as is allowed"),
        pytest.param("[" + ",".join(["[]"] * 5000) + "]", [[]] * 5000, id="many brackets side by side"),
        pytest.param('"' + "[" * 5000 + '"', "[" * 5000, id="brackets in a string"),
    ],
)
def test_what_is_unusual_and_still_json(text: str, expected: Any) -> None:
    value = parse_json(text, "it")
    assert expected is None or value == expected


def test_what_is_read_can_be_walked_from_deep_within_a_program() -> None:
    """The deepest value that is accepted leaves most of Python's stack to whoever walks it with two frames a level."""
    assert sys.getrecursionlimit() // 2 > MAX_DEPTH * 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(r'"\ud800"', "\ufffd", id="a high half alone"),
        pytest.param(r'"\udfffx"', "\ufffdx", id="a low half alone"),
        pytest.param(r'"\ud83d\ude00"', "😀", id="both halves are a character"),
        pytest.param(r'"\\ud800"', r"\ud800", id="an escaped backslash is no escape"),
        pytest.param('{"\\ud800": ["\\udc00"]}', {"\ufffd": ["\ufffd"]}, id="in names and in lists"),
        pytest.param('"\ud800"', "\ufffd", id="one that is there without an escape"),
        pytest.param("[" * 199 + r'"\ud800"' + "]" * 199, None, id="as deep as it goes"),
    ],
)
def test_a_lone_surrogate_becomes_a_replacement_character(text: str, expected: Any) -> None:
    value = parse_json(text, "it")
    assert expected is None or value == expected
    assert write_json(value).encode("utf-8")


def test_values_from_elsewhere_become_bytes_whatever_their_strings_hold() -> None:
    assert json_bytes({"é": ["\ud83d", 1, None]}) == b'{"\xc3\xa9":["?",1,null]}'


@given(st.text() | st.binary() | VALUES.map(json.dumps))
def test_any_text_is_a_value_that_can_be_written_or_an_input_error(text: str | bytes) -> None:
    try:
        value = parse_json(text, "it")
    except InputError:
        return
    assert write_json(value).encode("utf-8")
    assert not (isinstance(value, float) and not math.isfinite(value))


@pytest.mark.parametrize(
    ("text", "kind"),
    [("[]", "array"), ('"x"', "string"), ("1", "number"), ("1.5", "number"), ("true", "boolean"), ("null", "null")],
)
def test_an_object_is_wanted_and_the_error_says_what_there_was(text: str, kind: str) -> None:
    with pytest.raises(InputError, match=f"a JSON {kind}, not an object"):
        parse_object(text, "it")
    assert kind_of(json.loads(text)) == kind


def _nested(depth: int, kind: type) -> Any:
    value: Any = kind()
    for _ in range(depth - 1):
        value = {"a": value} if kind is dict else kind([value])
    return value


@pytest.mark.parametrize("kind", [dict, list, tuple])
def test_depth_is_counted_in_every_kind_of_container(kind: type) -> None:
    check_depth(_nested(MAX_DEPTH, kind), "it")
    with pytest.raises(InputError, match="nested"):
        check_depth(_nested(MAX_DEPTH + 1, kind), "it")


def test_a_value_that_contains_itself_is_too_deep() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InputError):
        check_depth(loop, "it")


@given(st.text(alphabet=st.characters()))
def test_clean_text_can_be_encoded_and_loses_nothing_else(text: str) -> None:
    cleaned = clean_text(text)
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
    assert all(after in (before, "\ufffd") for before, after in zip(text, cleaned, strict=True))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        pytest.param("[0,0,0,0]", 4, id="a list of four has four separators"),
        pytest.param('{"a,[{":"[,{"}', 1, id="what stands in strings separates nothing"),
        pytest.param('["\\\\", "\\",,", 0]', 3, id="an escaped quotation mark ends no string"),
    ],
)
def test_more_values_than_wanted_are_refused(text: str, values: int) -> None:
    parse_json(text, "it", most=values)
    with pytest.raises(InputError, match="values"):
        parse_json(text, "it", most=values - 1)


def test_strings_that_never_end_are_counted_once() -> None:
    """A pattern that began again at every quotation mark would take hours here."""
    with pytest.raises(InputError):
        parse_json('\\"' * 500_000 + "," * 100, "it", most=10)


class TestHowAnObjectWasWritten:
    TEXT = ' {"a" : 1e3, "b":[1.0, -0],"c": {"x":3.14159265358979323846} , "s":"\\u00e9"}\n'

    def test_is_known(self) -> None:
        found = WrittenObject.read(self.TEXT, "it")
        assert found == {"a": 1000.0, "b": [1.0, 0], "c": {"x": 3.141592653589793}, "s": "\u00e9"}
        assert found.text() == self.TEXT
        assert found.changed(dict(found)).text() == self.TEXT
        assert (found.part("a"), found.part("c")) == ("1e3", '{"x":3.14159265358979323846}')

    def test_is_kept_for_each_value_that_does_not_change(self) -> None:
        found = WrittenObject.read(self.TEXT, "it")
        changed = found.changed({"new": [1], **found, "b": "\u20ac"})
        assert changed.text() == '{"a":1e3,"b":"\u20ac","c":{"x":3.14159265358979323846},"s":"\\u00e9","new":[1]}'
        del changed["a"], changed["c"]
        assert changed.text() == '{"b":"\u20ac","s":"\\u00e9","new":[1]}'
        assert found.text() == self.TEXT

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{",
            "{,}",
            '{"a"}',
            '{"a" 1}',
            '{"a":}',
            '{"a":1,}',
            '{"a":1 "b":2}',
            '{"a":1}}',
            "{'a':1}",
            '{"a":NaN}',
        ],
    )
    def test_is_not_known_of_what_is_no_object(self, text: str) -> None:
        with pytest.raises(InputError):
            WrittenObject.read(text, "it")

    @pytest.mark.parametrize("text", ['{"a":1,"a":1}', '{"a":1,"\\u0061":2}', '{"x":[{"b":1,"c":2,"b":3}]}'])
    def test_is_nothing_to_choose_from(self, text: str) -> None:
        with pytest.raises(InputError, match="twice in one object"):
            WrittenObject.read(text, "it")

    @given(st.dictionaries(st.text(), VALUES, max_size=5))
    def test_is_what_the_library_wrote(self, value: dict[str, Any]) -> None:
        for text in (json.dumps(value), json.dumps(value, indent=1, ensure_ascii=False)):
            found = WrittenObject.read(text, "it")
            assert (found, found.text()) == (json.loads(text), text)
            assert json.loads(found.changed({**found, "": 1}).text()) == {**value, "": 1}
