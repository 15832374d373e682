"""Counters by name and window, shared by all processes with the database."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from host.store.access.counters import Counters, Slot
from host.store.database import Database

A, B = Slot("a", 1), Slot("b", 1)


@pytest.fixture
def counters(database: Database) -> Counters:
    return Counters(database, lambda: 1000.0)


def never(slot: Slot) -> float:
    return 1e12


def test_what_is_added_is_there(counters: Counters) -> None:
    with counters.counting() as tally:
        tally.add({A: 2, B: 1}, never)
        assert tally.counts([A, B]) == {A: 2, B: 1}
        tally.add({A: 3}, never)
    with counters.counting() as tally:
        assert tally.counts([A, Slot("a", 2)]) == {A: 5}
        assert tally.counts([]) == {}


def test_of_a_transaction_that_fails_nothing_is_kept(counters: Counters) -> None:
    with pytest.raises(ZeroDivisionError), counters.counting() as tally:  # noqa: PT012 - what fails comes second
        tally.add({A: 2}, never)
        _ = 1 / 0
    with counters.counting() as tally:
        assert tally.counts([A]) == {}


def test_what_is_read_stays_true_until_it_is_added_to(counters: Counters) -> None:
    """Threads that read and then add one lose no count."""

    def work(_: int) -> None:
        with counters.counting() as tally:
            if tally.counts([A]).get(A, 0) < 30:
                tally.add({A: 1}, never)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(50)))
    with counters.counting() as tally:
        assert tally.counts([A]) == {A: 30}


def test_what_is_over_goes_now_and_then(database: Database, raw: Callable[..., Any]) -> None:
    now = [1000.0]
    counters = Counters(database, lambda: now[0])
    with counters.counting() as tally:
        tally.add({A: 1, B: 1}, lambda slot: 1010.0 if slot == A else 1e12)
    for at, left in ((1011.0, 2), (1059.0, 2), (1060.0, 1)):
        now[0] = at
        with counters.counting():
            pass
        assert len(raw("SELECT name FROM counters")) == left


def test_the_time_is_the_databases_where_machines_share_it(
    database: Database, database_url: str | None, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = time.time()
    with Counters(database).counting() as tally:
        assert before - 60 < tally.now < before + 60
    monkeypatch.setattr(time, "time", lambda: 7.0)  # this machine's clock is wrong
    with Counters(database).counting() as tally:
        assert (tally.now == 7.0) is (database_url is None)
