"""Pruned records are gone and the rest verifies; a deletion of other records is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host.core.audit import Event
from host.errors import AuditBroken
from host.store.audit_log import verification as retention
from host.store.audit_log.log import AuditLog
from host.store.audit_log.verification import Pruned, Verified, prune, verify
from host.store.database import Database
from host.store.vault.keys import Keys

Raw = Callable[..., list[Any]]


@pytest.fixture
def filled(audit_log: AuditLog) -> AuditLog:
    """Ten records, at 1, 2, … 10."""
    for at in range(1, 11):
        audit_log.record(Event("log", f"run_{at}", at=float(at)))
    return audit_log


@pytest.fixture
def verified(database: Database, state_dir: Path, filled: AuditLog) -> Callable[[], Verified]:
    return lambda: verify(AuditLog(database, Keys(state_dir), state_dir))


def numbers(raw: Raw) -> list[int]:
    return [seq for (seq,) in raw("SELECT seq FROM audit ORDER BY seq")]


def pruned(raw: Raw) -> dict[str, Any]:
    return dict(json.loads(raw("SELECT detail FROM audit WHERE kind = 'audit.pruned' ORDER BY seq DESC")[0][0]))


def test_what_is_older_goes_and_a_record_says_so(raw: Raw, filled: AuditLog, verified: Callable[[], Verified]) -> None:
    mac = raw("SELECT mac FROM audit WHERE seq = 4")[0][0]
    assert prune(filled, 5.0) == Pruned(4)
    assert numbers(raw) == [5, 6, 7, 8, 9, 10, 11]
    assert pruned(raw) == {"through": 4, "mac": mac.hex(), "records": 4}
    found = verified()
    assert (found.records, found.first, found.since, found.pruned_through) == (7, 5, 5.0, 4)


def test_nothing_that_is_old_enough_leaves_no_record(raw: Raw, filled: AuditLog) -> None:
    assert prune(filled, 1.0) == Pruned()
    assert numbers(raw) == list(range(1, 11))


def test_all_of_it_may_go(raw: Raw, filled: AuditLog, verified: Callable[[], Verified]) -> None:
    assert prune(filled, 2e9) == Pruned(10)
    assert numbers(raw) == [11]
    assert verified().records == 1


def test_it_may_go_again_and_again(raw: Raw, filled: AuditLog, verified: Callable[[], Verified]) -> None:
    assert [prune(filled, before).records for before in (3.0, 6.0, 6.0, 11.0)] == [2, 3, 0, 5]
    assert verified().pruned_through == 10


def test_many_go_in_several_transactions(
    raw: Raw, filled: AuditLog, verified: Callable[[], Verified], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_BATCH_SIZE", 3)
    assert prune(filled, 9.0) == Pruned(8)
    assert numbers(raw) == [9, 10, 11, 12, 13]
    assert verified().pruned_through == 8


def test_an_old_record_behind_a_younger_one_stays(raw: Raw, filled: AuditLog) -> None:
    """The clock was set back: pruning still removes a beginning of the chain."""
    filled.record(Event("log", "", at=2.0))
    assert prune(filled, 5.0) == Pruned(4)
    assert 11 in numbers(raw)


def test_a_beginning_deleted_without_a_word_is_found(raw: Raw, verified: Callable[[], Verified]) -> None:
    raw("DELETE FROM audit WHERE seq < 5")
    with pytest.raises(AuditBroken, match="records 1 to 4 are missing") as caught:
        verified()
    assert caught.value.seq == 1


def test_more_deleted_than_was_pruned_is_found(raw: Raw, filled: AuditLog, verified: Callable[[], Verified]) -> None:
    prune(filled, 5.0)
    raw("DELETE FROM audit WHERE seq < 8")
    with pytest.raises(AuditBroken, match="records 5 to 7 are missing"):
        verified()


def test_an_older_word_does_not_allow_what_a_newer_one_did(
    raw: Raw, filled: AuditLog, verified: Callable[[], Verified]
) -> None:
    prune(filled, 3.0)
    prune(filled, 7.0)
    raw("DELETE FROM audit WHERE seq = 12")  # the newer prune record, which allowed the deletion
    with pytest.raises(AuditBroken, match="records 3 to 6 are missing"):
        verified()


def test_a_word_that_somebody_wrote_himself_is_found(
    raw: Raw, filled: AuditLog, verified: Callable[[], Verified]
) -> None:
    mac = raw("SELECT mac FROM audit WHERE seq = 7")[0][0]
    prune(filled, 5.0)
    raw("DELETE FROM audit WHERE seq < 8")
    raw("UPDATE audit SET detail = ? WHERE seq = 11", json.dumps({"through": 7, "mac": mac.hex(), "records": 7}))
    with pytest.raises(AuditBroken, match="record 11 is not as it was written"):
        verified()


def test_a_pruned_record_that_is_put_back_is_found(
    raw: Raw, filled: AuditLog, verified: Callable[[], Verified]
) -> None:
    prune(filled, 5.0)
    raw("UPDATE audit SET seq = 4 WHERE seq = 5")
    with pytest.raises(AuditBroken, match="record 4 is not as it was written"):
        verified()


def test_what_was_changed_goes_too_but_not_unnoticed(
    raw: Raw, filled: AuditLog, verified: Callable[[], Verified]
) -> None:
    raw("UPDATE audit SET rule = 'other' WHERE seq = 3")
    assert prune(filled, 5.0) == Pruned(4, broken=3)
    assert pruned(raw)["broken"] == 3
    assert verified().pruned_through == 4


def test_a_gap_before_the_cut_stays_a_gap(raw: Raw, filled: AuditLog, verified: Callable[[], Verified]) -> None:
    raw("DELETE FROM audit WHERE seq = 4")
    prune(filled, 5.0)
    with pytest.raises(AuditBroken, match="record 4 is missing"):
        verified()


@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
def test_a_machine_that_has_noted_only_what_is_pruned_goes_on(
    filled: AuditLog, database: Database, state_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(state_dir, tmp_path / "elsewhere")  # with its checkpoint at record 10
    filled.record(Event("log", "", at=11.0))
    assert prune(filled, 2e9) == Pruned(11)
    other = AuditLog(database, Keys(tmp_path / "elsewhere"), tmp_path / "elsewhere")
    assert verify(other).noted == 10
    other.record(Event("log", ""))
    assert verify(other).noted == 13
