"""A long text that is read in pieces has the value that it has at once, and whoever waits is asked often enough."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.core import json_pieces, strict_json
from host.core.strict_json import MAX_DEPTH, parse_json, survey
from host.errors import InputError
from tests.conftest import slack
from tests.core.test_strict_json import VALUES


@pytest.fixture(scope="module", autouse=True)
def _small_windows() -> Any:
    """So that a text of a few characters is long."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_pieces, "WINDOW", 64)
        patched.setattr(json_pieces, "_WINDOWS", (9, 64))
        patched.setattr(strict_json, "_LONG", 0)
        yield


def in_pieces(text: str, **options: Any) -> Any:
    return parse_json(text, "it", check=lambda: None, **options)


def at_once(text: str, **options: Any) -> Any:
    return parse_json(text, "it", **options)


def outcome(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except InputError:
        return InputError


LONG_VALUES = st.recursive(
    VALUES | st.text(st.characters() | st.sampled_from('\\"\x00\ud83d\ude00ud8'), min_size=10),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=20), inner, max_size=8),
)


@given(LONG_VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_a_value_in_pieces_is_the_value_at_once(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert in_pieces(text) == at_once(text)


@given(st.lists(st.sampled_from([*'[]{}:,"\\ 1e.-u', "\\ud800", "\\udc00", "\\n", "true", "null", '"a"', "12345678"])))
def test_a_text_of_any_kind_in_pieces_is_what_it_is_at_once(parts: list[str]) -> None:
    text = "".join(parts)
    assert outcome(in_pieces, text) == outcome(at_once, text)


@given(LONG_VALUES, st.integers(0, 200), st.sampled_from(["", "x", ",", '"', "]", "}", "\\", "[", "{"]))
def test_a_text_that_was_damaged_in_pieces_is_what_it_is_at_once(value: Any, at: int, put: str) -> None:
    text = json.dumps(value)
    at = min(at, len(text))
    text = text[:at] + put + text[at + 1 :]
    assert outcome(in_pieces, text) == outcome(at_once, text)


@pytest.mark.parametrize("shift", range(66))
@pytest.mark.parametrize(
    "piece", [r"\ud83d\ude00", r"\ud800", r"\\", r"\"", r"\u00e9", "é", r"\ud800\ud83d\ude00", "\\\\u"]
)
def test_no_escape_and_no_pair_of_them_is_cut(piece: str, shift: int) -> None:
    text = f'["{"x" * shift}{piece * 40}"]'
    assert in_pieces(text) == at_once(text)


@pytest.mark.parametrize(
    "number", ["12345678.5", "12345678e5", "1234567e+5", "1234567E-05", "-1234567.25", "123456789"]
)
def test_a_number_is_not_taken_for_its_beginning(number: str) -> None:
    for text in (number, f"[{number}]", f"[{number},{'1,' * 50}{number}]"):
        assert in_pieces(text) == at_once(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('["' + "x" * 100, id="a string without an end"),
        pytest.param('["' + "\\" * 101 + '"]', id="a string whose end is escaped"),
        pytest.param("[" + "1," * 100, id="a list without an end"),
        pytest.param("[" + "1," * 100 + "]", id="a comma before the end"),
        pytest.param('{"a":1,' * 1 + '"b":2,' * 50 + "}", id="a comma before the end of an object"),
        pytest.param('{"a" 1' + "2" * 50 + "}", id="no colon"),
        pytest.param('{"a":1 ' + '"b":2}' * 10, id="no comma"),
        pytest.param("{a:1" + " " * 50 + "}", id="a bare name"),
        pytest.param("[1," + " " * 50 + "NaN]", id="NaN"),
        pytest.param("[" + "1," * 50 + "1e999]", id="an infinite number"),
        pytest.param("[1" + "0" * 100 + ".5]", id="a number longer than a window"),
        pytest.param("[" * 100 + "]" * 99, id="a bracket too few"),
        pytest.param("[" * 100 + "]" * 101, id="a bracket too many"),
        pytest.param("[" * 100 + "}" * 100, id="the other brackets"),
        pytest.param("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), id="a level too deep"),
        pytest.param("[1,2,3,4,5,6],[1,2,3,4,5,6]", id="two lists"),
        pytest.param('{"a":1,"b":2},{"c":3,"d":4}', id="two objects"),
        pytest.param('["' + "x" * 50 + '\x01"]', id="a control character"),
        pytest.param('["' + "x" * 50 + '\\x41"]', id="an escape that is none"),
        pytest.param("\ufeff" + "[1]" * 1 + " " * 40, id="a byte order mark"),
    ],
)
def test_what_is_no_json_in_pieces_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError, match="it "):
        in_pieces(text)


def test_the_message_says_where_in_the_whole_text() -> None:
    with pytest.raises(InputError, match="line 3, column 5"):
        in_pieces('["aaaaaaaaaaaaaaaaaaaaaaaaaaa",\n 1,\n 1, x]')


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"a":"xxxxxxxxxxxxxxxxxxxx","b":'])
def test_as_deep_as_is_allowed_and_not_a_level_more(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    inner = "1" if opening.startswith("{") else ""
    deep = opening * MAX_DEPTH + inner + closing * MAX_DEPTH
    assert in_pieces(deep) == at_once(deep)
    with pytest.raises(InputError, match="nested"):
        in_pieces(opening + deep + closing)


def test_values_over_the_number_are_refused_where_commas_in_strings_do_not_count() -> None:
    assert in_pieces('["' + ",[{" * 100 + '"]', most=20)
    assert in_pieces("[" + "1," * 99 + "1]", most=100) == [1] * 100
    for text in (
        "[" + "1," * 101 + "1]",
        "[" + "[]," * 101 + "1]",
        "{" + ",".join(f'"{n}":1' for n in range(101)) + "}",
    ):
        with pytest.raises(InputError, match="more than 100 values"):
            in_pieces(text, most=100)


def test_the_one_who_waits_may_end_it() -> None:
    class Enough(Exception):
        pass

    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 5:
            raise Enough

    with pytest.raises(Enough):
        parse_json('["' + "x" * 1000 + '"]', "it", check=check)
    assert asked == 5


def surveyed(text: str) -> Any:
    return survey(text, "it", lambda: None)


def test_a_survey_checks_all_of_a_text_and_has_its_short_entries() -> None:
    assert surveyed("[" + "1," * 150 + "1]")[100:] == []
    long = {"first": 1, "long": ["x" * 30] * 10, "text": "y" * 200, "last": {"n": 2}}
    assert surveyed(json.dumps(long)) == {**long, "long": [], "text": ""}
    assert len(surveyed(json.dumps({f"name-{n}": n for n in range(1_000)}))) <= 100
    with pytest.raises(InputError):
        surveyed("[" + "1," * 50 + "x]")


_NEAR_JSON = st.lists(
    st.sampled_from(
        [
            "1,",
            "-2.5,",
            " 3 ,",
            "1e400,",
            "NaN,",
            "-Infinity,",
            "01,",
            "1.,",
            "--1,",
            "+1,",
            "0",
            "7",
            " ",
            "[",
            "]",
            "{",
            "}",
            ",",
            '"',
            '"a":',
            "\\",
            "\\u00",
            "\n",
            "x",
            ".5",
            "-",
            "tru",
            "true,",
            "[1,2,3,4,5]",
            '{"a":1,2,3,4,5}',
        ]
    ),
    max_size=30,
).map("".join)


@given(st.one_of(_NEAR_JSON, _NEAR_JSON.map(lambda text: f"[{text}0]"), VALUES.map(json.dumps)))
def test_without_its_numbers_a_text_is_json_exactly_if_it_was(text: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_pieces, "_STRETCH", 8)
        short = json_pieces.without_numbers(text, lambda: None)
    assert len(short) <= len(text) + 2
    assert _is_json(short) is _is_json(text), short


def _is_json(text: str) -> bool:
    try:
        json.loads(text, strict=False)
    except ValueError:
        return False
    return True


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Without the garbage collector, which walks all that other tests have left in this process."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(r"\ud800", id="high halves"),
        pytest.param(r"\udfffa", id="low halves between letters"),
        pytest.param(r"\ud83d\ude00", id="characters in halves"),
        pytest.param(r"\u0041", id="letters as escapes"),
        pytest.param("\\\\", id="backslashes"),
        pytest.param("é,", id="text that is not ASCII"),
        pytest.param('","', id="short texts"),
        pytest.param('",1,1.5,"', id="numbers"),
        pytest.param('",[],[[]],"', id="short lists"),
        pytest.param('",{"":{}},"', id="short objects"),
        pytest.param('",' + "[" * 150 + "]" * 150 + ',"', id="deep lists"),
    ],
)
@pytest.mark.usefixtures("uncollected")
def test_between_two_checks_there_is_little_to_do(monkeypatch: pytest.MonkeyPatch, piece: str) -> None:
    monkeypatch.setattr(json_pieces, "WINDOW", 64 * 1024)
    monkeypatch.setattr(json_pieces, "_WINDOWS", (512, 64 * 1024))
    longest, last = 0.0, time.thread_time()
    began = last

    def check() -> None:
        nonlocal longest, last
        now = time.thread_time()
        longest, last = max(longest, now - last), now

    parse_json('["' + piece * (2_000_000 // len(piece.encode())) + '"]', "it", check=check)
    check()
    assert longest < max(slack(0.15), (last - began) / 6), "of two megabytes, which take more than a second"
