"""`host batch`: every line is answered once, whatever ends the program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from host.fakes import FakeOpenAI
from host.fakes.openai.faults import Fault
from host.runtime.workspace import Workspace
from tests.cli.conftest import PATIENCE_S, PROGRAM
from tests.server.conftest import installed_state, one_engine, state_dir, until, workspace  # noqa: F401 - fixtures


def chat(number: int, **more: Any) -> dict[str, Any]:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"number {number}"}], **more}
    return {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


@pytest.fixture
def place(environ: dict[str, str], state_dir: Path, workspace: Workspace, tmp_path: Path) -> Path:  # noqa: F811 - fixtures
    """Where the program works, with the OpenAI catalyst installed, which reaches the fake."""
    environ["HOST_STATE_DIR"] = str(state_dir)
    return tmp_path


@pytest.fixture
def written(place: Path) -> Callable[[Iterable[Any]], Path]:
    """The file of these lines: texts as they are, the rest as JSON."""

    def write(lines: Iterable[Any]) -> Path:
        file = place / "in.jsonl"
        file.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines))
        return file

    return write


@pytest.fixture
def answered(program: Any, place: Path) -> Callable[..., Any]:
    """What comes of `host batch`, with its results and its errors."""

    def run(file: Path, *options: object) -> tuple[Any, list[dict[str, Any]], list[dict[str, Any]]]:
        ran = program("batch", file, "-o", place / "out.jsonl", *options)
        return ran, lines(place / "out.jsonl"), lines(place / "out.errors.jsonl")

    return run


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def asked(fake: FakeOpenAI) -> list[str]:
    """What the upstream was asked: the content of each chat's first message."""
    return [one["body"]["messages"][0]["content"] for one in fake.requests if "chat" in one["path"]]


class TestForms:
    def test_requests_and_operations_are_answered_in_their_own_forms(
        self, written: Any, answered: Any, fake: FakeOpenAI
    ) -> None:
        listing = {"operation": "models.list"}
        file = written([chat(1), listing, "", {**listing, "custom_id": "mine"}])
        ran, results, errors = answered(file, "--ordered")
        assert (ran.status, ran.out, errors) == (0, "", []), ran.err
        first, second, third = results
        assert list(first) == ["id", "custom_id", "response", "error"]
        assert (first["custom_id"], first["error"]) == ("line-1", None)
        assert list(first["response"]) == ["status_code", "request_id", "body"]
        assert first["response"]["status_code"] == 200
        assert first["response"]["body"]["object"] == "chat.completion"
        assert (second["line"], second["status"], second["data"]["object"]) == (2, 200, "list")
        assert (third["line"], third["custom_id"]) == (4, "mine"), "lines without content count, and do nothing"

    def test_bytes_are_in_base64(self, written: Any, answered: Any) -> None:
        speech = {"operation": "audio.speech", "params": {"model": "tts-1", "input": "hi", "voice": "alloy"}}
        ran, [result], _ = answered(written([speech]))
        assert ran.status == 0
        assert result["data"].keys() >= {"base64", "size", "content_type"}

    def test_what_an_upstream_refuses_is_in_the_error_file_with_its_words(
        self, written: Any, answered: Any, fake: FakeOpenAI
    ) -> None:
        words = {"error": {"message": "no such luck", "type": "invalid_request_error", "param": "n", "code": None}}
        fake.script([Fault(times=1, delay_s=0.0), Fault(status=400, body=words)])
        ran, results, [error] = answered(written([chat(1), chat(2)]), "--json", "--concurrency", "1")
        assert ran.status == 1
        assert [one["custom_id"] for one in results] == ["line-1"]
        assert (error["custom_id"], error["error"]) == ("line-2", None)
        assert (error["response"]["status_code"], error["response"]["body"]) == (400, words)
        shown = json.loads(ran.out)
        assert (shown["lines"], shown["finished"], shown["failed"]) == (2, 2, 1)
        assert shown["output_tokens"] > 0

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            pytest.param("{", "line 2", id="no JSON"),
            pytest.param("[1]", "line 2 is a JSON array", id="no object"),
            pytest.param({"custom_id": "a"}, "line 2 is neither", id="nothing that is asked for"),
            pytest.param({**chat(2), "method": "GET"}, "the method has to be POST", id="another method"),
            pytest.param({**chat(2), "url": "https://api.openai.com/v1"}, "the url has to begin", id="a whole URL"),
            pytest.param({**chat(2), "body": "text"}, "the body is a JSON string", id="another body"),
            pytest.param({**chat(2), "cusom_id": "a"}, "did you mean custom_id", id="a slip in a name"),
            pytest.param({**chat(2), "custom_id": ""}, "has a custom_id", id="no id"),
            pytest.param(chat(2, stream=True), "a batch has no streams", id="a stream"),
            pytest.param({"operation": "models.list", "stream": True}, "a batch has no streams", id="a stream of an operation"),
            pytest.param({**chat(2), "url": "/v1/nothing"}, "no catalyst takes POST /v1/nothing", id="another path"),
            pytest.param({**chat(2), "url": "/v1/files"}, "takes a form", id="a form"),
            pytest.param({"operation": "chat.completions.crate", "params": {}}, "crate", id="another operation"),
            pytest.param({"operation": "realtime.connect"}, "no streams", id="a connection"),
        ],
    )  # fmt: skip
    def test_a_line_that_cannot_be_run_is_told_by_its_number_and_the_others_run(
        self, written: Any, answered: Any, line: Any, said: str
    ) -> None:
        ran, results, [error] = answered(written([chat(1), line, chat(3)]))
        assert ran.status == 1
        assert sorted(one["custom_id"] for one in results) == ["line-1", "line-3"]
        told = error["error"]
        assert {told.get("line"), error.get("line")} - {None} == {2}
        assert said in f"{told['message']} {told.get('hint')}"

    def test_an_input_that_can_be_read_once_is_refused_with_a_remedy(
        self, place: Path, program: Any, fake: FakeOpenAI
    ) -> None:
        """As `<(…)` of a shell is."""
        reading, writing = os.pipe()
        with open(reading, "rb"), open(writing, "wb") as into:
            into.write(json.dumps(chat(1)).encode() + b"\n")
            into.flush()
            ran = program("batch", f"/dev/fd/{reading}", "-o", place / "out.jsonl")
        assert ran.status == 2
        assert "can be read once" in ran.err
        assert "write it into a file first" in ran.err
        assert fake.requests == []

    def test_ids_that_are_there_twice_send_nothing(self, written: Any, answered: Any, fake: FakeOpenAI) -> None:
        ran, results, errors = answered(written([chat(1), chat(2), chat(1)]))
        assert (ran.status, results, errors) == (2, [], [])
        assert "custom_id is there twice: 'line-1' in lines 1, 3" in ran.err
        assert fake.requests == []

    def test_each_line_has_an_idempotency_key_of_its_own(self, written: Any, answered: Any, fake: FakeOpenAI) -> None:
        _, results, _ = answered(written([chat(1), chat(2)]))
        keys = [one["headers"]["idempotency-key"] for one in fake.requests]
        assert sorted(keys) == sorted(one["id"] for one in results)


class TestGoingOn:
    def test_what_is_finished_is_not_asked_again(self, written: Any, answered: Any, fake: FakeOpenAI) -> None:
        file = written(chat(number) for number in range(6))
        answered(file)
        ran, results, _ = answered(file)
        assert (ran.status, len(results), len(asked(fake))) == (0, 6, 6)
        assert "going on: 6 of 6 lines are finished" in ran.err

    def test_a_torn_answer_is_cut_off_and_its_line_run_again(
        self, written: Any, answered: Any, fake: FakeOpenAI, place: Path
    ) -> None:
        file = written(chat(number) for number in range(4))
        answered(file)
        out = place / "out.jsonl"
        whole = out.read_bytes()
        out.write_bytes(whole[:-20])
        ran, results, _ = answered(file)
        assert ran.status == 0
        assert sorted(one["custom_id"] for one in results) == [f"line-{number}" for number in range(4)]
        assert len(asked(fake)) == 5
        assert out.read_bytes().startswith(whole[: whole.rindex(b"\n", 0, -20)])

    def test_another_input_is_refused_with_a_remedy(self, written: Any, answered: Any, fake: FakeOpenAI) -> None:
        answered(written([chat(1)]))
        ran, results, _ = answered(written([chat(1), chat(2)]))
        assert (ran.status, len(results), len(asked(fake))) == (2, 1, 1)
        assert "those of another input" in ran.err
        assert "name another file" in ran.err

    def test_results_of_something_else_are_left_alone(self, written: Any, program: Any, place: Path) -> None:
        (place / "out.jsonl").write_text("mine\n")
        ran = program("batch", written([chat(1)]), "-o", place / "out.jsonl")
        assert ran.status == 2
        assert "is there already" in ran.err
        assert (place / "out.jsonl").read_text() == "mine\n"

    def test_results_that_were_changed_are_refused(self, written: Any, answered: Any, place: Path) -> None:
        file = written(chat(number) for number in range(3))
        answered(file)
        first, second, third = (place / "out.jsonl").read_bytes().splitlines(keepends=True)
        (place / "out.jsonl").write_bytes(first + b"{}\n" + second + third)
        ran, _, _ = answered(file)
        assert ran.status == 6
        assert "was changed" in ran.err

    def test_after_an_upstream_that_fails_it_stops_at_so_many_failures_and_goes_on_later(
        self, written: Any, answered: Any, fake: FakeOpenAI
    ) -> None:
        file = written(chat(number) for number in range(40))
        fake.script([Fault(status=400, body={"error": {"message": "no"}}, times=5)])
        ran, results, errors = answered(file, "--max-failures", "3", "--concurrency", "2")
        assert (ran.status, results) == (1, [])
        assert 3 <= len(errors) <= 5
        assert "the same command goes on" in ran.err
        fake.reset()
        ran, results, more = answered(file)
        assert (len(results), more) == (40 - len(errors), errors)

    def test_an_upstream_with_too_many_requests_is_asked_again_when_it_says(
        self,
        written: Any,
        answered: Any,
        fake: FakeOpenAI,
        workspace: Workspace,  # noqa: F811 - the fixture
    ) -> None:
        limited = Fault(status=429, headers={"retry-after-ms": "10"}, body={"error": {"message": "slow"}}, times=5)
        fake.script([limited])
        ran, results, errors = answered(written([chat(1)]))
        assert (ran.status, len(results), errors) == (0, 1, [])


class TestBounds:
    def test_a_budget_that_is_spent_stops_the_batch_and_says_when_there_is_more(
        self, written: Any, answered: Any, fake: FakeOpenAI, place: Path
    ) -> None:
        settings = place / "server.toml"
        settings.write_text('[budgets."c:local.openai"]\nrequests = "3/1d"\n')
        file = written(chat(number) for number in range(6))
        ran, results, errors = answered(file, "--config", settings, "--concurrency", "1")
        assert (ran.status, len(results), errors, len(asked(fake))) == (6, 3, [], 3)
        assert "has spent its 3/1d requests" in ran.err
        assert "3 are left: the same command goes on with them" in ran.err
        ran, results, _ = answered(file)
        assert (ran.status, len(results), len(asked(fake))) == (0, 6, 6)

    def test_a_line_may_take_so_long(self, written: Any, answered: Any, fake: FakeOpenAI) -> None:
        fake.script([Fault(delay_s=120.0)])
        ran, _, [error] = answered(written([chat(1)]), "--timeout", "1s")
        assert ran.status == 1
        assert error["error"]["code"] in ("deadline_exceeded", "upstream_timeout")

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            pytest.param(["--catalyst", "c:local.nobody"], "there is no c:local.nobody", id="another catalyst"),
            pytest.param(["--catalyst", "?"], "--catalyst", id="no reference"),
            pytest.param(["--timeout", "soon"], "--timeout", id="no duration"),
            pytest.param(["--engine", "dask"], "--engine: there is no engine 'dask'", id="another engine"),
            pytest.param(["--error-file", "in.jsonl"], "three files", id="errors into the input"),
        ],
    )
    def test_what_is_asked_for_wrongly_sends_nothing(
        self, written: Any, answered: Any, fake: FakeOpenAI, options: list[str], said: str
    ) -> None:
        ran, results, _ = answered(written([chat(1)]), *options)
        assert (ran.status, results, fake.requests) == (2, [], [])
        assert said in ran.err

    def test_an_engine_that_is_not_installed_names_its_extra(
        self, written: Any, answered: Any, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environ["RAY_ADDRESS"] = "127.0.0.1:1"
        monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not there
        ran, results, errors = answered(written([chat(1)]), "--engine", "ray")
        assert (ran.status, results, errors) == (6, [], [])
        assert "--engine ray needs ray, which is not installed" in ran.err
        assert "install the extra 'ray'" in ran.err

    def test_every_run_is_on_record(self, written: Any, answered: Any, program: Any) -> None:
        _, [result], _ = answered(written([chat(1)]))
        shown = json.loads(program("runs", "show", result["response"]["request_id"], "--json").out)
        caller = shown["run"]["caller"]
        assert caller["via"] == "batch"
        assert caller["request"] == result["id"]


class TestOrder:
    def test_ordered_answers_are_in_the_order_of_the_lines(self, written: Any, answered: Any, fake: FakeOpenAI) -> None:
        fake.script([Fault(delay_s=0.5)])  # the first is the slowest
        _, results, _ = answered(written(chat(number) for number in range(12)), "--ordered", "--concurrency", "4")
        assert [one["custom_id"] for one in results] == [f"line-{number}" for number in range(12)]

    def test_a_batch_goes_on_in_the_order_in_which_it_was_begun(self, written: Any, answered: Any) -> None:
        file = written([chat(1)])
        answered(file, "--ordered")
        ran, _, _ = answered(file)
        assert ran.status == 2
        assert "begun with --ordered" in ran.err


class TestEnded:
    """Real processes."""

    @pytest.fixture
    def process(self, environ: dict[str, str], place: Path) -> Callable[..., subprocess.Popen[str]]:
        def start(file: Path, *options: str, **more: Any) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [str(PROGRAM), "batch", str(file), "-o", str(place / "out.jsonl"), *options],
                env=environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **more,
            )  # fmt: skip

        return start

    def test_killed_in_the_middle_it_goes_on_and_every_line_is_answered_once(
        self, written: Any, process: Any, fake: FakeOpenAI, place: Path
    ) -> None:
        file = written(chat(number) for number in range(150))
        for least in (20, 60):
            with process(file, "--concurrency", "8") as running:
                until(lambda least=least: len(lines_so_far(place)) >= least)
                running.kill()
        with process(file, "--concurrency", "8") as running:
            _, err = running.communicate(timeout=PATIENCE_S)
        assert running.returncode == 0, err
        names = [one["custom_id"] for one in lines(place / "out.jsonl")]
        assert sorted(names) == sorted(f"line-{number}" for number in range(150))
        again = len(asked(fake)) - 150
        assert 0 <= again <= 2 * (8 + 64), "those that were under way, or not yet on the disk"

    def test_an_interrupt_finishes_what_is_under_way_and_says_how_to_go_on(
        self, written: Any, process: Any, fake: FakeOpenAI, place: Path
    ) -> None:
        file = written(chat(number) for number in range(2_000))  # half a minute's
        fake.script([Fault(delay_s=0.05, times=None)])
        with process(file, "--concurrency", "4") as running:
            until(lambda: len(lines_so_far(place)) >= 4)
            running.send_signal(signal.SIGINT)
            _, err = running.communicate(timeout=PATIENCE_S)
        assert running.returncode == 130, err
        assert "the same command goes on" in err
        assert "Traceback" not in err
        assert len(lines(place / "out.jsonl")) == len(asked(fake)), "none was given up"

    def test_a_second_interrupt_cancels_what_is_under_way(
        self, written: Any, process: Any, fake: FakeOpenAI, place: Path
    ) -> None:
        fake.script([Fault(delay_s=120.0, times=None)])
        with process(written([chat(1), chat(2)])) as running:
            until(lambda: len(fake.requests) == 2)
            running.send_signal(signal.SIGINT)
            assert running.stderr.readline() == "\n"
            assert "lines under way are finished first" in running.stderr.readline()
            running.send_signal(signal.SIGINT)
            _, err = running.communicate(timeout=60)
        assert running.returncode == 130
        assert "2 are left" in err
        assert lines(place / "out.jsonl") == []

    def test_a_second_process_is_refused_while_one_writes(
        self, written: Any, process: Any, fake: FakeOpenAI, program: Any, place: Path
    ) -> None:
        fake.script([Fault(delay_s=120.0, times=None)])
        file = written([chat(1)])
        with process(file) as running:
            until(lambda: len(fake.requests) == 1)
            ran = program("batch", file, "-o", place / "out.jsonl")
            running.kill()
        assert ran.status == 6
        assert "another process is at work" in ran.err


def lines_so_far(place: Path) -> list[bytes]:
    """While the program writes: the last one may be torn."""
    file = place / "out.jsonl"
    return file.read_bytes().split(b"\n")[:-1] if file.exists() else []
