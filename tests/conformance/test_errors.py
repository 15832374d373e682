"""The tree drawn in `host/errors.py` is the tree of its classes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from host import errors
from host.cli import _EXIT_STATUS

_LINE = re.compile(
    r"(?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+) +(?P<code>[a-z_]+) +(?P<blame>[a-z]+) +(?P<exit>\d)(?: +\S.*)?\Z"
)

Row = tuple[str, str, str, str, int]  # class, parent, code, blame, exit status


def drawn() -> list[Row]:
    """The rows of the drawing, below its root."""
    rows: list[Row] = []
    above = ["HostError"]
    for line in (errors.__doc__ or "").partition("exit\n")[2].partition("\n\n")[0].splitlines():
        found = _LINE.match(line)
        assert found, f"this line of the drawing cannot be read: {line!r}"
        depth = len(found["branch"]) // 4
        above[depth:] = [found["name"]]
        rows.append((found["name"], above[depth - 1], found["code"], found["blame"], int(found["exit"])))
    return rows


def below(kind: type[errors.HostError]) -> Iterator[Row]:
    for child in kind.__subclasses__():
        if child.__module__ == "host.errors":
            yield (child.__name__, kind.__name__, child.code, child.blame, child.exit_status)
            yield from below(child)


def test_the_drawing_is_the_tree() -> None:
    assert sorted(drawn()) == sorted(below(errors.HostError))


def test_every_error_of_the_host_is_in_the_drawing_and_in_its_file() -> None:
    kinds = [errors.HostError]
    for kind in kinds:
        kinds += [child for child in kind.__subclasses__() if child.__module__.startswith("host.")]
    assert {kind.__module__ for kind in kinds} == {"host.errors"}


def test_no_two_errors_share_a_code() -> None:
    codes = [row[2] for row in drawn()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("status", sorted({row[4] for row in drawn()}))
def test_every_exit_status_is_documented_by_the_program(status: int) -> None:
    assert re.search(rf"^  {status}  ", _EXIT_STATUS, re.MULTILINE)


def test_an_error_is_shown_with_its_hint_and_says_who_is_to_blame() -> None:
    error = errors.InputError("no", field="params.model", hint="name one")
    assert str(error) == "no (name one)"
    assert error.as_dict() == {
        "type": "invalid_input",
        "message": "no",
        "blame": "caller",
        "hint": "name one",
        "param": "params.model",
    }
