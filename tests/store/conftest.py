"""A state for each test, on both databases: a test with `workspace`, or a part of one, runs on each."""

from __future__ import annotations

import functools
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from host.runtime.workspace import Workspace
from host.store.audit_log.log import AuditLog
from host.store.components import Components
from host.store.database import FILE, Database
from host.store.group_commit import GroupCommit
from host.store.vault.keys import Keys
from tests.store.postgres import PATIENCE_S, TEMPLATE, Postgres, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for each test process, with one migrated database."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def migrated(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database of `postgres` to copy, which is twice as fast as another migration."""
    url = postgres.create()
    Database.open(tmp_path_factory.mktemp("template"), url).close()
    postgres.rename(url, TEMPLATE)
    return TEMPLATE


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST_MASTER_KEY", "HOST_DATABASE", "HOST_SECRETS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has the database may stand still for longer, on a busy machine, than others wait for it."""
    monkeypatch.setattr(GroupCommit.submit, "__defaults__", (PATIENCE_S,))
    for name in ("group_commit.ANSWER_S", "group_commit._BATCH_S", "database._BUSY_S"):
        monkeypatch.setattr(f"host.store.{name}", float(PATIENCE_S))


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A state directory that does not exist yet."""
    return tmp_path / "state"


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of database."""
    return str(request.param)


@pytest.fixture
def empty_url(kind: str, request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The URL of a database without tables; None for a file in `state_dir`."""
    if kind == "sqlite":
        yield None
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture
def database_url(kind: str, request: pytest.FixtureRequest) -> Iterator[str | None]:
    """HOST_DATABASE for a process that shares the state; None for a file in `state_dir`."""
    if kind == "sqlite":
        yield None
        return
    server: Postgres = request.getfixturevalue("postgres")
    request.getfixturevalue("migrated")
    with server.migrated() as url:
        yield url


@functools.cache
def _migrated_file() -> Path:
    folder = Path(tempfile.mkdtemp())
    Database.open(folder).close()
    return folder / FILE


def _begin(state_dir: Path, url: str | None) -> None:
    """Put a migrated database into a state directory that has none: five times as fast as migrating another."""
    if url is None and not state_dir.exists():
        state_dir.mkdir(mode=0o700)
        shutil.copy(_migrated_file(), state_dir / FILE)


@pytest.fixture
def database(state_dir: Path, database_url: str | None) -> Iterator[Database]:
    _begin(state_dir, database_url)
    with closing(Database.open(state_dir, database_url)) as opened:
        yield opened


@pytest.fixture
def keys(state_dir: Path, database: Database) -> Keys:
    del database  # which makes the folder
    return Keys(state_dir)


@pytest.fixture
def audit_log(database: Database, keys: Keys, state_dir: Path) -> AuditLog:
    return AuditLog(database, keys, state_dir)


@pytest.fixture
def raw(state_dir: Path, database: Database, database_url: str | None) -> Iterator[Callable[..., list[Any]]]:
    """`raw("UPDATE … WHERE seq = ?", 3)`: a statement to the database itself, as an attacker would send it,
    without foreign keys and our transactions. Returns the rows."""
    del database  # which makes it
    if database_url is None:
        with closing(sqlite3.connect(state_dir / FILE, isolation_level=None)) as lite:
            yield lambda statement, *values: lite.execute(statement, values).fetchall()
    else:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")

            def execute(statement: str, *values: Any) -> list[Any]:
                cursor = connection.execute(statement.replace("?", "%s"), values)
                return cursor.fetchall() if cursor.description else []

            yield execute


@pytest.fixture
def workspace(state_dir: Path, database_url: str | None) -> Iterator[Workspace]:
    """The same state, opened again as by another command."""
    _begin(state_dir, database_url)
    with Workspace.open(state_dir, database_url) as opened:
        yield opened


@pytest.fixture
def installed(workspace: Workspace) -> Components:
    return workspace.components
