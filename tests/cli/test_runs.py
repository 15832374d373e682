"""`host runs`: what people see of the runs there were."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from host.core.audit import Event
from host.runtime.workspace import Workspace
from tests.cli.conftest import PATIENCE_S
from tests.conftest import GUESTS, python_guest

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def filled(state: Path) -> Path:
    with Workspace.open(state) as workspace:
        for ident, reference, end in (
            ("run_a1", "c:local.openai:0.1.0", {"status": 200, "duration_s": 0.25}),
            ("run_a2", "c:local.openai:0.2.0", {"error": "guest_trap", "duration_s": 1.5}),
            ("run_b1", "bad\x1b[31m\nname.wasm", None),
        ):
            audit_log = workspace.audit_log
            audit_log.record(Event("run.started", ident, detail={"reference": reference, "digest": DIGEST}))
            audit_log.record(
                Event("http.request", ident, "deny", "domain not granted", {"subject": "GET https://evil.example/"})
            )
            if end:
                audit_log.record(Event("run.ended", ident, detail=end))
    return state


def test_the_last_run_comes_first(program: Any, filled: Path) -> None:
    ran = program("runs", "list")
    head, *rows = ran.out.splitlines()
    assert (ran.status, ran.err) == (0, "")
    assert head.split() == ["RUN", "STARTED", "REFERENCE", "OUTCOME", "TOOK", "REQUESTS", "DENIED"]
    assert [row.split()[0] for row in rows] == ["run_b1", "run_a2", "run_a1"]
    assert rows[1].split()[3:] == ["c:local.openai:0.2.0", "guest_trap", "1.500", "s", "0", "1"]
    assert "unfinished" in rows[0]
    assert "\x1b" not in ran.out


@pytest.mark.parametrize(
    ("options", "found"),
    [
        pytest.param(["--limit", "1"], ["run_b1"], id="the last one"),
        pytest.param(["--failed"], ["run_b1", "run_a2"], id="that failed"),
        pytest.param(["--reference", "catalyst:local.openai"], ["run_a2", "run_a1"], id="of any version"),
        pytest.param(["--reference", "c:local.openai@0.1.0"], ["run_a1"], id="of one version"),
    ],
)
def test_which(program: Any, filled: Path, options: list[str], found: list[str]) -> None:
    assert [run["id"] for run in json.loads(program("runs", "list", "--json", *options).out)] == found


def test_a_reference_that_is_none_is_a_mistake(program: Any, state: Path) -> None:
    ran = program("runs", "list", "--reference", "c:Openai")
    assert (ran.status, ran.err.splitlines()[0]) == (2, "error: --reference: 'c:Openai' is not a reference")


@pytest.mark.parametrize(("options", "said"), [([], "there are no runs yet"), (["--failed"], "there are no such runs")])
def test_there_are_none(program: Any, state: Path, options: list[str], said: str) -> None:
    ran = program("runs", "list", *options)
    assert (ran.status, ran.out, ran.err) == (0, "", f"{said}\n")


def test_one_run_is_a_page(program: Any, filled: Path) -> None:
    ran = program("runs", "show", "run_a2")
    assert (ran.status, ran.err) == (0, "")
    facts, _, records = ran.out.partition("\n\n")
    assert [line.split()[0] for line in facts.splitlines()] == ["run", "reference", "digest", "started", "outcome"]
    assert "outcome    guest_trap after 1.500 s" in facts
    assert "http.request  DENIED    subject=GET https://evil.example/ (domain not granted)" in records


def test_a_run_that_was_killed_says_so(program: Any, filled: Path) -> None:
    assert "its process was killed, and what it logged went with it" in program("runs", "show", "run_b1").out


def test_a_failed_run_is_understood_afterwards(program: Any, state: Path, tmp_path: Path) -> None:
    (tmp_path / "raises.wasm").write_bytes(python_guest(GUESTS / "raises"))
    assert program("register", "raises.wasm", "--as", "c:local.raises:0.1.0").status == 0
    asked = '{"how": "exception", "operation": "fail", "params": {"model": "m-1"}}'
    assert program("run", "c:local.raises", "--input", asked).status == 4
    head, row = program("runs", "list").out.splitlines()
    assert head.split() == [
        "RUN",
        "STARTED",
        "REFERENCE",
        "OPERATION",
        "MODEL",
        "OUTCOME",
        "TOOK",
        "REQUESTS",
        "DENIED",
    ]
    assert row.split()[3:7] == ["c:local.raises:0.1.0", "fail", "m-1", "guest_exception"]
    page = program("runs", "show", row.split()[0]).out
    assert "operation  fail\nmodel      m-1\n" in page
    assert "error      the guest raised ValueError: a value that will not do" in page
    assert "exception  ValueError" in page
    assert 'app.py", line' in page
    assert "run.failed" in page
    found = json.loads(program("runs", "show", row.split()[0], "--json").out)
    assert found["failure"]["error"]["type"] == "guest_exception"
    assert found["run"]["state"] == "failed"
    assert program("audit", "verify").status == 0


def test_one_run_for_a_program(program: Any, filled: Path) -> None:
    shown = json.loads(program("runs", "show", "run_b", "--json").out)
    assert shown["run"]["outcome"] == "unfinished"
    assert [record["kind"] for record in shown["records"]] == ["run.started", "http.request"]


def test_what_a_name_holds_is_not_obeyed_by_the_terminal(program: Any, filled: Path) -> None:
    ran = program("runs", "show", "run_b1")
    assert "reference  bad\ufffd[31m name.wasm" in ran.out


@pytest.mark.parametrize(
    ("ident", "said"),
    [
        pytest.param("run_c", "error: there is no run 'run_c'", id="there is none"),
        pytest.param("run_a", "error: several runs begin with 'run_a'", id="there are several"),
    ],
)
def test_an_id_that_names_no_run_is_a_mistake(program: Any, filled: Path, ident: str, said: str) -> None:
    ran = program("runs", "show", ident)
    assert (ran.status, ran.err.splitlines()) == (2, [said, "hint: host runs list"])


def test_the_key_is_shown_where_a_run_has_one(program: Any, filled: Path) -> None:
    with Workspace.open(filled) as workspace:
        named = {"reference": "c:local.openai:0.1.0", "digest": DIGEST}
        for ident, caller in (("run_k1", {"key": "k1", "name": "ci"}), ("run_k2", {"key": "k2"})):
            workspace.audit_log.record(Event("run.started", ident, detail={**named, "caller": caller}))
    head, *rows = program("runs", "list").out.splitlines()
    assert head.split()[-1] == "KEY"
    assert [row.split()[-1] for row in rows[:2]] == ["k2", "(k1)"]
    assert "key        ci (k1)" in program("runs", "show", "run_k1").out.splitlines()
    assert "key  " not in program("runs", "show", "run_a1").out
    assert json.loads(program("runs", "show", "run_k1", "--json").out)["run"]["caller"] == {"key": "k1", "name": "ci"}


def test_a_run_of_another_process_is_ended(program: Any, state: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "raises.wasm").write_bytes(python_guest(GUESTS / "raises"))
    program("register", "raises.wasm", "--as", "c:local.raises:0.1.0")
    program("policy", "set", "c:local.raises", "cpu_time", "5m")
    program("policy", "set", "c:local.raises", "timeout", "5m")
    argv = [sys.executable, "-m", "host", "run", "c:local.raises", "--input", '{"how": "loop"}']
    with subprocess.Popen(argv, env={**environ, "HOST_STATE_DIR": str(state)}, stderr=subprocess.PIPE) as running:
        end = time.monotonic() + PATIENCE_S
        while not (found := json.loads(program("runs", "list", "--json").out)):
            assert time.monotonic() < end
        assert found[0]["state"] == "running"
        cancelled = program("runs", "cancel", found[0]["id"])
        assert (cancelled.status, cancelled.err) == (0, f"{found[0]['id']} is asked to end\n")
        assert running.wait(PATIENCE_S) == 4
        assert running.stderr is not None
        assert b"the run was cancelled" in running.stderr.read()
    again = program("runs", "cancel", found[0]["id"])
    assert (again.status, again.err.splitlines()[0]) == (
        2,
        f"error: the run {found[0]['id']} has ended: outcome cancelled",
    )


def test_a_run_that_is_over_or_not_there_is_not_cancelled(program: Any, filled: Path) -> None:
    for ident in ("run_a1", "run_b1", "run_c"):
        ran = program("runs", "cancel", ident)
        assert ran.status == 2
        assert ran.err.startswith("error: ")
