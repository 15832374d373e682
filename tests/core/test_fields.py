"""The fields of a document: typed, or an error that names the field by its path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from host.core.fields import FieldReader

DOCUMENT = {
    "name": "a",
    "on": True,
    "kind": "json",
    "texts": ["x", 5],
    "inner": {"deep": {"flag": "yes"}},
    "list": {},
}


class Wrong(ValueError):
    pass


def reader(document: Any = DOCUMENT, at: str = "") -> FieldReader:
    return FieldReader(document, error=lambda where, problem: Wrong(f"{where} {problem}"), at=at)


def test_fields_are_read_by_their_types() -> None:
    fields = reader()
    assert (fields.text("name"), fields.flag("on"), fields.choice("kind", ("json", "text"), default="")) == (
        "a",
        True,
        "json",
    )
    assert fields.table("inner").table("deep").given == {"flag": "yes"}
    assert [at for at, _ in fields.items("texts")] == ["texts[0]", "texts[1]"]


def test_what_is_missing_has_its_default() -> None:
    fields = reader({})
    assert (fields.text("x", default=""), fields.flag("x", default=False)) == ("", False)
    assert fields.choice("x", ("a",), default="none") == "none"
    assert (fields.table("x").given, fields.texts("x")) == ({}, ())


@pytest.mark.parametrize(
    ("read", "said"),
    [
        pytest.param(lambda one: one.text("on"), "on is a JSON boolean, not a string", id="a flag for a text"),
        pytest.param(lambda one: one.text("x"), "x is missing", id="a text that is missing"),
        pytest.param(lambda one: one.flag("name"), "name is a JSON string, not true or false", id="a text for a flag"),
        pytest.param(lambda one: one.choice("kind", ("a", "b"), default=""), "kind is one of a, b", id="another word"),
        pytest.param(lambda one: one.texts("texts"), "texts[1] is a JSON number, not a string", id="in a list"),
        pytest.param(lambda one: one.items("list"), "list is a JSON object, not a list", id="an object for a list"),
        pytest.param(
            lambda one: one.table("inner").table("deep").flag("flag"),
            "inner.deep.flag is a JSON string, not true or false",
            id="in an inner object",
        ),
        pytest.param(
            lambda one: one.only("name", "on", "kinds", "texts", "inner", "list"),
            "kind is not a known field: did you mean kinds?",
            id="an unknown field that is nearly a known one",
        ),
        pytest.param(lambda one: one.table("name"), "name is a JSON string, not an object", id="a text for an object"),
    ],
)
def test_an_error_names_the_field_and_the_problem(read: Callable[[FieldReader], object], said: str) -> None:
    with pytest.raises(Wrong) as error:
        read(reader())
    assert str(error.value) == said


def test_the_document_itself_has_to_be_an_object() -> None:
    with pytest.raises(Wrong, match=r"a\.b is a JSON array, not an object"):
        reader([], "a.b")


def test_an_error_is_short_however_long_a_name_is() -> None:
    with pytest.raises(Wrong) as error:
        reader({"a" * 10_000: 5}).only("b")
    assert len(str(error.value)) < 200
