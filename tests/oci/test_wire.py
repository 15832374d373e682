"""Dataclasses as JSON."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from host.errors import ArtifactError
from host.oci.documents import json_object, read, wired, written


@wired
@dataclass(frozen=True)
class Page:
    page_number: int
    lines: tuple[str, ...] = ()
    next_page: Page | None = None


def test_what_is_written_is_read_back():
    page = Page(1, ("a", "b"), Page(2))
    assert read(Page, written(page), "it") == page


def test_names_are_those_of_json_and_defaults_are_left_out():
    assert written(Page(1, next_page=Page(2))) == {"pageNumber": 1, "nextPage": {"pageNumber": 2}}


def test_fields_that_are_not_known_are_passed_over():
    assert read(Page, {"pageNumber": 1, "page_number": 2, "later": {}}, "it") == Page(1)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param([], "it: ", id="the whole"),
        pytest.param({}, "it.pageNumber: ", id="a field that is missing"),
        pytest.param({"pageNumber": "1"}, "it.pageNumber: ", id="a number in quotes"),
        pytest.param({"pageNumber": True}, "it.pageNumber: ", id="a truth for a number"),
        pytest.param({"pageNumber": 1, "lines": "ab"}, "it.lines: ", id="a text for a list"),
        pytest.param(
            {"pageNumber": 1, "nextPage": {"pageNumber": 2, "lines": ["", 3]}},
            "it.nextPage.lines[1]: ",
            id="deep inside",
        ),
    ],
)
def test_a_mistake_is_named_by_its_path(value, said):
    with pytest.raises(ArtifactError) as caught:
        read(Page, value, "it")
    assert str(caught.value).startswith(said)


def test_a_mistake_is_not_quoted():
    with pytest.raises(ArtifactError) as caught:
        read(Page, {"pageNumber": "s3cret"}, "it")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"[" * 100_000, b'{"a":[' + b"0," * 200_000 + b"0]}"])
def test_what_is_no_object_is_refused(content):
    with pytest.raises(ArtifactError, match=r"^it "):
        json_object(content, "it")
