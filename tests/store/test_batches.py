"""What is kept of batches: for its owner alone, sealed, and gone when its time is over."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from host.errors import StateError
from host.store.access.batches import PIECE_BYTES, Batches, KeptBatch, KeptFile, with_facts
from host.store.database import Database
from host.store.sql import select, update
from host.store.tables import batch_files, batch_pieces, batches
from host.store.vault.keys import Keys


@pytest.fixture
def kept(database: Database) -> Batches:
    return Batches(database, Keys(database.state_dir))


def file(ident: str = "file-1", owner: str = "one", size: int = 0, lasts_s: float = 100.0) -> KeptFile:
    now = time.time()
    return KeptFile(ident, owner, size, now, now + lasts_s, {"purpose": "batch"})


def batch(ident: str = "batch-1", owner: str = "one") -> KeptBatch:
    now = time.time()
    return KeptBatch(ident, owner, False, now, now + 100, {"status": "validating", "input_file_id": "file-in"})


def begin(kept: Batches, one: KeptBatch) -> None:
    kept.add_file(file("file-in"), b"")
    kept.add(one)


def test_a_file_comes_back_in_pieces_for_its_owner_alone(kept: Batches) -> None:
    content = bytes(range(256)) * (PIECE_BYTES // 100)
    kept.add_file(file(size=len(content)), content)
    assert b"".join(piece for _, piece in kept.pieces("file-1")) == content
    assert max(len(piece) for _, piece in kept.pieces("file-1")) == PIECE_BYTES
    assert kept.size_of("file-1") == (len(content), len(content) // PIECE_BYTES + 1)
    assert len(content) < kept.held("one").bytes < len(content) + 500
    assert [one.id for one in kept.files("one", most=9)] == ["file-1"]
    assert kept.file("one", "file-1") is not None
    assert kept.file("other", "file-1") is None
    assert not kept.delete_file("other", "file-1")
    assert kept.delete_file("one", "file-1")
    assert list(kept.pieces("file-1")) == []


def test_answers_are_added_with_the_change_that_counts_them_and_never_twice(kept: Batches) -> None:
    begin(kept, batch())
    for text in (b"first", b"second"):
        kept.change("batch-1", lambda one: with_facts(one, status="in_progress"), answers={"out": [(7, text)]})
    assert list(kept.pieces("out")) == [(7, b"first")]
    assert list(kept.positions(["out", "err"])) == [7]
    assert kept.open_batches() == [("batch-1", "one")]
    found = kept.get("batch-1", "one")
    assert found is not None
    assert found.facts["status"] == "in_progress"
    assert kept.get("batch-1", "other") is None


def test_a_failed_change_keeps_no_answer(kept: Batches) -> None:
    def fails(_: KeptBatch) -> KeptBatch:
        raise StateError("no")

    begin(kept, batch())
    with pytest.raises(StateError):
        kept.change("batch-1", fails, answers={"out": [(1, b"text")]})
    assert list(kept.pieces("out")) == []


@pytest.mark.parametrize(
    ("table", "values"),
    [
        pytest.param(batches, {"owner": "two"}, id="a batch of another key"),
        pytest.param(batches, {"ended": True}, id="a batch that has ended"),
        pytest.param(batches, {"id": "batch-2"}, id="a batch by another name"),
        pytest.param(batches, {"sealed": b"x" * 40}, id="other facts"),
        pytest.param(batch_files, {"owner": "two"}, id="a file of another key"),
        pytest.param(batch_files, {"bytes": 1}, id="another size"),
        pytest.param(batch_pieces, {"position": 5}, id="a piece in another place"),
        pytest.param(batch_pieces, {"file": "file-2"}, id="a piece of another file"),
    ],
)
def test_a_row_that_somebody_changed_does_not_open(
    kept: Batches, database: Database, table: Any, values: dict[str, Any]
) -> None:
    begin(kept, batch())
    kept.add_file(file(size=4), b"text")
    with database.writing() as connection:
        connection.execute(update(table).values(**values))
    with pytest.raises(StateError, match="was changed"):
        read_all(kept)


def read_all(kept: Batches) -> None:
    for owner in ("one", "two"):
        kept.of_owner(owner, most=9)
        kept.files(owner, most=9)
    for name in ("file-1", "file-2"):
        list(kept.pieces(name))


def test_nothing_is_in_plain_text(kept: Batches, database: Database) -> None:
    begin(kept, with_facts(batch(), metadata={"name": "plain"}))
    kept.add_file(file(size=5), b"plain")
    with database.reading() as connection:
        for table in (batches, batch_files, batch_pieces):
            for row in connection.execute(select(table)):
                assert b"plain" not in bytes(row.sealed)


def test_what_has_expired_is_gone_with_its_contents(kept: Batches, database: Database) -> None:
    kept.add_file(file("old", size=1, lasts_s=-1.0), b"o")
    kept.add_file(file("new", size=1), b"n")
    assert [one.id for one in kept.files("one", most=9)] == ["new"]
    kept.sweep()
    with database.reading() as connection:
        assert list(connection.execute(select(batch_pieces.c.file)).scalars()) == ["new"]


def test_another_process_goes_on_with_what_one_has_kept(kept: Batches, database: Database, tmp_path: Path) -> None:
    begin(kept, batch())
    again = Batches(database, Keys(database.state_dir))
    assert again.get("batch-1") == kept.get("batch-1")
