"""A process that is killed (SIGKILL) at any point leaves a state that opens and an audit log that verifies, with every
record that it reported as stored."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from host.store.audit_log.log import AuditLog
from host.store.audit_log.records import Wanted, records
from host.store.audit_log.verification import Verified, verify
from host.store.database import Database
from host.store.sql import select
from host.store.tables import rules
from host.store.vault.keys import Keys
from tests.conftest import ROOT
from tests.store.postgres import Postgres

ROUNDS = 20

Killed = Callable[..., list[str]]


@pytest.fixture
def state_dir(on_disk: Path) -> Path:
    """On the disk: a process's end must find there what it has written."""
    return on_disk / "state"


@pytest.fixture
def killed() -> Iterator[Killed]:
    """`killed(state_dir, url, work, kept, after_s)`: everything that a process reported as stored, before it was killed
    some time after the report number `kept`. See tests.store.writer."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.store.writer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        to, out = program.stdin, program.stdout

        def once(state_dir: Path, url: str | None, work: str, kept: int, after_s: float) -> list[str]:
            given = {"state_dir": str(state_dir), "url": url, "work": work, "kept": kept, "after_s": after_s}
            to.write(json.dumps(given) + "\n")
            to.flush()
            said = json.loads(out.readline())
            assert isinstance(said, list)
            return said

        yield once
        to.close()
        assert program.wait(60) == 0


def opened(state_dir: Path, url: str | None) -> tuple[Verified, set[str], set[str], set[str]]:
    """Another process's view: the verified log, its runs, the rules according to the log, and the stored rules."""
    with closing(Database.open(state_dir, url)) as database:
        verified = verify(AuditLog(database, Keys(state_dir), state_dir))
        runs = {record.run for record in records(database)}
        said = {record.run for record in records(database, Wanted(kind="trust.ruled"))}
        with database.reading() as connection:
            return verified, runs, said, set(connection.execute(select(rules.c.namespace)).scalars())


def test_what_was_acknowledged_is_there_whenever_it_is_killed(
    state_dir: Path, database_url: str | None, killed: Killed
) -> None:
    moments = random.Random(1)
    kept: set[str] = set()
    for _ in range(ROUNDS):
        kept |= set(killed(state_dir, database_url, "write", moments.randrange(20), moments.uniform(0, 0.02)))
        _, runs, said, ruled = opened(state_dir, database_url)
        assert kept <= runs
        assert said == ruled, "a change without its record, or a record without its change"


def test_pruning_leaves_a_record_that_verifies_whenever_it_is_killed(
    state_dir: Path, database_url: str | None, killed: Killed
) -> None:
    moments = random.Random(2)
    pruned = [0]
    for _ in range(ROUNDS // 2):
        killed(state_dir, database_url, "let_go", moments.randrange(4), moments.uniform(0, 0.02))
        verified, *_ = opened(state_dir, database_url)
        pruned.append(verified.pruned_through)
    assert pruned == sorted(pruned)
    assert pruned[-1] > 0


def test_a_state_that_is_being_made_can_be_made_whenever_it_is_killed(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest, killed: Killed
) -> None:
    moments = random.Random(3)
    server: Postgres | None = request.getfixturevalue("postgres") if kind == "postgres" else None
    for number in range(ROUNDS // 2):
        url = server.create() if server else None
        kept = set(killed(tmp_path / str(number), url, "write", 0, moments.uniform(0, 0.15)))
        _, runs, said, ruled = opened(tmp_path / str(number), url)
        assert kept <= runs
        assert said == ruled
        if server and url:
            server.drop(url)
