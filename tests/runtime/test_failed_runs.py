"""What is on record of a run that failed: its error, its traceback and the last of its log; bounded, and no secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from host import Host, Secret, errors
from host.core.audit import MAX_FAILURE_BYTES, LogLine, failure_of
from tests.conftest import with_enough_time
from tests.probing import TOKEN, Kept, calls, probe

FAILS = {"return": {"status": 500, "error": {"type": "ill", "message": "it went wrong", "more": {"a": [1]}}}}


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def recording(kept: Kept) -> Iterator[Host]:
    with Host(sink=kept) as host:
        yield host


def failures(kept: Kept) -> list[dict[str, Any]]:
    assert [one.kind for one in kept][-1] == "run.ended"
    return [one.detail for one in kept if one.kind == "run.failed"]


def test_a_run_that_failed_has_its_error_and_its_log_on_record(recording: Host, kept: Kept) -> None:
    logged = [["log.write", "info", "first"], ["log.write", "debug", "second"]]
    result = probe(recording).run(calls(*logged, **FAILS))
    assert failures(kept) == [
        {
            "error": {"type": "ill", "message": "it went wrong", "more": '{"a":[1]}'},
            "logs": [["info", "first"], ["debug", "second"]],
        }
    ]
    assert "run.failed" not in [one.kind for one in result.execution.decisions], "the caller has both"


def test_a_run_that_went_well_has_no_log_on_record(recording: Host, kept: Kept) -> None:
    probe(recording).run(calls(["log.write", "info", "a prompt, perhaps"]))
    assert failures(kept) == []
    assert "a prompt" not in repr(kept)


def test_a_trap_and_a_deadline_have_theirs(recording: Host, kept: Kept) -> None:
    with pytest.raises(errors.SandboxError):
        probe(recording).run(calls(["log.write", "error", "last words"], **{"return": 5}))

    def attempt(seconds: float) -> dict[str, Any]:
        with pytest.raises(errors.DeadlineExceeded):
            probe(recording).run(calls(["log.write", "info", "on and on"], spin=True), timeout=seconds)
        last = failures(kept)[-1]
        assert last["logs"] == [["info", "on and on"]]
        return last

    [trap] = failures(kept)
    deadline = with_enough_time(attempt, 0.5)
    said, *printed = trap["logs"]
    assert said == ["error", "last words"]
    assert printed[0] == ["warning", "Traceback (most recent call last):"], "what Python printed before it trapped"
    assert deadline["error"]["type"] == "deadline_exceeded"
    assert deadline["error"]["hint"]


def test_a_stream_that_is_left_has_it_too(recording: Host, kept: Kept) -> None:
    with probe(recording).stream(
        calls(["log.write", "info", "begun"], ["output.emit", '{"a":1}'], spin=True)
    ) as events:
        next(events)
    assert [(one["error"]["type"], one["logs"]) for one in failures(kept)] == [("cancelled", [["info", "begun"]])]


def test_no_secret_is_on_record(recording: Host, kept: Kept) -> None:
    secrets = {"TOKEN": Secret(TOKEN, domains=["api.test"])}
    said = {"return": {"status": 500, "error": {"type": "x", "message": f"{TOKEN} is wrong", TOKEN: TOKEN}}}
    probe(recording, secrets=secrets).run(calls(["log.write", "info", f"the token {TOKEN}"], **said))
    assert len(failures(kept)) == 1
    assert TOKEN not in repr(kept)


def test_of_a_long_log_the_last_lines_are_on_record_and_the_others_counted(recording: Host, kept: Kept) -> None:
    line = ["log.write", "info", "\u00fc" * 200 + "\x1b"]
    probe(recording).run(calls(*[line] * 200, ["log.write", "info", "last"], **FAILS))
    (failure,) = failures(kept)
    assert failure["logs"][-1] == ["info", "last"]
    assert failure["dropped"] == 201 - len(failure["logs"]) > 0
    assert len(json.dumps(failure)) <= MAX_FAILURE_BYTES


@pytest.mark.parametrize(
    "error",
    [
        pytest.param({"traceback": "\x00" * 50_000, "message": "m" * 50_000, "type": "t" * 50_000}, id="long texts"),
        pytest.param({f"{n}": "x" * 400 for n in range(1_000)}, id="many names"),
        pytest.param({"n" * 100_000: {"deep": ["x" * 100_000]}}, id="a long name"),
        pytest.param("\U0001f600" * 100_000, id="a text alone"),
        pytest.param([1] * 100_000, id="a list"),
        pytest.param({"message": None, "code": 5, "ok": True}, id="no texts"),
    ],
)
def test_a_failure_on_record_is_bounded_whatever_the_error(error: Any) -> None:
    shown = failure_of(error, [LogLine("info", "\u2028" * 5_000)] * 1_000)
    assert len(json.dumps(shown)) <= MAX_FAILURE_BYTES
    assert shown["error"]


def test_of_a_traceback_the_end_is_kept() -> None:
    shown = failure_of({"traceback": "x" * 20_000 + "ValueError", "message": "first" + "x" * 20_000}, [])
    assert str(shown["error"]["traceback"]).endswith("ValueError")  # type: ignore[call-overload, index]
    assert str(shown["error"]["message"]).startswith("first")  # type: ignore[call-overload, index]
