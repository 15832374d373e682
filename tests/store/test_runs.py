"""Runs, as read from the audit log."""

from __future__ import annotations

import pytest

from host.core.audit import Event
from host.errors import InputError, NotFound
from host.store.audit_log import records as module
from host.store.audit_log.log import AuditLog
from host.store.audit_log.records import RunSummary, run, runs
from host.store.audit_log.verification import prune
from host.store.database import Database

DIGEST = "sha256:" + "0" * 64


def start(audit_log: AuditLog, ident: str, reference: str, at: float = 1.0) -> None:
    audit_log.record(Event("run.started", ident, detail={"reference": reference, "digest": DIGEST}, at=at))


@pytest.fixture
def filled(audit_log: AuditLog) -> AuditLog:
    start(audit_log, "run_a1", "c:local.openai:0.1.0", 10.0)
    audit_log.record(Event("http.request", "run_a1", "allow", detail={"url": "https://a.example"}))
    audit_log.record(Event("secret.use", "run_a1", "allow"))
    start(audit_log, "run_b1", "c:local.openai:0.2.0", 20.0)
    audit_log.record(Event("http.request", "run_b1", "deny"))
    audit_log.record(Event("http.request", "run_a1", "allow"))
    audit_log.record(Event("run.ended", "run_a1", detail={"status": 200, "duration_s": 0.25}))
    audit_log.record(Event("secret.use", "run_b1", "deny"))
    audit_log.record(Event("run.ended", "run_b1", detail={"error": "guest_trap", "duration_s": 0.5}))
    start(audit_log, "run_c1", "c:local.other:1.0.0", 30.0)
    audit_log.record(Event("run.ended", "run_c1", detail={"status": 429, "duration_s": 0.1}))
    start(audit_log, "run_d1", "dist/openai.wasm", 40.0)
    return audit_log


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
        ("run_d1", "unfinished", True, 0),  # its process was killed, or it still runs
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
    monkeypatch.setattr(module, "_RUNS_AT_ONCE", 3)
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
def test_there_is_no_such_run(audit_log: AuditLog, database: Database, ident: str) -> None:
    audit_log.record(Event("component.pulled", ""))
    with pytest.raises(NotFound):
        run(database, ident)


def test_a_run_whose_beginning_was_pruned_is_still_shown(filled: AuditLog, database: Database) -> None:
    prune(filled, 15.0)
    summary, records = run(database, "run_a1")
    assert summary is None
    assert [record.kind for record in records][-1] == "run.ended"
    assert "run_a1" not in [one.id for one in runs(database, limit=9)]


@pytest.fixture
def served(audit_log: AuditLog) -> AuditLog:
    """Runs of a server's: of two keys, of nobody, and one whose caller says what nobody's does."""
    for ident, detail in (
        ("run_k1", {"caller": {"key": "k1", "name": "ci"}, "timeout_s": 30.0}),
        ("run_k2", {"caller": {"key": "k2"}, "timeout_s": 30.0}),
        ("run_no", {"caller": {"via": "mcp"}, "timeout_s": 30.0}),
        ("run_odd", {"caller": {"via": '"key":"k1"', "about": {"key": "k1"}}, "timeout_s": "long"}),
        ("run_list", {"caller": ["k1"]}),
        ("run_k1_done", {"caller": {"key": "k1"}, "timeout_s": 30.0}),
    ):
        named = {"reference": "c:local.openai:0.1.0", "digest": DIGEST}
        audit_log.record(Event("run.started", ident, detail={**named, **detail}, at=100.0))
    audit_log.record(Event("run.ended", "run_k1_done", detail={"status": 200, "duration_s": 0.1}, at=101.0))
    return audit_log


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        pytest.param({"key": "k1"}, ["run_k1_done", "run_k1"], id="of one key"),
        pytest.param({"key": "k1", "limit": 1}, ["run_k1_done"], id="the last of one key"),
        pytest.param({"key": "k1", "failed": True}, ["run_k1"], id="of one key, that did not end"),
        pytest.param({"key": "k"}, [], id="a part of a key is no key"),
        pytest.param({"key": '"'}, [], id="nor is a mark"),
        pytest.param({"key": "%"}, [], id="nor is a wildcard"),
        pytest.param({"key": ""}, ["run_list", "run_odd", "run_no"], id="of no key"),
    ],
)
@pytest.mark.usefixtures("served")
def test_whose_runs_are_wanted(
    database: Database, monkeypatch: pytest.MonkeyPatch, asked: dict[str, object], found: list[str]
) -> None:
    monkeypatch.setattr(module, "_RUNS_AT_ONCE", 2)
    assert [one.id for one in runs(database, **{"limit": 9, **asked})] == found


@pytest.mark.usefixtures("served")
def test_on_whose_behalf_a_run_was(database: Database) -> None:
    callers = {one.id: (one.key, one.caller) for one in runs(database, limit=9)}
    assert callers["run_k1"] == ("k1", {"key": "k1", "name": "ci"})
    assert callers["run_no"] == ("", {"via": "mcp"})
    assert callers["run_list"] == ("", {})


@pytest.mark.usefixtures("served")
def test_a_run_goes_on_until_it_ends_or_must_have(database: Database) -> None:
    found = {one.id: one for one in runs(database, limit=9)}
    assert [found["run_k1"].running(at) for at in (101.0, 134.9, 135.0)] == [True, True, False]
    assert not found["run_k1_done"].running(101.0)
    assert not found["run_odd"].running(101.0)  # without a duration
    assert found["run_k1"].running_until == 130.0
