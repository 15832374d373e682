"""Rows for people to read."""

from __future__ import annotations

import sys
import threading

import pytest

from host.cli.output.terminal import columns_of, table, working

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
        pytest.param(10, "xxx…", id="to less than its head where nothing else is left"),
    ],
)
def test_the_last_column_ends_where_the_terminal_does(width: int | None, last: str) -> None:
    assert list(table(HEAD, [("name", "x" * 40)], width=width))[1] == f"name  {last}"


def test_nothing_in_a_cell_makes_a_row_of_its_own() -> None:
    assert list(table(HEAD, [("a", "b\nc")]))[1:] == ["a     b c"]


NAMES = ["c:local.openai:0.1.0", "模型" * 30, "e\u0301" * 60, "x" * 300, "a\x1b[31mb", ""]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("columns", [2, 5, 9])
def test_no_line_is_wider_than_the_terminal_whatever_is_in_it(width: int, columns: int) -> None:
    head = ["reference", "digest", "operation", "model", "outcome", "took", "tokens", "key", "description"][:columns]
    rows = [[NAMES[(row + column) % len(NAMES)] for column in range(columns)] for row in range(len(NAMES))]
    lines = list(table(head, rows, width=width))
    assert len(lines) == len(rows) + 1
    assert max(map(columns_of, lines)) <= width
    assert "\x1b" not in "".join(lines)


def test_wide_characters_are_in_line_with_narrow_ones() -> None:
    head, wide, narrow = table(("name", "value"), [("模型", "1"), ("abcd", "2")])
    assert [columns_of(line[: line.index(end)]) for line, end in ((head, "VALUE"), (wide, "1"), (narrow, "2"))] == [
        6
    ] * 3


def test_a_name_is_cut_after_what_stands_behind_it() -> None:
    assert list(table(("reference", "size", "description"), [("c:local.openai", "18 MB", "x" * 40)], width=40))[1] == (
        "c:local.openai  18 MB  " + "x" * 16 + "…"
    )


RUN = (
    "3f1c9a7be204",
    "11-29 07:05",
    "c:local.openai:0.1.0",
    "chat.completions.create",
    "gpt-4o-mini",
    "ok",
    "10.412 s",
)


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("more", [(), ("123/456",), ("123/456", "ci (key_01ab)")])
def test_columns_that_are_spared_are_whole_and_others_are_cut(width: int, more: tuple[str, ...]) -> None:
    head = ("run", "started", "reference", "operation", "model", "outcome", "took", "tokens", "key")
    cells = (*RUN, *more)
    _, row = table(head[: len(cells)], [cells], width=width, spared=("run", "started", "took"))
    assert columns_of(row) <= width
    assert row.startswith("3f1c9a7be204  11-29 07:05  ")
    assert "10.412 s" in row


def test_where_nothing_else_is_left_to_cut_the_spared_columns_are_cut_too() -> None:
    _, row = table(("run", "started", "took"), [("3f1c9a7be204", "11-29 07:05", "10.412 s")], width=20, spared=["run"])
    assert (row, columns_of(row)) == ("3f1c9a7…  11-…  10.…", 20)


@pytest.mark.parametrize(("on_terminal", "said"), [(True, "compiling …\n"), (False, "")])
def test_what_takes_long_says_so_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], on_terminal: bool, said: str
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: on_terminal)
    with working("compiling", after_s=0.0):
        for thread in threading.enumerate():
            if thread.name == "host-working":
                thread.join()
    assert capsys.readouterr().err == said
