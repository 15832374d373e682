"""Attacks on the audit log by someone with access to the database. Verification finds each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from host.core.audit import Event
from host.errors import AuditBroken
from host.store.audit_log.chain import FIELDS, Checkpoint, chained
from host.store.audit_log.log import AuditLog
from host.store.audit_log.verification import Verified, verify
from host.store.database import FILE, Database
from host.store.vault.keys import DataKey, Keys

Raw = Callable[..., list[Any]]
COUNT = 10
COLUMNS = ", ".join((*FIELDS, "mac"))
MARKS = ", ".join("?" * (len(FIELDS) + 1))


@pytest.fixture
def filled(audit_log: AuditLog) -> AuditLog:
    fill(audit_log, COUNT)
    return audit_log


@pytest.fixture
def verified(database: Database, state_dir: Path, filled: AuditLog) -> Callable[[], Verified]:
    """Verifies like another process, without a remembered checkpoint."""
    return lambda: verify(AuditLog(database, Keys(state_dir), state_dir))


def fill(audit_log: AuditLog, count: int) -> None:
    for number in range(count):
        audit_log.record(
            Event("http.request", f"run_{number}", "allow", "api.openai.com", {"n": number}, at=1000.0 + number)
        )


def rewritten(raw: Raw, first: int, key: bytes) -> None:
    """Recomputes the MACs with `key` from the record `first` on."""
    before = raw("SELECT mac FROM audit WHERE seq = ?", first - 1)[0][0] if first > 1 else bytes(32)
    for *values, _ in raw(f"SELECT {COLUMNS} FROM audit WHERE seq >= ? ORDER BY seq", first):
        before = chained(DataKey(values[-1], key), before, values)
        raw("UPDATE audit SET mac = ? WHERE seq = ?", before, values[0])


def test_a_record_that_was_left_alone_verifies(filled: AuditLog, verified: Callable[[], Verified]) -> None:
    found = verified()
    assert (found.records, found.first, found.since, found.pruned_through) == (COUNT, 1, 1000.0, 0)
    assert (found.head.seq, found.noted) == (COUNT, COUNT)


def test_a_state_without_a_record_verifies(audit_log: AuditLog) -> None:
    assert verify(audit_log) == Verified(0, 0, None, Checkpoint(), 0, None)


ATTACKS = [
    pytest.param("UPDATE audit SET rule = 'other' WHERE seq = 4", 4, "not as it was", id="a rule is edited"),
    pytest.param("UPDATE audit SET decision = 'deny' WHERE seq = 4", 4, "not as it was", id="a decision is turned round"),
    pytest.param("UPDATE audit SET decision = NULL WHERE seq = 4", 4, "not as it was", id="a decision is taken out"),
    pytest.param("UPDATE audit SET at = at + 1 WHERE seq = 4", 4, "not as it was", id="a time is moved"),
    pytest.param("UPDATE audit SET run = 'run_9' WHERE seq = 4", 4, "not as it was", id="a record is given to another run"),
    pytest.param("UPDATE audit SET detail = '{\"n\": 3}' WHERE seq = 4", 4, "not as it was", id="a detail means the same in other bytes"),
    pytest.param("UPDATE audit SET mac = (SELECT mac FROM audit WHERE seq = 5) WHERE seq = 4", 4, "not as it was", id="a mac is copied"),
    pytest.param("UPDATE audit SET rule = 'other' WHERE seq = 10", 10, "not as it was", id="the last record is edited"),
    pytest.param("DELETE FROM audit WHERE seq = 4", 4, "record 4 is missing", id="one in the middle is deleted"),
    pytest.param("DELETE FROM audit WHERE seq BETWEEN 4 AND 6", 4, "records 4 to 6 are missing", id="some in the middle are deleted"),
    pytest.param("DELETE FROM audit WHERE seq = 1", 1, "record 1 is missing", id="the first is deleted"),
    pytest.param("DELETE FROM audit WHERE seq = 10", 10, "record 10 is missing: cut off", id="the last is deleted"),
    pytest.param("DELETE FROM audit WHERE seq > 6", 7, "records 7 to 10 are missing: cut off", id="the end is cut off"),
    pytest.param("DELETE FROM audit", 1, "records 1 to 10 are missing", id="all of it is deleted"),
]  # fmt: skip


@pytest.mark.parametrize(("attack", "seq", "said"), ATTACKS)
def test_a_change_of_the_table_is_found(
    raw: Raw, verified: Callable[[], Verified], attack: str, seq: int, said: str
) -> None:
    raw(attack)
    with pytest.raises(AuditBroken, match=said) as caught:
        verified()
    assert caught.value.seq == seq


def test_a_record_that_closes_the_gap_of_a_deleted_one_is_found(raw: Raw, verified: Callable[[], Verified]) -> None:
    raw("DELETE FROM audit WHERE seq = 4")
    for seq in range(5, COUNT + 1):
        raw("UPDATE audit SET seq = ? WHERE seq = ?", seq - 1, seq)
    with pytest.raises(AuditBroken, match="record 4 is not as it was written"):
        verified()


def test_two_records_that_are_swapped_are_found(raw: Raw, verified: Callable[[], Verified]) -> None:
    for old, new in ((4, 0), (5, 4), (0, 5)):
        raw("UPDATE audit SET seq = ? WHERE seq = ?", new, old)
    with pytest.raises(AuditBroken, match="record 4 is not as it was written"):
        verified()


def test_a_record_that_is_put_in_is_found(raw: Raw, verified: Callable[[], Verified]) -> None:
    for seq in range(COUNT, 4, -1):
        raw("UPDATE audit SET seq = ? WHERE seq = ?", seq + 1, seq)
    raw(
        f"INSERT INTO audit ({COLUMNS}) SELECT 5, at, run, kind, decision, rule, detail, key, mac FROM audit WHERE seq = 4"
    )
    with pytest.raises(AuditBroken, match="record 5 is not as it was written"):
        verified()


def test_a_record_that_is_put_at_the_end_is_found(raw: Raw, verified: Callable[[], Verified]) -> None:
    raw(
        f"INSERT INTO audit ({COLUMNS}) SELECT 11, at, run, kind, decision, rule, detail, key, mac FROM audit WHERE seq = 10"
    )
    with pytest.raises(AuditBroken, match="record 11 is not as it was written"):
        verified()


def test_a_record_written_anew_without_the_key_is_found(raw: Raw, verified: Callable[[], Verified]) -> None:
    raw("UPDATE audit SET rule = 'other' WHERE seq = 4")
    rewritten(raw, 1, bytes(32))
    with pytest.raises(AuditBroken, match="record 1 is not as it was written"):
        verified()


def test_an_end_written_anew_with_the_key_is_told_by_the_head(
    raw: Raw, database: Database, keys: Keys, verified: Callable[[], Verified]
) -> None:
    raw("UPDATE audit SET rule = 'other' WHERE seq = 9")
    with database.reading() as connection:
        key = keys.get(connection, raw("SELECT id FROM keys")[0][0])
    rewritten(raw, 9, key.key)
    with pytest.raises(AuditBroken, match="record 10 differs from its checkpoint"):
        verified()


def test_a_key_of_somebody_else_in_place_of_ours_is_found(raw: Raw, verified: Callable[[], Verified]) -> None:
    raw("UPDATE keys SET sealed = ?", bytes(60))
    rewritten(raw, 1, bytes(32))
    with pytest.raises(AuditBroken, match=r"record 1 cannot be checked: the key audit-\w+ was changed"):
        verified()


def test_a_key_that_was_taken_away_is_found(raw: Raw, verified: Callable[[], Verified]) -> None:
    raw("DELETE FROM keys")
    with pytest.raises(AuditBroken, match="record 1 cannot be checked: there is no key audit-"):
        verified()


def test_the_record_and_its_key_taken_away_together_are_found(raw: Raw, verified: Callable[[], Verified]) -> None:
    raw("DELETE FROM audit")
    raw("DELETE FROM keys")
    with pytest.raises(AuditBroken, match="was not written with a key of this state"):
        verified()


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("column", ["at", "detail", "key", "mac", "rule"])
def test_a_value_of_another_type_is_found(raw: Raw, verified: Callable[[], Verified], column: str) -> None:
    raw(f"UPDATE audit SET {column} = x'00ff' WHERE seq = 4")
    with pytest.raises(AuditBroken) as caught:
        verified()
    assert caught.value.seq == 4


def test_an_end_cut_off_is_still_found_when_others_have_come_in_its_place(
    raw: Raw, audit_log: AuditLog, verified: Callable[[], Verified]
) -> None:
    raw("DELETE FROM audit WHERE seq > 6")
    fill(audit_log, 2)
    with pytest.raises(AuditBroken, match="records 9 to 10 are missing"):
        verified()
    fill(audit_log, 4)  # as many as before, and more: the noted checkpoint stays
    with pytest.raises(AuditBroken, match="record 10 differs from its checkpoint"):
        verified()


class TestTheNoteOfTheHead:
    """Attacks on the checkpoint file beside the database."""

    @pytest.fixture
    def note(self, filled: AuditLog) -> Path:
        return filled.checkpoint_file.path

    def test_one_written_to_match_a_cut_does_not_pass(
        self, raw: Raw, note: Path, verified: Callable[[], Verified]
    ) -> None:
        raw("DELETE FROM audit WHERE seq > 6")
        _, _, key, tag = note.read_text().split()
        mac = raw("SELECT mac FROM audit WHERE seq = 6")[0][0]
        note.write_text(f"{6:020} {mac.hex()} {key} {tag}\n")
        with pytest.raises(AuditBroken, match="was not written with a key of this state"):
            verified()

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("0 nothing\n", id="it is rubbish"),
            pytest.param(f"{0:020} {bytes(32).hex()} audit-0000 {bytes(32).hex()}\n", id="it says that there was nothing yet"),
            pytest.param("\udcff" * 200, id="it is not text"),
        ],
    )  # fmt: skip
    def test_another_text_does_not_pass(self, note: Path, verified: Callable[[], Verified], text: str) -> None:
        note.write_text(text, errors="surrogateescape")
        with pytest.raises(AuditBroken, match="was not written with a key of this state"):
            verified()

    @pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
    @pytest.mark.parametrize("cut", [False, True], ids=["and nothing else", "and the end cut off"])
    def test_one_that_is_gone_is_missed(
        self, raw: Raw, note: Path, audit_log: AuditLog, verified: Callable[[], Verified], cut: bool
    ) -> None:
        note.unlink()
        if cut:
            raw("DELETE FROM audit WHERE seq > 6")
        with pytest.raises(AuditBroken, match=r"audit\.head is gone"):
            verified()
        fill(audit_log, 1)
        assert not note.exists(), "what comes later does not hide it"

    @pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
    def test_everything_gone_but_the_key_is_missed(
        self, raw: Raw, note: Path, verified: Callable[[], Verified]
    ) -> None:
        note.unlink()
        raw("DELETE FROM audit")
        with pytest.raises(AuditBroken, match=r"audit\.head is gone"):
            verified()

    @pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
    @pytest.mark.parametrize("key", [False, True], ids=["but the key", "with its key"])
    def test_everything_gone_is_not_hidden_by_what_comes_after_it(
        self, raw: Raw, note: Path, keys: Keys, state_dir: Path, database: Database, verified: Any, key: bool
    ) -> None:
        with AuditLog(database, keys, state_dir).changing() as change:
            keys.current(change.connection, "vault")  # of other tables: it stays
        note.unlink()
        raw("DELETE FROM audit")
        if key:
            raw("DELETE FROM keys WHERE purpose = 'audit'")
        fill(AuditLog(database, Keys(state_dir), state_dir), 2)
        assert not note.exists()
        with pytest.raises(AuditBroken, match=r"audit\.head is gone"):
            verified()

    @pytest.mark.parametrize("kind", ["postgres"], indirect=True)
    def test_another_machine_begins_one_of_its_own(
        self, raw: Raw, database: Database, tmp_path: Path, state_dir: Path, filled: AuditLog
    ) -> None:
        elsewhere = tmp_path / "elsewhere"
        shutil.copytree(state_dir, elsewhere, ignore=shutil.ignore_patterns("*.head"))
        other = AuditLog(database, Keys(elsewhere), elsewhere)
        assert verify(other).noted is None
        fill(other, 1)
        fill(filled, 1)
        assert (verify(other).noted, verify(filled).noted) == (COUNT + 1, COUNT + 2)
        raw("DELETE FROM audit WHERE seq > 11")
        assert verify(other).records == COUNT + 1, "as far as this machine knows"
        with pytest.raises(AuditBroken, match="record 12 is missing"):
            verify(filled)

    @pytest.mark.parametrize("kind", ["postgres"], indirect=True)
    def test_the_databases_that_a_machine_uses_have_one_each(
        self, state_dir: Path, note: Path, filled: AuditLog
    ) -> None:
        with closing(Database.open(state_dir)) as own:
            audit_log = AuditLog(own, Keys(state_dir), state_dir)
            fill(audit_log, 3)
            assert (verify(audit_log).noted, verify(filled).noted) == (3, COUNT)
            assert audit_log.checkpoint_file.path != note

    @pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
    def test_an_older_copy_of_the_database_beside_it_is_found(
        self, state_dir: Path, database: Database, filled: AuditLog
    ) -> None:
        database.close()  # which brings all of it into the one file
        shutil.copy(state_dir / FILE, state_dir / "copy")
        fill(filled, 3)
        database.close()
        (state_dir / "copy").replace(state_dir / FILE)
        with closing(Database.open(state_dir)) as restored:
            audit_log = AuditLog(restored, Keys(state_dir), state_dir)
            with pytest.raises(AuditBroken, match="records 11 to 13 are missing"):
                verify(audit_log)

    def test_one_that_was_never_written_after_the_first_record_is_no_harm(
        self, note: Path, audit_log: AuditLog, verified: Callable[[], Verified]
    ) -> None:
        """Killed between the first record and its checkpoint."""
        with audit_log.changing() as change:
            audit_log.checkpoint_file.replace(Checkpoint(), change.key)
        assert verified().records == COUNT


class TestAccept:
    @pytest.fixture
    def cut(self, raw: Raw, filled: AuditLog) -> Iterator[AuditLog]:
        raw("DELETE FROM audit WHERE seq > 6")
        return filled

    def test_the_end_is_taken_as_it_is_and_a_record_says_so(
        self, raw: Raw, cut: AuditLog, verified: Callable[[], Verified]
    ) -> None:
        assert cut.accept() == verified().head
        assert raw("SELECT seq, kind, detail FROM audit ORDER BY seq DESC")[0] == (
            7,
            "audit.accepted",
            '{"noted":10,"found":6}',
        )

    def test_what_comes_after_it_is_noted_again(
        self, raw: Raw, cut: AuditLog, verified: Callable[[], Verified]
    ) -> None:
        cut.accept()
        fill(cut, 2)
        assert verified().noted == 9
        raw("DELETE FROM audit WHERE seq = 9")
        with pytest.raises(AuditBroken, match="record 9 is missing"):
            verified()

    def test_an_edited_record_is_not_made_good_by_it(
        self, raw: Raw, cut: AuditLog, verified: Callable[[], Verified]
    ) -> None:
        raw("UPDATE audit SET rule = 'other' WHERE seq = 4")
        cut.accept()
        with pytest.raises(AuditBroken, match="record 4 is not as it was written"):
            verified()


class TestAHeadKeptElsewhere:
    def test_one_that_is_part_of_the_record_passes(self, filled: AuditLog) -> None:
        seen = verify(filled).head
        fill(filled, 3)
        assert verify(filled, seen).records == COUNT + 3

    def test_it_shows_that_everything_was_put_back(self, raw: Raw, state_dir: Path, filled: AuditLog) -> None:
        note = filled.checkpoint_file.path.read_bytes()
        fill(filled, 3)
        seen = verify(filled).head
        raw("DELETE FROM audit WHERE seq > 10")
        filled.checkpoint_file.path.write_bytes(note)
        assert verify(filled).records == COUNT, "nothing on this machine shows it"
        with pytest.raises(AuditBroken, match="records 11 to 13 are missing"):
            verify(filled, seen)

    def test_one_of_another_record_does_not_pass(self, filled: AuditLog) -> None:
        with pytest.raises(AuditBroken, match="record 5 differs from its checkpoint"):
            verify(filled, Checkpoint(5, bytes(32)))
