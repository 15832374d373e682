"""The tree drawn in `host/errors.py` is the tree of its classes."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Iterator

import pytest

from host import errors
from host.cli import _EXIT_STATUS
from host.core.audit import Event, LogLine, Meters
from host.core.operation import Attachment, Execution, Result

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


EXECUTION = Execution(
    id="run_1",
    reference="c:local.test",
    digest="sha256:" + "0" * 64,
    started_at=1.0,
    duration_s=0.5,
    meters=Meters(http_requests=1),
    decisions=(Event("http.request", "run_1", "deny", "domain not granted", {"url": "https://a.test"}),),
    refusals=(errors.Refusal("domain_blocked", "GET https://a.test", "domain not granted", "add it"),),
    logs=(LogLine("info", "hello"),),
)
RESULT = Result(403, None, {"message": "no"}, {"a": Attachment(b"x")}, EXECUTION, {"retry-after": "1"}, b"{}")
ARGUMENTS: dict[str, dict[str, object]] = {  # of each parameter of an `__init__` that may be there, what it gets
    "message": {"message": "it failed"},
    "hint": {"hint": "do this"},
    "field": {"field": "a.b[2]"},
    "refusals": {"refusals": EXECUTION.refusals},
    "result": {"result": RESULT},
    "unit": {"unit": "tokens"},
    "retry_after_s": {"retry_after_s": 1.5},
    "exception": {"exception": "ValueError"},
    "traceback": {"traceback": "Traceback …"},
    "stderr": {"stderr": "panicked"},
    "subject": {"subject": "wasi:http"},
    "step": {"step": 10},
    "status": {"status": 429},
    "seq": {"seq": 7},
    "limit": {"limit": "idle_timeout"},
    "waited_s": {"waited_s": 60.0},
}


def every_error() -> Iterator[errors.HostError]:
    kinds = [errors.HostError]
    for kind in kinds:
        kinds += [child for child in kind.__subclasses__() if child.__module__ == "host.errors"]
        wanted = list(inspect.signature(kind).parameters)
        error = kind(**{name: value for one in wanted for name, value in ARGUMENTS[one].items()})
        error.execution = EXECUTION
        error.add_note("noted")
        yield error


def contents(error: errors.HostError) -> dict[str, object]:
    return {**vars(error), "args": error.args, "str": str(error), "repr": repr(error), "as_dict": error.as_dict()}


@pytest.mark.parametrize("error", list(every_error()), ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_and_copying_whole(error: errors.HostError) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):  # dataclasses with slots need 2
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is type(error)
        assert contents(again) == contents(error)
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert contents(again) == contents(error)


@pytest.mark.parametrize("error", list(every_error()), ids=lambda error: type(error).__name__)
def test_the_repr_of_an_error_says_what_it_is_and_holds_nothing_long(error: errors.HostError) -> None:
    assert repr(error).startswith(f"{type(error).__name__}({error.message!r}")
    assert not any(words in repr(error) for words in ("Traceback", "panicked", "run_1", "Result("))
