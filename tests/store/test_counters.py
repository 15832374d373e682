"""Counters by name and window, shared by all processes with the database."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from host.core.audit import Event
from host.errors import StateError
from host.store.access.counters import Counters, Slot, verified_counts
from host.store.audit_log.log import AuditLog
from host.store.audit_log.verification import verify
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


# somebody who may write to the database, without the master key

ROWS = 'SELECT name, "window", count, expires_at, seq FROM counters'
SEAL = "SELECT seq, key, mac, swept_at FROM counter_seal"


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def spent(database: Database, now: list[float]) -> Counters:
    """Counters of a process that has counted, and of which the checkpoint is written."""
    counters = Counters(database, lambda: now[0])
    for amounts in ({A: 5, B: 5}, {A: 1}):
        with counters.counting() as tally:
            tally.add(amounts, never)
        now[0] += 61.0
    return counters


def seen(counters: Counters) -> dict[Slot, int]:
    with counters.counting() as tally:
        return tally.counts([A, B])


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(["DELETE FROM counters"], id="all deleted"),
        pytest.param(["DELETE FROM counters WHERE name = 'a'"], id="one deleted"),
        pytest.param(["UPDATE counters SET count = 0"], id="all lowered"),
        pytest.param(["UPDATE counters SET count = -1000000 WHERE name = 'b'"], id="one lowered below nothing"),
        pytest.param(["UPDATE counters SET \"window\" = 7 WHERE name = 'a'"], id="one moved to another window"),
        pytest.param(["UPDATE counters SET name = 'c' WHERE name = 'a'"], id="one moved to another name"),
        pytest.param(
            ["UPDATE counters SET name = 'c' WHERE name = 'a'", "UPDATE counters SET name = 'a' WHERE name = 'b'",
             "UPDATE counters SET name = 'b' WHERE name = 'c'"], id="two swapped"
        ),
        pytest.param(["UPDATE counters SET expires_at = 1.0"], id="to be swept"),
        pytest.param(["INSERT INTO counters VALUES ('c', 1, 9, 1e12, 1)"], id="one put there, for somebody else to pay"),
        pytest.param(["DELETE FROM counter_seal"], id="the seal deleted"),
        pytest.param(["DELETE FROM counters", "DELETE FROM counter_seal"], id="all deleted with the seal"),
        pytest.param(
            ["DELETE FROM counters", "DELETE FROM counter_seal", "DELETE FROM keys WHERE purpose = 'counters'"],
            id="all deleted, with the seal and its key",
        ),
        pytest.param(["UPDATE counter_seal SET seq = seq + 1"], id="the seal of another moment"),
        pytest.param(["UPDATE counter_seal SET swept_at = 1e13"], id="all swept, as it seems"),
    ],
)  # fmt: skip
def test_counts_that_other_hands_changed_admit_nobody(
    spent: Counters, database: Database, now: list[float], raw: Callable[..., Any], statements: list[str]
) -> None:
    for statement in statements:
        raw(statement)
    with pytest.raises(StateError, match="counts of limits were changed"):
        seen(Counters(database, lambda: now[0]))
    with suppress(StateError):  # or it goes on from its memory
        assert seen(spent) == {A: 6, B: 5}


@pytest.mark.parametrize("of", ["the process that counted", "another process"])
def test_counts_put_back_with_their_own_seal_admit_nobody(
    database: Database, now: list[float], raw: Callable[..., Any], of: str
) -> None:
    counters = Counters(database, lambda: now[0])
    with counters.counting() as tally:
        tally.add({A: 1}, never)
    rows, ((seq, key, mac, swept_at),) = raw(ROWS), raw(SEAL)
    now[0] += 61.0
    with counters.counting() as tally:
        tally.add({A: 1, B: 1}, never)
    raw("DELETE FROM counters")
    for row in rows:
        raw("INSERT INTO counters VALUES (?, ?, ?, ?, ?)", *row)
    raw("UPDATE counter_seal SET seq = ?, key = ?, mac = ?, swept_at = ?", seq, key, bytes(mac), swept_at)
    with pytest.raises(StateError, match="counts of limits were changed"):
        seen(counters if of == "the process that counted" else Counters(database, lambda: now[0]))


def test_counts_put_back_to_what_an_idle_process_last_knew_do_not_admit_by_it(
    database: Database, now: list[float], raw: Callable[..., Any]
) -> None:
    """A client spends at one process of a server, and then comes to another, which has not counted since."""
    busy, idle = Counters(database, lambda: now[0]), Counters(database, lambda: now[0])
    with busy.counting() as tally:
        tally.add({A: 1}, never)
    assert seen(idle) == {A: 1}
    rows, ((seq, key, mac, swept_at),) = raw(ROWS), raw(SEAL)
    now[0] += 61.0
    with busy.counting() as tally:
        tally.add({A: 900}, never)
    raw("DELETE FROM counters")
    for row in rows:
        raw("INSERT INTO counters VALUES (?, ?, ?, ?, ?)", *row)
    raw("UPDATE counter_seal SET seq = ?, key = ?, mac = ?, swept_at = ?", seq, key, bytes(mac), swept_at)
    idle._idle_at = 0.0
    with pytest.raises(StateError, match="counts of limits were changed"):
        seen(idle)


def test_a_process_that_was_idle_goes_on_from_the_counts_of_others(database: Database, now: list[float]) -> None:
    busy, idle = Counters(database, lambda: now[0]), Counters(database, lambda: now[0])
    for amount in (1, 900):
        with busy.counting() as tally:
            tally.add({A: amount}, never)
        idle._idle_at = 0.0
        assert seen(idle)[A] == (1 if amount == 1 else 901)
        now[0] += 61.0


def test_the_checkpoint_taken_away_is_found_where_no_other_machine_could_have_it(
    spent: Counters, database: Database, now: list[float], kind: str
) -> None:
    spent._file.path.unlink()
    again = Counters(database, lambda: now[0])
    if kind == "sqlite":
        with pytest.raises(StateError, match="counts of limits were changed"), database.reading() as connection:
            verified_counts(connection, again._keys, again._file, shared=False)
        for counters in (again, spent):
            now[0] += 61.0
            with pytest.raises(StateError, match="counts of limits were changed"), counters.counting() as tally:
                tally.add({A: 1}, never)
    else:
        assert seen(again) == {A: 6, B: 5}


def test_a_row_whose_number_hides_it_is_seen_by_other_processes(
    spent: Counters, database: Database, now: list[float], raw: Callable[..., Any]
) -> None:
    other = Counters(database, lambda: now[0])
    assert seen(other) == {A: 6, B: 5}
    with spent.counting() as tally:
        tally.add({A: 10}, never)
    raw("UPDATE counters SET seq = 0")
    assert seen(other) == {A: 16, B: 5}


def test_the_operator_can_take_the_counts_as_they_are(audit_log: AuditLog, raw: Callable[..., Any]) -> None:
    database = audit_log.database
    audit_log.record(Event("log", ""))
    with Counters(database).counting() as tally:
        tally.add({A: 5, B: 5}, never)
    verify(audit_log)
    raw("DELETE FROM counters WHERE name = 'a'")
    with pytest.raises(StateError, match="counts of limits were changed"):
        verify(audit_log)
    audit_log.accept()
    verify(audit_log)
    with Counters(database).counting() as tally:
        assert tally.counts([A, B]) == {B: 5}


@pytest.mark.parametrize("seed", range(3))
def test_processes_that_count_in_turn_know_the_same_by_any_clock(database: Database, seed: int) -> None:
    random, now = Random(seed), [1000.0]
    processes = [Counters(database, lambda: now[0]) for _ in range(3)]
    model: dict[Slot, int] = {}
    slots = [Slot(name, window) for name in "ab" for window in range(3)]
    for _ in range(60):
        now[0] += random.choice([0.0, 1.0, 59.0, 61.0, -30.0])
        with random.choice([*processes, Counters(database, lambda: now[0])]).counting() as tally:
            assert {slot: tally.counts([slot]).get(slot) for slot in model} == dict(model)
            amounts = {slot: random.choice([1, 2, -1]) for slot in random.sample(slots, random.randint(0, 2))}
            tally.add(amounts, never)
        for slot, amount in amounts.items():
            model[slot] = model.get(slot, 0) + amount


def test_what_expires_is_forgotten_by_all_processes_alike(database: Database) -> None:
    now = [1000.0]
    one, other = (Counters(database, lambda: now[0]) for _ in range(2))
    for at in range(12):
        for counters in (one, other, Counters(database, lambda: now[0])):
            with counters.counting() as tally:
                tally.add({Slot("a", at): 1}, lambda slot: 1100.0 + 40 * slot.window)
        now[0] += 50.0 if at != 6 else -100.0
    with one.counting() as tally:
        live = [at for at in range(12) if 1100.0 + 40 * at > now[0]]
        assert {slot.window for slot in tally.counts([Slot("a", at) for at in live])} == set(live)
