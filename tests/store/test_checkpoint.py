"""The checkpoint file: the newest known record of the audit log."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from host.errors import AuditError
from host.store.audit_log import chain
from host.store.audit_log.chain import Checkpoint, CheckpointFile, StoredCheckpoint
from host.store.vault.keys import DataKey

KEY = DataKey("audit-0011223344556677", bytes(range(32)))
FIRST, SECOND = Checkpoint(1, b"\1" * 32), Checkpoint(2, b"\2" * 32)


@pytest.fixture
def file(tmp_path: Path) -> CheckpointFile:
    return CheckpointFile(tmp_path)


def noted(file: CheckpointFile) -> Checkpoint:
    note = file.read()
    assert note is not None
    assert note.authentic(KEY)
    return note.checkpoint


def test_what_was_noted_is_read(file: CheckpointFile) -> None:
    assert file.read() is None
    file.replace(FIRST, KEY)
    assert noted(file) == FIRST


def test_it_moves_forward_only(file: CheckpointFile) -> None:
    file.replace(FIRST, KEY)
    file.advance(SECOND, KEY)
    file.advance(FIRST, KEY)
    assert noted(file) == SECOND
    file.replace(FIRST, KEY)
    assert noted(file) == FIRST, "unless it is replaced"


def test_it_is_not_made_by_moving_forward(file: CheckpointFile, tmp_path: Path) -> None:
    file.advance(FIRST, KEY)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_a_word_is_as_none(file: CheckpointFile, tmp_path: Path) -> None:
    file.path.touch()
    assert file.read() is None
    file.advance(FIRST, KEY)
    assert file.read() is None


def test_what_somebody_left_behind_the_line_is_no_part_of_it(file: CheckpointFile, tmp_path: Path) -> None:
    file.path.write_text("x" * 1_000)
    assert file.read() == StoredCheckpoint()
    file.replace(FIRST, KEY)
    assert noted(file) == FIRST


@pytest.mark.parametrize(
    "note",
    [
        pytest.param(
            lambda one: StoredCheckpoint(Checkpoint(2, one.checkpoint.mac), one.key, one.tag), id="another number"
        ),
        pytest.param(lambda one: StoredCheckpoint(Checkpoint(1, SECOND.mac), one.key, one.tag), id="another mac"),
        pytest.param(lambda one: StoredCheckpoint(one.checkpoint, one.key, bytes(32)), id="another tag"),
        pytest.param(lambda one: StoredCheckpoint(one.checkpoint, one.key, b""), id="no tag"),
        pytest.param(lambda one: StoredCheckpoint(), id="nothing"),
    ],
)
def test_one_that_was_changed_is_not_authentic(file: CheckpointFile, note: object) -> None:
    file.replace(FIRST, KEY)
    assert callable(note)
    assert not note(file.read()).authentic(KEY)


def test_it_is_not_authentic_under_another_key(file: CheckpointFile) -> None:
    file.replace(FIRST, DataKey(KEY.id, bytes(32)))
    note = file.read()
    assert note is not None
    assert not note.authentic(KEY)


def test_every_line_has_the_same_length_so_that_one_covers_another(file: CheckpointFile, tmp_path: Path) -> None:
    lengths = set()
    for seq in (0, 1, 10**12):
        file.replace(Checkpoint(seq, bytes(32)), KEY)
        lengths.add(file.path.stat().st_size)
    [length] = lengths
    assert length < 512, "what a disk writes as a whole"


def test_nobody_else_can_read_it(file: CheckpointFile, tmp_path: Path) -> None:
    file.replace(FIRST, KEY)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_a_process_that_was_stopped_over_it_is_not_waited_for_without_end(
    file: CheckpointFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "_LOCK_TIMEOUT_S", 0.05)
    file.replace(FIRST, KEY)
    other = os.open(file.path, os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(AuditError, match="cannot be read or written"):
        file.advance(SECOND, KEY)
    os.close(other)
    file.advance(SECOND, KEY)
    assert noted(file) == SECOND
