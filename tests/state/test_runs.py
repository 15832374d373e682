"""Runs, as the record tells of them."""

from __future__ import annotations

import pytest

from host.audit import Event
from host.errors import InputError, NotFound
from host.state import runs as module
from host.state.database import Database
from host.state.journal import Journal
from host.state.retention import prune
from host.state.runs import RunSummary, run, runs

DIGEST = "sha256:" + "0" * 64


def start(journal: Journal, ident: str, reference: str, at: float = 1.0) -> None:
    journal.record(Event("run.started", ident, detail={"reference": reference, "digest": DIGEST}, at=at))


@pytest.fixture
def filled(journal: Journal) -> Journal:
    start(journal, "run_a1", "c:local.openai:0.1.0", 10.0)
    journal.record(Event("http.request", "run_a1", "allow", detail={"url": "https://a.example"}))
    journal.record(Event("secret.use", "run_a1", "allow"))
    start(journal, "run_b1", "c:local.openai:0.2.0", 20.0)
    journal.record(Event("http.request", "run_b1", "deny"))
    journal.record(Event("http.request", "run_a1", "allow"))
    journal.record(Event("run.ended", "run_a1", detail={"status": 200, "duration_s": 0.25}))
    journal.record(Event("secret.use", "run_b1", "deny"))
    journal.record(Event("run.ended", "run_b1", detail={"error": "guest_trap", "duration_s": 0.5}))
    start(journal, "run_c1", "c:local.other:1.0.0", 30.0)
    journal.record(Event("run.ended", "run_c1", detail={"status": 429, "duration_s": 0.1}))
    start(journal, "run_d1", "dist/openai.wasm", 40.0)
    return journal


@pytest.mark.usefixtures("filled")
def test_a_run_is_what_its_records_say(database: Database) -> None:
    assert runs(database, limit=10)[-1] == RunSummary(
        seq=1,
        id="run_a1",
        reference="c:local.openai:0.1.0",
        digest=DIGEST,
        started_at=10.0,
        duration_s=0.25,
        status=200,
        error=None,
        requests=2,
        denied=0,
    )


@pytest.mark.usefixtures("filled")
def test_how_each_ended_the_newest_first(database: Database) -> None:
    found = [(one.id, one.outcome, one.failed, one.denied) for one in runs(database, limit=10)]
    assert found == [
        ("run_d1", "unfinished", True, 0),  # its process was killed, or it goes on
        ("run_c1", "429", True, 0),
        ("run_b1", "guest_trap", True, 2),
        ("run_a1", "200", False, 0),
    ]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        pytest.param({"limit": 2}, ["run_d1", "run_c1"], id="the newest"),
        pytest.param({"limit": 2, "before": 10}, ["run_b1", "run_a1"], id="those before another"),
        pytest.param({"limit": 9, "reference": "c:local.openai"}, ["run_b1", "run_a1"], id="of any version"),
        pytest.param({"limit": 9, "reference": "c:local.openai:0.1.0"}, ["run_a1"], id="of one version"),
        pytest.param({"limit": 9, "reference": "c:local.open"}, [], id="a part of a name is no name"),
        pytest.param({"limit": 9, "reference": "dist/openai.wasm"}, ["run_d1"], id="of a file"),
        pytest.param({"limit": 9, "failed": True}, ["run_d1", "run_c1", "run_b1"], id="that failed"),
        pytest.param({"limit": 1, "failed": True, "reference": "c:local.openai"}, ["run_b1"], id="the last that failed of one"),
        pytest.param({"limit": 0}, [], id="none"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("filled")
def test_which_are_wanted(
    database: Database, monkeypatch: pytest.MonkeyPatch, asked: dict[str, object], found: list[str]
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    assert [one.id for one in runs(database, **asked)] == found


@pytest.mark.usefixtures("filled")
def test_one_run_with_all_its_records(database: Database) -> None:
    summary, records = run(database, "run_b1")
    assert summary is not None
    assert summary.outcome == "guest_trap"
    assert [record.kind for record in records] == ["run.started", "http.request", "secret.use", "run.ended"]


@pytest.mark.usefixtures("filled")
def test_a_run_is_found_by_the_beginning_of_its_id(database: Database) -> None:
    summary, _ = run(database, "run_c")
    assert summary is not None
    assert summary.id == "run_c1"


@pytest.mark.usefixtures("filled")
def test_a_beginning_that_several_have_is_asked_about(database: Database) -> None:
    with pytest.raises(InputError, match="several runs begin with 'run_'"):
        run(database, "run_")


@pytest.mark.parametrize("ident", ["run_e", "%", "run%1", ""])
def test_there_is_no_such_run(journal: Journal, database: Database, ident: str) -> None:
    journal.record(Event("component.pulled", ""))
    with pytest.raises(NotFound):
        run(database, ident)


def test_a_run_whose_beginning_was_pruned_is_still_shown(filled: Journal, database: Database) -> None:
    prune(filled, 15.0)
    summary, records = run(database, "run_a1")
    assert summary is None
    assert [record.kind for record in records][-1] == "run.ended"
    assert "run_a1" not in [one.id for one in runs(database, limit=9)]
