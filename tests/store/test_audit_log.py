"""A record is stored when `record` returns; otherwise it raises."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from host.core.audit import Event
from host.errors import AuditError, StateError
from host.store import database as module
from host.store.audit_log.chain import CheckpointFile
from host.store.audit_log.log import AuditLog, Change
from host.store.audit_log.records import records
from host.store.audit_log.verification import verify
from host.store.database import FILE, Database
from host.store.group_commit import GroupCommit
from host.store.sql import func, select
from host.store.tables import audit, rules
from host.store.vault.keys import Keys

Raw = Callable[..., list[Any]]


def count(audit_log: AuditLog) -> int:
    with audit_log.database.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(audit)).scalar_one())


def test_a_record_comes_back_as_it_went_in(audit_log: AuditLog, database: Database) -> None:
    event = Event(
        "http.request", "run_1", "deny", "domain not granted", {"url": "https://é.example", "n": [1, None]}, 12.5
    )
    audit_log.record(event)
    [found] = records(database)
    assert (found.seq, len(found.mac)) == (1, 64)
    assert (found.kind, found.run, found.decision, found.rule, found.detail, found.at) == (
        event.kind, event.run, event.decision, event.rule, event.detail, event.at,
    )  # fmt: skip


def test_what_no_database_can_hold_is_recorded_without_it(audit_log: AuditLog, database: Database) -> None:
    audit_log.record(Event("http.request", "run_1", "deny", "a\0b\ud800c", {"url": "a\0b\ud800c"}))
    [found] = records(database)
    assert found.rule == "a\ufffdb\ufffdc"
    assert found.detail == {"url": "a\0b\ufffdc"}
    assert verify(audit_log).records == 1


def test_several_records_at_once_are_one_after_the_other_in_the_chain(audit_log: AuditLog, database: Database) -> None:
    audit_log.record(Event("run.started", "run_1"))
    audit_log.record_all([Event("http.request", "run_1", "allow"), Event("secret.use", "run_1", "allow")])
    assert [(one.seq, one.kind) for one in records(database)] == [
        (1, "run.started"), (2, "http.request"), (3, "secret.use"),
    ]  # fmt: skip
    assert verify(audit_log).records == 3


def test_several_records_are_kept_all_or_none(audit_log: AuditLog) -> None:
    given = [Event("http.request", "run_1", "allow"), Event("secret.use", "run_1", detail={"set": {1}})]
    with pytest.raises(TypeError):
        audit_log.record_all(given)
    with pytest.raises(ValueError, match="is a change"):
        audit_log.record_all([given[0], Event("secret.set", "")])
    assert count(audit_log) == 0


def test_a_change_and_its_record_are_kept_together(audit_log: AuditLog, raw: Raw) -> None:
    with audit_log.changing() as change:
        change.insert(rules, namespace="local", require_signature=True, threshold=1)
        change.record(Event("trust.ruled", ""))
    assert (len(raw("SELECT * FROM rules")), count(audit_log)) == (1, 1)


def test_a_change_that_fails_is_taken_back_with_its_record(audit_log: AuditLog, raw: Raw) -> None:
    def fails(change: Change) -> None:
        change.insert(rules, namespace="local", require_signature=True, threshold=1)
        change.record(Event("trust.ruled", ""))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), audit_log.changing() as change:
        fails(change)
    assert (len(raw("SELECT * FROM rules")), count(audit_log)) == (0, 0)
    audit_log.record(Event("log", ""))
    assert verify(audit_log).records == 1


def test_what_is_no_json_is_nobody_elses_trouble(audit_log: AuditLog) -> None:
    with pytest.raises(TypeError):
        audit_log.record(Event("log", "", detail={"bytes": b""}))
    audit_log.record(Event("log", ""))
    assert verify(audit_log).records == 1


class TestRecordsOfManyThreads:
    """Threads share transactions."""

    @pytest.fixture
    def held(self, audit_log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[int], threading.Event]]:
        """The first transaction waits for the event. The list has the number of records in each."""
        batches: list[int] = []
        goes_on = threading.Event()
        append = Change.append

        def waits(change: Change, rows: list[dict[str, Any]]) -> None:
            batches.append(len(rows))
            assert goes_on.wait(60)
            append(change, rows)

        monkeypatch.setattr(Change, "append", waits)
        monkeypatch.setattr(GroupCommit.submit, "__defaults__", (60.0,))
        yield batches, goes_on
        goes_on.set()

    def start(self, audit_log: AuditLog, number: int, ended: list[BaseException | None]) -> list[threading.Thread]:
        def work(name: str) -> None:
            try:
                audit_log.record(Event("log", name))
                ended.append(None)
            except AuditError as error:
                ended.append(error)

        threads = [threading.Thread(target=work, args=(f"run_{index}",)) for index in range(number)]
        for thread in threads:
            thread.start()
        return threads

    def until(self, true: Callable[[], bool]) -> None:
        for _ in range(6_000):  # a minute
            if true():
                return
            time.sleep(0.01)
        raise AssertionError("it never came to be so")

    def test_those_that_come_meanwhile_are_written_together(
        self, audit_log: AuditLog, held: tuple[list[int], threading.Event]
    ) -> None:
        batches, goes_on = held
        ended: list[BaseException | None] = []
        threads = self.start(audit_log, 1, ended)
        self.until(lambda: bool(batches))
        threads += self.start(audit_log, 19, ended)
        self.until(lambda: len(audit_log._appends._queue) == 19)
        assert ended == [], "nobody returns before the record is kept"
        goes_on.set()
        for thread in threads:
            thread.join(60)
        assert ended == [None] * 20
        assert batches == [1, 19]
        assert verify(audit_log).records == 20

    def test_those_whose_transaction_fails_are_all_told(
        self, audit_log: AuditLog, held: tuple[list[int], threading.Event], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batches, goes_on = held
        ended: list[BaseException | None] = []
        threads = self.start(audit_log, 1, ended)
        self.until(lambda: bool(batches))
        threads += self.start(audit_log, 4, ended)
        self.until(lambda: len(audit_log._appends._queue) == 4)
        monkeypatch.setattr(CheckpointFile, "advance", fails)
        goes_on.set()
        for thread in threads:
            thread.join(60)
        assert len({id(error) for error in ended}) == 5, "an error each: a traceback belongs to one thread"
        assert {str(error) for error in ended} == {"the record cannot be written: ZeroDivisionError"}
        monkeypatch.undo()
        audit_log.record(Event("log", "run_after"))

    def test_none_is_lost_and_none_is_written_twice(self, audit_log: AuditLog, database: Database) -> None:
        def work(thread: int) -> None:
            for index in range(40):
                audit_log.record(Event("log", f"run_{thread}_{index}"))

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        found = [record.run for record in records(database)]
        assert sorted(found) == sorted(f"run_{thread}_{index}" for thread in range(8) for index in range(40))
        assert verify(audit_log).noted == 320


def fails(*arguments: object, **named: object) -> None:
    raise ZeroDivisionError


RECORDS = """
import sys
from pathlib import Path
from host.core.audit import Event
from host.store import database as module, group_commit
from host.store.database import Database
from host.store.audit_log.log import AuditLog
from host.store.vault.keys import Keys
module._BUSY_S = group_commit._BATCH_S = 60.0  # a busy machine lets one stand still that writes
group_commit.GroupCommit.submit.__defaults__ = (60.0,)
folder = Path(sys.argv[1])
database = Database.open(folder, sys.argv[2] or None)
journal = AuditLog(database, Keys(folder), folder)
for index in range(200):
    journal.record(Event("log", f"{sys.argv[3]}_{index}"))
database.close()
"""


def test_processes_that_record_at_once_lose_nothing(
    audit_log: AuditLog, database: Database, state_dir: Path, database_url: str | None
) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", RECORDS, state_dir, database_url or "", name])
        for name in ("one", "two")
    ]
    assert [process.wait(300) for process in processes] == [0, 0]
    found = [record.run for record in records(database)]
    assert sorted(found) == sorted(f"{name}_{index}" for name in ("one", "two") for index in range(200))
    assert verify(audit_log).noted == 400


class TestARecordThatCannotBeWritten:
    """AuditError within a time limit. The next record after the recovery is stored."""

    @pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
    def test_because_the_disk_is_full(self, audit_log: AuditLog, state_dir: Path) -> None:
        audit_log.record(Event("log", ""))
        with (
            files_no_larger_than((state_dir / f"{FILE}-wal").stat().st_size),
            pytest.raises(AuditError, match="cannot be written"),
        ):
            audit_log.record(Event("log", "", detail={"text": "x" * 10_000}))
        audit_log.record(Event("log", ""))
        assert verify(audit_log).records == 2

    def test_because_the_head_cannot_be_noted(self, audit_log: AuditLog) -> None:
        audit_log.record(Event("log", ""))
        note = audit_log.checkpoint_file.path
        kept = note.read_bytes()
        note.unlink()
        note.mkdir()
        with pytest.raises(AuditError, match=r"\.head' cannot be read or written"):
            audit_log.record(Event("log", ""))
        note.rmdir()
        note.write_bytes(kept)
        audit_log.record(Event("log", ""))
        assert verify(audit_log).records == 2

    @pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
    def test_because_the_file_may_only_be_read(self, audit_log: AuditLog, database: Database) -> None:
        audit_log.record(Event("log", ""))
        with database.reading() as connection:
            connection.execute("PRAGMA query_only = ON")
        with pytest.raises(AuditError, match="readonly"):
            audit_log.record(Event("log", ""))

    def test_because_another_process_does_not_end_its_transaction(
        self, state_dir: Path, database_url: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_BUSY_S", 0.2)
        with closing(Database.open(state_dir, database_url)) as database:
            audit_log = AuditLog(database, Keys(state_dir), state_dir)
            audit_log.record(Event("log", ""))
            with somebody_writing(state_dir, database_url), pytest.raises(AuditError, match="cannot be written"):
                audit_log.record(Event("log", ""))
            audit_log.record(Event("log", ""))
            assert verify(audit_log).records == 2

    def test_because_another_thread_does_not_end_its_change(
        self, audit_log: AuditLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_BUSY_S", 0.2)
        ended: list[StateError] = []

        def work() -> None:
            with pytest.raises(AuditError, match="another write of this process") as caught:
                audit_log.record(Event("log", ""))
            ended.append(caught.value)

        with audit_log.changing():
            thread = threading.Thread(target=work)
            thread.start()
            thread.join(60)
        assert len(ended) == 1

    def test_because_the_database_is_gone(self, audit_log: AuditLog, raw: Raw) -> None:
        audit_log.record(Event("log", ""))
        raw("DROP TABLE audit")
        with pytest.raises(AuditError, match="cannot be written"):
            audit_log.record(Event("log", ""))


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Simulates a full disk: writes past the limit fail (setrlimit(2))."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def somebody_writing(state_dir: Path, database_url: str | None) -> Iterator[None]:
    if database_url is None:
        with closing(sqlite3.connect(state_dir / FILE, isolation_level=None)) as lite:
            lite.execute("BEGIN IMMEDIATE")
            yield
    else:
        with psycopg.connect(database_url) as connection:
            connection.execute(f"SELECT pg_advisory_xact_lock({module._WRITERS})")
            yield
