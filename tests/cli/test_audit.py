"""`host audit`: what was allowed, denied and changed, and whether that is still what was written."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from host.core.audit import Event
from host.runtime.workspace import Workspace

DENIED = {"type": "domain_blocked", "subject": "GET https://evil.example/\x1b[31m\u202e"}


@pytest.fixture
def filled(state: Path) -> Path:
    now = time.time()
    with Workspace.open(state) as workspace:
        for event in (
            Event("component.pulled", "", detail={"reference": "c:local.tool"}, at=now - 86_400 * 100),
            Event("run.started", "run_a", detail={"reference": "c:local.tool:0.1.0"}, at=now - 86_400 * 100),
            Event("http.request", "run_a", "allow", "api.example", {"url": "https://api.example"}, at=now - 7_200),
            Event("http.request", "run_a", "deny", "domain not granted", DENIED, at=now - 60),
        ):
            workspace.audit_log.record(event)
    return state


def changed(state: Path, statement: str) -> None:
    with closing(sqlite3.connect(state / "state.db", isolation_level=None)) as raw:
        raw.execute(statement)


class TestList:
    def test_each_record_is_a_line_of_a_table(self, program: Any, filled: Path) -> None:
        ran = program("audit", "list")
        head, *rows = ran.out.splitlines()
        assert (ran.status, ran.err) == (0, "")
        assert head.split() == ["RECORD", "AT", "RUN", "WHAT", "DECISION", "DETAIL"]
        assert [row.split()[0] for row in rows] == ["1", "2", "3", "4"]
        start = head.index("WHAT")
        assert rows[2][start:] == "http.request      allowed   url=https://api.example (api.example)"

    def test_nothing_in_it_reaches_the_terminal_as_it_is(self, program: Any, filled: Path) -> None:
        ran = program("audit", "list")
        assert "\x1b" not in ran.out
        assert "\u202e" not in ran.out
        assert "subject=GET https://evil.example/" in ran.out

    @pytest.mark.parametrize(
        ("options", "found"),
        [
            pytest.param(["--limit", "2"], [3, 4], id="the latest"),
            pytest.param(["--denied"], [4], id="what was denied"),
            pytest.param(["--kind", "component.pulled"], [1], id="of a kind"),
            pytest.param(["--run", "run_a"], [2, 3, 4], id="of a run"),
            pytest.param(["--since", "1h"], [4], id="of the last hour"),
            pytest.param(["--since", "90d"], [3, 4], id="of the last three months"),
            pytest.param(["--since", "2001-01-01"], [1, 2, 3, 4], id="since a day"),
        ],
    )
    def test_which(self, program: Any, filled: Path, options: list[str], found: list[int]) -> None:
        assert [record["seq"] for record in json.loads(program("audit", "list", "--json", *options).out)] == found

    def test_there_are_none(self, program: Any, state: Path) -> None:
        ran = program("audit", "list")
        assert (ran.status, ran.out, ran.err) == (0, "", "there are no such records\n")

    def test_a_time_that_is_none_is_a_mistake(self, program: Any, state: Path) -> None:
        ran = program("audit", "list", "--since", "yesterday")
        assert (ran.status, ran.out) == (2, "")
        assert ran.err.startswith("error: --since: 'yesterday' is not a time\nhint: ")


class TestExport:
    def test_json_lines_have_every_field(self, program: Any, filled: Path) -> None:
        lines = [json.loads(line) for line in program("audit", "export").out.splitlines()]
        assert [line["seq"] for line in lines] == [1, 2, 3, 4]
        assert lines[3].keys() == {"seq", "at", "run", "kind", "decision", "rule", "detail", "mac"}
        assert lines[3]["detail"] == DENIED

    def test_csv_is_read_by_whatever_reads_csv(self, program: Any, filled: Path) -> None:
        ran = program("audit", "export", "--format", "csv")
        rows = list(csv.DictReader(io.StringIO(ran.out, newline=""), strict=True))
        assert [row["seq"] for row in rows] == ["1", "2", "3", "4"]
        assert json.loads(rows[3]["detail"]) == DENIED
        assert ran.out.count("\r\n") == 5

    def test_only_what_is_not_older(self, program: Any, filled: Path) -> None:
        assert len(program("audit", "export", "--since", "1h").out.splitlines()) == 1

    def test_a_file_is_for_this_user_alone(self, program: Any, filled: Path, tmp_path: Path) -> None:
        ran = program("audit", "export", "--output", tmp_path / "audit.jsonl")
        assert (ran.status, ran.out) == (0, "")
        assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 4
        assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600

    def test_a_file_that_cannot_be_written_is_told(self, program: Any, filled: Path, tmp_path: Path) -> None:
        ran = program("audit", "export", "--output", tmp_path)
        assert (ran.status, ran.err) == (2, f"error: --output: cannot write '{tmp_path}': Is a directory\n")

    def test_a_record_that_cannot_be_read_is_told(self, program: Any, filled: Path) -> None:
        changed(filled, "UPDATE audit SET detail = '[' WHERE seq = 2")
        ran = program("audit", "export")
        assert (ran.status, ran.err) == (6, "error: record 2 cannot be read\nhint: host audit verify\n")


class TestVerify:
    def test_a_record_that_is_whole(self, program: Any, filled: Path) -> None:
        ran = program("audit", "verify")
        assert (ran.status, ran.err) == (0, "")
        said, head = ran.out.splitlines()
        assert said.startswith("4 records since ")
        assert said.endswith(", all as they were written")
        assert head.startswith("head 4:")

    def test_for_a_program(self, program: Any, filled: Path) -> None:
        found = json.loads(program("audit", "verify", "--json").out)
        assert (found["records"], found["first"], found["noted"], found["pruned_through"]) == (4, 1, 4, 0)

    def test_where_there_is_nothing(self, program: Any, state: Path) -> None:
        ran = program("audit", "verify")
        assert (ran.status, ran.out) == (0, "there are no records yet\n")

    def test_one_that_was_changed_is_named(self, program: Any, filled: Path) -> None:
        changed(filled, "UPDATE audit SET decision = 'allow' WHERE seq = 4")
        ran = program("audit", "verify")
        assert (ran.status, ran.out) == (6, "")
        assert ran.err == "error: record 4 is not as it was written: it was changed, exchanged or put there\n"
        assert json.loads(program("audit", "verify", "--json").out)["error"]["type"] == "audit_broken"

    def test_an_end_that_was_cut_off_can_be_accepted(self, program: Any, filled: Path) -> None:
        changed(filled, "DELETE FROM audit WHERE seq = 4")
        ran = program("audit", "verify")
        assert (ran.status, ran.err.splitlines()) == (
            6,
            [
                "error: record 4 is missing: cut off at the end, or lost",
                "hint: after a restored copy or a power failure: host audit accept",
            ],
        )
        assert program("audit", "accept", "--yes").out.startswith("the record's head is now 4:")
        assert program("audit", "verify").status == 0
        assert [one["kind"] for one in json.loads(program("audit", "list", "--json", "--limit", "1").out)] == [
            "audit.accepted"
        ]

    def test_a_head_that_was_kept_elsewhere(self, program: Any, filled: Path) -> None:
        head = program("audit", "verify").out.split()[-1]
        assert program("audit", "verify", "--head", head).status == 0
        ran = program("audit", "verify", "--head", f"9:{'0' * 64}")
        assert (ran.status, ran.err.splitlines()[0]) == (
            6,
            "error: records 5 to 9 are missing: cut off at the end, or lost",
        )

    @pytest.mark.parametrize("head", ["4", "4:zz", "x:" + "0" * 64, "-1:" + "0" * 64])
    def test_a_head_that_is_none_is_a_mistake(self, program: Any, filled: Path, head: str) -> None:
        ran = program("audit", "verify", "--head", head)
        assert (ran.status, ran.err.splitlines()[0]) == (2, f"error: --head: '{head}' is no head")


class TestPrune:
    def test_what_is_older_goes_and_the_rest_verifies(self, program: Any, filled: Path) -> None:
        ran = program("audit", "prune", "--older-than", "90d", "--yes")
        assert (ran.status, ran.err) == (0, "")
        assert ran.out.startswith("2 records from before ")
        ran = program("audit", "verify")
        assert (ran.status, ran.err) == (0, "records up to 2 were pruned\n")

    def test_what_had_been_changed_is_told(self, program: Any, filled: Path) -> None:
        changed(filled, "UPDATE audit SET rule = 'other' WHERE seq = 1")
        ran = program("audit", "prune", "--older-than", "90d", "--yes")
        assert "record 1 was not as it was written" in ran.err

    @pytest.mark.parametrize(("age", "status"), [("never", 2), ("", 2), ("-1d", 2)])
    def test_an_age_that_is_none_prunes_nothing(self, program: Any, filled: Path, age: str, status: int) -> None:
        assert program("audit", "prune", "--older-than", age).status == status
        assert len(json.loads(program("audit", "list", "--json").out)) == 4
