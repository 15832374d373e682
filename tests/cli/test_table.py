"""Rows for people to read."""

from __future__ import annotations

import pytest

from host.cli.output.terminal import table

HEAD = ("name", "description")


def test_columns_are_as_wide_as_they_need_to_be() -> None:
    assert list(table(HEAD, [("a", "x"), ("longer", "y")])) == ["NAME    DESCRIPTION", "a       x", "longer  y"]


def test_without_rows_there_is_no_head() -> None:
    assert list(table(HEAD, [])) == []


@pytest.mark.parametrize(
    ("width", "last"),
    [
        pytest.param(None, "x" * 40, id="whole where it is not for a terminal"),
        pytest.param(46, "x" * 40, id="whole where it just fits"),
        pytest.param(45, "x" * 38 + "…", id="cut where it does not"),
        pytest.param(5, "x" * 10 + "…", id="never to less than its head"),
    ],
)
def test_the_last_column_ends_where_the_terminal_does(width: int | None, last: str) -> None:
    assert list(table(HEAD, [("name", "x" * 40)], width=width))[1] == f"name  {last}"


def test_nothing_in_a_cell_makes_a_row_of_its_own() -> None:
    assert list(table(HEAD, [("a", "b\nc")]))[1:] == ["a     b c"]
