"""`host run`: what goes in, and what comes out of it where."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from host.fakes import FakeOpenAI
from tests.cli.conftest import CHAT, MODELS, PROGRAM, SPEECH


class TestInput:
    def test_a_file(self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any, tmp_path: Path) -> None:
        (tmp_path / "operation.json").write_text(MODELS)
        assert program("run", openai_file, *grants(fake), "--input", "@operation.json").status == 0

    def test_standard_input(self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any) -> None:
        assert program("run", openai_file, *grants(fake), "--input", "-", stdin=MODELS).status == 0

    def test_a_file_may_begin_with_a_byte_order_mark(self, program: Any, guest_file: Any, tmp_path: Path) -> None:
        (tmp_path / "operation.json").write_bytes(b"\xef\xbb\xbf{\r\n}\r\n")
        assert program("run", guest_file("returns_not_json"), "--input", "@operation.json").status == 0

    def test_bytes_that_are_no_text_are_refused_and_not_replaced(self, program: Any, guest_file: Any) -> None:
        ran = program("run", guest_file("returns_not_json"), "--input", '{"city": "K\udcf6ln"}')
        assert ran.status == 2
        assert "--input: the input is not UTF-8" in ran.err

    def test_a_file_is_attached(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any, tmp_path: Path
    ) -> None:
        (tmp_path / "speech.mp3").write_bytes(bytes(range(256)) * 10)
        params = {"model": "whisper-1", "file": {"$attachment": "speech"}}
        operation = json.dumps({"operation": "audio.transcriptions", "params": params})
        ran = program("run", openai_file, *grants(fake), "--attach", "speech=speech.mp3", "--input", operation)
        assert (ran.status, ran.err) == (0, "")
        [part] = [part for part in fake.requests[0]["body"] if part["name"] == "file"]
        assert (part["filename"], part["size"], part["content_type"]) == ("speech.mp3", 2560, "audio/mpeg")


class TestInterrupt:
    def test_ctrl_c_ends_a_guest_that_computes(
        self, started: Any, probe_file: Path, upstream: Any, grants: Any
    ) -> None:
        calls = [["fetch.request", {"method": "GET", "url": upstream.url}]]
        operation = json.dumps({"calls": calls, "spin": True})
        reach = ["--allow-domain", upstream.url, "--allow-private", "127.0.0.1"]
        process = started("run", probe_file, *reach, "--input", operation)
        upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        process.send_signal(signal.SIGINT)
        assert (*process.communicate(timeout=60), process.returncode) == ("", "interrupted\n", 130)


class TestLog:
    def test_what_a_guest_logs_is_shown_on_one_line_each(self, program: Any, probe_file: Path) -> None:
        calls = [["log.write", "info", "first\ndenied: \x1b[2J"], ["log.write", "debug", "second"]]
        ran = program("run", probe_file, "--input", json.dumps({"calls": calls}))
        assert (ran.status, ran.err) == (0, "log: info: first denied: \ufffd[2J\n")

    def test_in_json_it_is_in_the_record(self, program: Any, probe_file: Path) -> None:
        calls = [["log.write", "info", "first"]]
        ran = program("run", probe_file, "--json", "--input", json.dumps({"calls": calls}))
        assert ran.err == ""
        assert json.loads(ran.out)["execution"]["logs"] == [{"level": "info", "message": "first"}]


class TestStream:
    def test_lines_come_as_they_arrive(
        self, started: Any, openai_file: Path, upstream: Any, grants: Any, environ: dict[str, str]
    ) -> None:
        process = started("run", openai_file, *grants(upstream), "--stream", "--input", json.dumps(CHAT))
        upstream.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        upstream.send(b'data: {"n": 1}\n\n')
        assert json.loads(process.stdout.readline()) == {"n": 1}  # and only now is there a second event to come
        upstream.send(b'data: {"n": 2}\n\ndata: [DONE]\n\n')
        upstream.close()
        out, err = process.communicate(timeout=60)
        assert (process.returncode, json.loads(out), err) == (0, {"n": 2}, "")

    def test_each_line_is_one_event(self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any) -> None:
        ran = program("run", openai_file, *grants(fake), "--stream", "--input", json.dumps(CHAT))
        events = [json.loads(line) for line in ran.out.splitlines()]
        assert len(events) > 2
        assert {event["object"] for event in events} == {"chat.completion.chunk"}

    def test_in_json_the_last_line_is_the_record(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any
    ) -> None:
        ran = program("run", openai_file, *grants(fake), "--stream", "--json", "--input", json.dumps(CHAT))
        *events, last = [json.loads(line) for line in ran.out.splitlines()]
        assert (last["status"], last["execution"]["meters"]["events"]) == (200, len(events))

    def test_an_error_status_is_the_last_line(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any
    ) -> None:
        fake.fail_next(429)
        ran = program("run", openai_file, *grants(fake), "--stream", "--input", json.dumps(CHAT))
        assert (ran.status, ran.err) == (1, "the operation ended in status 429\n")
        assert json.loads(ran.out)["status"] == 429

    def test_an_answer_in_one_piece_is_shown_in_place_of_events(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any
    ) -> None:
        made = {"id": "c1", "object": "chat.completion", "choices": []}
        fake.script([{"status": 200, "body": made}] * 2)
        for more in ([], ["--stream"]):
            ran = program("run", openai_file, *grants(fake), *more, "--input", json.dumps({**CHAT, "stream": True}))
            assert (ran.status, ran.err) == (0, "")
            assert json.loads(ran.out) == {"status": 200, "data": made}

    def test_a_guest_that_emits_nothing_still_answers(self, program: Any, guest_file: Any) -> None:
        ran = program("run", guest_file("returns_not_json"), "--stream", "--input", "{}")
        assert (ran.status, json.loads(ran.out)) == (0, {"status": 200, "data": {"raw": "not JSON"}})

    def test_a_reader_that_leaves_ends_it_without_a_traceback(
        self, started: Any, openai_file: Path, upstream: Any, grants: Any
    ) -> None:
        process = started("run", openai_file, *grants(upstream), "--stream", "--input", json.dumps(CHAT))
        upstream.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        upstream.send(b'data: {"n": 1}\n\n')
        process.stdout.readline()
        process.stdout.close()
        upstream.send(b'data: {"n": 2}\n\n')
        assert "Traceback" not in process.stderr.read()
        assert process.wait(60) != 0


class TestOutput:
    def test_binary_goes_to_a_file_as_it_is(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any, tmp_path: Path
    ) -> None:
        ran = program("run", openai_file, *grants(fake), "--output", "speech.mp3", "--input", SPEECH)
        content = (tmp_path / "speech.mp3").read_bytes()
        assert (ran.status, ran.out, ran.err) == (0, "", f"wrote {len(content)} bytes to speech.mp3\n")
        shown = json.loads(program("run", openai_file, *grants(fake), "--input", SPEECH).out)
        assert base64.b64decode(shown["data"]["base64"]) == content
        assert shown["data"]["size"] == len(content)

    def test_binary_that_breaks_off_leaves_the_file_as_it_was(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any, tmp_path: Path
    ) -> None:
        (tmp_path / "speech.mp3").write_bytes(b"before")
        fake.script([{"path": "/v1/audio/speech", "cut_after_bytes": 10}])
        ran = program("run", openai_file, *grants(fake), "--output", "speech.mp3", "--input", SPEECH)
        assert (ran.status, json.loads(ran.out)["status"]) == (1, 502)
        assert (tmp_path / "speech.mp3").read_bytes() == b"before"
        assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".part")] == []

    def test_binary_goes_to_a_pipe_as_it_is(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any
    ) -> None:
        piped = program("run", openai_file, *grants(fake), "--output", "-", "--input", SPEECH)
        shown = json.loads(program("run", openai_file, *grants(fake), "--input", SPEECH).out)
        assert piped.out.encode("utf-8", "surrogateescape") == base64.b64decode(shown["data"]["base64"])

    def test_json_goes_to_a_file_as_the_data_alone(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any, tmp_path: Path
    ) -> None:
        ran = program("run", openai_file, *grants(fake), "--output", "models.json", "--json", "--input", MODELS)
        assert json.loads((tmp_path / "models.json").read_text())["object"] == "list"
        record = json.loads(ran.out)
        assert (record["output"], record["execution"]["meters"]["http_requests"]) == ("models.json", 1)

    def test_an_error_is_not_written_to_the_file(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any, tmp_path: Path
    ) -> None:
        fake.fail_next(500)
        ran = program("run", openai_file, *grants(fake), "--output", "models.json", "--input", MODELS)
        assert (ran.status, json.loads(ran.out)["status"]) == (1, 500)
        assert not (tmp_path / "models.json").exists()

    def test_a_folder_that_is_not_there_is_said_before_anything_is_sent(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any
    ) -> None:
        ran = program("run", openai_file, *grants(fake), "--output", "no/where.json", "--input", MODELS)
        assert (ran.status, ran.err) == (2, "error: --output: there is no directory 'no'\n")
        assert fake.requests == []

    def test_a_folder_in_its_place_is_said_before_anything_is_sent(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any
    ) -> None:
        ran = program("run", openai_file, *grants(fake), "--output", "/tmp", "--input", MODELS)
        assert (ran.status, ran.err) == (2, "error: --output: '/tmp' is a directory\n")
        assert fake.requests == []

    def test_a_full_disk_is_6_and_no_traceback(self, environ: dict[str, str], guest_file: Any) -> None:
        command = [str(PROGRAM), "run", str(guest_file("returns_not_json")), "--input", "{}"]
        with open("/dev/full", "wb") as full:
            ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environ, check=False)
        assert (ran.returncode, ran.stderr) == (
            6,
            "error: cannot write to standard output: No space left on device\n",
        )

    @pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
    def test_closed_streams_do_not_stop_it(self, environ: dict[str, str], guest_file: Any, closed: str) -> None:
        script = f'"$0" run "$1" --input "{{}}" {closed}'
        command = ["sh", "-c", script, str(PROGRAM), str(guest_file("returns_not_json"))]
        ran = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
        assert (ran.returncode, ran.stderr) == (0, "")

    def test_json_has_the_record_of_the_run(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any
    ) -> None:
        shown = json.loads(program("run", openai_file, *grants(fake), "--json", "--input", MODELS).out)
        assert (shown["status"], shown["data"]["object"]) == (200, "list")
        execution = shown["execution"]
        assert execution["reference"] == str(openai_file)
        assert [event["kind"] for event in execution["decisions"]] == [
            "run.started", "secret.use", "http.request", "secret.use", "run.ended",
        ]  # fmt: skip


class TestTerminal:
    def test_a_servers_escapes_do_not_reach_it(
        self, terminal: Any, openai_file: Path, fake: FakeOpenAI, grants: Any
    ) -> None:
        words = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"
        fake.script([{"status": 400, "body": {"error": {"message": words, "type": words}}}])
        ran = terminal("run", openai_file, *grants(fake), "--no-prompt", "--input", MODELS).finish()
        assert ran.status == 1
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(ran.err)
        assert "\\u001b[2J" in ran.err

    def test_json_is_indented_there(self, terminal: Any, openai_file: Path, fake: FakeOpenAI, grants: Any) -> None:
        ran = terminal("run", openai_file, *grants(fake), "--no-prompt", "--input", MODELS).finish()
        assert '{\r\n  "status": 200,\r\n' in ran.err

    def test_binary_does_not_reach_it(self, terminal: Any, openai_file: Path, fake: FakeOpenAI, grants: Any) -> None:
        command = ["run", openai_file, *grants(fake), "--no-prompt", "--output", "-", "--input", SPEECH]
        ran = terminal(*command).finish()
        assert ran.status == 0
        assert "--output FILE writes" in ran.err
        assert '"content_type": "audio/mpeg"' in ran.err
        assert "base64" not in ran.err
