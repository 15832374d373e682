from __future__ import annotations

import io
import json
import sys

import click
import pytest

from host import errors
from host.cli.output.terminal import as_json, as_words, errors_shown, one_line, size
from host.errors import Refusal


@pytest.mark.parametrize(
    "character",
    [
        pytest.param("\x1b", id="the escape that begins a sequence"),
        pytest.param("\x9b", id="the same in one C1 control"),
        pytest.param("\x07", id="a bell"),
        pytest.param("\b", id="a backspace, which rewrites what was shown"),
        pytest.param("\r", id="a carriage return, which does so too"),
        pytest.param("\x7f", id="a delete"),
        pytest.param("\u202e", id="text turned round"),
        pytest.param("\u2066", id="an isolate"),
        pytest.param("\u200b", id="a space that is not there"),
        pytest.param("\xad", id="a hyphen that is not there"),
        pytest.param("\u061c", id="a mark that turns Arabic numbers round"),
        pytest.param("\ufff9", id="an annotation that hides what it annotates"),
        pytest.param("\u2028", id="a line separator"),
        pytest.param("\ufeff", id="a byte order mark"),
    ],
)
def test_no_terminal_obeys_what_is_shown(character: str) -> None:
    assert character not in as_words(f"before{character}after")
    assert character not in as_json({f"key{character}": f"value{character}"})
    assert json.loads(as_json(f"a{character}b")) == f"a{character}b"


def test_words_keep_their_lines_and_tabs() -> None:
    assert as_words("one\n\ttwo") == "one\n\ttwo"


def test_words_for_one_line_cannot_pass_for_another() -> None:
    assert one_line("a tool\nerror: all is well\ttoday") == "a tool error: all is well today"


def test_words_for_one_line_are_not_endless() -> None:
    assert len(one_line("x" * 10_000)) == 300


def test_json_is_ascii_where_the_output_can_hold_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    assert as_json({"data": "日本 ü"}) == '{"data":"\\u65e5\\u672c \\u00fc"}'


def test_json_is_text_where_the_output_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert as_json({"data": "日本"}) == '{"data":"日本"}'


@pytest.mark.parametrize(
    ("error", "status", "shown"),
    [
        pytest.param(
            errors.InputError("no", hint="yes"), 2, "error: no\nhint: yes\n", id="a hint has a line of its own"
        ),
        pytest.param(
            errors.Denied([Refusal("domain_blocked", "GET https://a.example", "not granted", "add it")]),
            3,
            "denied: GET https://a.example: not granted (add it)\n",
            id="a denial says what was refused and what would allow it",
        ),
        pytest.param(
            errors.GuestException("the guest raised E", exception="E", traceback="Traceback:\n  E\n"),
            4,
            "error: the guest raised E\nTraceback:\n  E\n",
            id="a guest's exception comes with its traceback",
        ),
        pytest.param(
            errors.GuestTrap("the guest trapped", stderr="panicked\n"),
            4,
            "error: the guest trapped\npanicked\n",
            id="a trap comes with what the guest wrote to its standard error",
        ),
        pytest.param(
            errors.GuestTrap("it trapped", stderr="\x1b[2Jclean"),
            4,
            "error: it trapped\n\ufffd[2Jclean\n",
            id="what a guest wrote cannot clear the screen",
        ),
        pytest.param(KeyboardInterrupt(), 130, "interrupted\n", id="an interrupt is said in a word"),
        pytest.param(click.Abort(), 130, "interrupted\n", id="an interrupt at a question is no different"),
    ],
)
def test_an_error_is_shown_once_and_ends_the_program(
    error: BaseException, status: int, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, errors_shown():
        raise error
    assert ended.value.code == status
    assert capsys.readouterr() == ("", shown)


def test_an_error_asked_for_in_json_is_on_standard_output_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, errors_shown(in_json=True):
        raise errors.DeadlineExceeded("too late")
    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (4, "")
    assert json.loads(out) == {"error": {"type": "deadline_exceeded", "message": "too late", "blame": "guest"}}


def test_a_mistake_of_the_program_itself_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), errors_shown():
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_999, "1.0 MB"),
        (18_321_460, "18.3 MB"),
        (5_400_000_000_000, "5400.0 GB"),
    ],
)
def test_sizes_are_read_at_a_glance(count: int, shown: str) -> None:
    assert size(count) == shown
