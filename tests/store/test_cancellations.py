"""Requests to cancel a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from host.store.access import cancellations as module
from host.store.access.cancellations import Cancellations
from host.store.database import Database


@pytest.fixture
def cancellations(database: Database) -> Cancellations:
    return Cancellations(database)


def test_those_that_were_asked_for_are_found_among_ones_own(cancellations: Cancellations) -> None:
    for run in ("run_a", "run_b", "run_b"):
        cancellations.ask(run)
    assert cancellations.among(["run_b", "run_c"]) == {"run_b"}
    assert cancellations.among({"run_a", "run_b"}) == {"run_a", "run_b"}


def test_of_none_nothing_is_asked(cancellations: Cancellations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "reading", None)
    assert cancellations.among([]) == set()


def test_however_many_there_are(cancellations: Cancellations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDS_AT_ONCE", 3)
    cancellations.ask("run_6")
    cancellations.ask("run_0")
    assert cancellations.among([f"run_{n}" for n in range(7)]) == {"run_0", "run_6"}


def test_those_of_a_day_ago_are_forgotten(cancellations: Cancellations, raw: Callable[..., Any]) -> None:
    cancellations.ask("run_a")
    cancellations.ask("run_b")
    raw("UPDATE cancellations SET asked_at = asked_at - 90000 WHERE run = 'run_a'")
    cancellations.ask("run_c")
    assert cancellations.among(["run_a", "run_b", "run_c"]) == {"run_b", "run_c"}
