"""What other programs read of the record does nothing there but be read."""

from __future__ import annotations

import csv
import io
import json

import pytest

from host.cli.commands.audit import FORMATS
from host.store.audit_log.records import Record


def record(*, rule: str = "", decision: str | None = None, run: str = "run_1") -> Record:
    return Record(7, 1_000_000_000.5, run, "http.request", decision, rule, {"url": "https://a.example"}, "ab" * 32)


def lines(form: str, one: Record) -> list[str]:
    return list(FORMATS[form](iter([one])))


def cells(one: Record) -> dict[str, str]:
    text = "".join(f"{line}\n" for line in lines("csv", one))
    [row] = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    return row


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_a_cell_that_a_spreadsheet_would_run_is_text(text: str) -> None:
    assert cells(record(rule=text))["rule"] == f"'{text}"


@pytest.mark.parametrize("text", ["a,b", 'a"b', "a\nb", "", "a=b", "é"])
def test_any_other_cell_is_what_it_was(text: str) -> None:
    assert cells(record(rule=text))["rule"] == text


def test_a_cell_has_nothing_that_a_terminal_obeys() -> None:
    assert cells(record(rule="a\x1b[31m\x9b\rb"))["rule"] == "a\ufffd[31m\ufffd\ufffdb"


def test_a_row_has_the_record_in_its_order() -> None:
    assert cells(record(decision="deny", rule="domain not granted")) == {
        "seq": "7",
        "time": "2001-09-09T01:46:40.500000Z",
        "run": "run_1",
        "kind": "http.request",
        "decision": "deny",
        "rule": "domain not granted",
        "detail": '{"url":"https://a.example"}',
        "mac": "ab" * 32,
    }


@pytest.mark.parametrize("form", ["jsonl", "ecs"])
def test_a_record_is_one_line_whatever_is_in_it(form: str) -> None:
    [line] = lines(form, record(rule="a\nb\u2028c\x1b"))
    assert line.isprintable()
    json.loads(line)


@pytest.mark.parametrize(("decision", "outcome"), [("allow", "success"), ("deny", "failure"), (None, "unknown")])
def test_log_collectors_find_what_they_look_for(decision: str | None, outcome: str) -> None:
    [line] = lines("ecs", record(decision=decision, rule="domain not granted"))
    found = json.loads(line)
    assert found["@timestamp"] == "2001-09-09T01:46:40.500000Z"
    assert found["event"] == {
        "action": "http.request",
        "dataset": "catalyst-host.audit",
        "id": "ab" * 32,
        "kind": "event",
        "module": "catalyst-host",
        "outcome": outcome,
        "sequence": 7,
    }
    assert found["rule"] == {"name": "domain not granted"}
    assert found["labels"] == {"run": "run_1"}
