"""Where the state is kept: SQLite in a file of the state directory, or PostgreSQL by URL. One writer at a time on
either, so that what is read in a write transaction stays true until it ends.

Rows whose counts are added to those that are there: one statement on either database, which differ in the words.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import sqlalchemy
from sqlalchemy import Connection, Engine, Table, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from host.errors import InputError, StateError
from host.store import migrations

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import PoolProxiedConnection


FILE = "state.db"
_WRITERS = 0x6361_7461_6C79_7374  # the advisory lock of PostgreSQL that every writer takes: "catalyst"
_BUSY_S = 5.0  # how long a writer waits for the others, of this process and of others each


class Database:
    """One per process, thread-safe. `writing` and `reading` are transactions; both raise StateError, which has no
    part of the URL's password. To be closed.

    `shared` says that other machines may use it: files of this one are no place for what they need too. `name` is ""
    for the one in the state directory, and tells others apart. `quick` is whether there is `appending`."""

    def __init__(self, engine: Engine, name: str = "") -> None:
        self.name = name
        self.shared = bool(name)
        self.quick = engine.dialect.name == "sqlite"
        self._engine = engine
        self._around = threading.local()
        self._appender: PoolProxiedConnection | None = None
        self._writers = threading.Lock()  # in turn, where SQLite would have them try again and again

    @classmethod
    def open(cls, state_dir: Path, url: str | None = None) -> Database:
        """The database at `url`, or the one in `state_dir`, made and migrated where that is needed. Raises InputError
        for a URL of another kind, StateError."""
        make_private(state_dir)
        engine = _postgres(url) if url else _sqlite(state_dir / FILE)
        database = cls(engine, _name(engine.url) if url else "")
        try:
            database._migrate()
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[Connection]:
        """A transaction that nobody else writes beside: committed at the end, rolled back for any exception. Not to be
        opened inside another. Once it is `durable`, it and all before it outlive a loss of power; any other outlives
        this process."""
        with self._alone(), _told(), self._engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _WRITERS})
            yield connection
            connection.commit()

    @contextmanager
    def appending(self) -> Iterator[sqlite3.Connection]:
        """`writing(durable=False)` for what is written several times in every run: on a connection of its own, which is
        kept, and without what SQLAlchemy does around each statement. Where `quick`."""
        with self._alone(), _told():
            if self._appender is None:
                self._appender = self._engine.raw_connection()
                connection = cast("sqlite3.Connection", self._appender.driver_connection)
                connection.execute("PRAGMA synchronous=NORMAL").close()
            connection = cast("sqlite3.Connection", self._appender.driver_connection)
            try:
                connection.execute("BEGIN IMMEDIATE").close()
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()  # also where it could not be committed: the next one begins its own
                raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state throughout: inside a snapshot, that one's."""
        if (around := getattr(self._around, "connection", None)) is not None:
            yield around
            return
        with _told(), self._engine.connect() as connection:
            connection.exec_driver_sql(
                "BEGIN"
                if connection.dialect.name == "sqlite"
                else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
            )
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Inside, whatever this thread reads, it reads in one transaction."""
        with self.reading() as connection:
            before = getattr(self._around, "connection", None)
            self._around.connection = connection
            try:
                yield connection
            finally:
                self._around.connection = before

    def close(self) -> None:
        if self._appender is not None:
            self._appender.close()
            self._appender = None
        self._engine.dispose()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._writers.acquire(timeout=_BUSY_S):
            raise StateError("the state's database is busy: another write of this process does not end")
        try:
            yield
        finally:
            self._writers.release()

    def _migrate(self) -> None:
        with self.reading() as connection:
            found = migrations.version(connection)
        if found != migrations.NEWEST:
            with self.writing() as connection:  # whoever comes first does it; the others find it done
                migrations.upgrade(connection)


def make_private(folder: Path) -> None:
    """The folder `folder`, for this user alone where it is made here. Raises StateError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"cannot make {str(folder)!r}: {error.strerror}", hint="HOST_STATE_DIR names another"
        ) from None


def _sqlite(file: Path) -> Engine:
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite gives its journals the same mode
    except OSError as error:
        raise StateError(f"cannot open {str(file)!r}: {error.strerror}") from None
    engine = sqlalchemy.create_engine(
        URL.create("sqlite", database=str(file)),
        connect_args={"timeout": _BUSY_S, "check_same_thread": False, "isolation_level": None},
        hide_parameters=True,
    )
    event.listen(engine, "connect", _configure_sqlite)
    return engine


def _configure_sqlite(connection: sqlite3.Connection, record: object) -> None:
    """WAL: readers and the writer do not wait for each other. What is deleted is overwritten; nothing in the file can
    call a function.

    With synchronous=NORMAL a process that is killed loses nothing that was committed; a machine that loses power may
    lose the commits of the last seconds, never more than the end of them, and the file opens
    (https://sqlite.org/pragma.html#pragma_synchronous). Verification of the audit log then finds records missing."""
    del record
    _into_wal(connection)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON", "trusted_schema=OFF"):
        connection.execute(f"PRAGMA {pragma}").close()


def _into_wal(connection: sqlite3.Connection) -> None:
    """For good, the first time. Two that do it to a new file at once would wait for each other, so SQLite tells one of
    them at once that the file is locked; a moment later it is done."""
    until = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.005)
        else:
            return


def _postgres(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        raise InputError("the database's URL cannot be read", field="HOST_DATABASE", hint=_URL_HINT) from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise InputError(
            f"the database's URL begins with {parsed.drivername}://", field="HOST_DATABASE", hint=_URL_HINT
        )
    try:
        engine = sqlalchemy.create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                "connect_timeout": 10,
                "tcp_user_timeout": round(_BUSY_S * 1000),  # for a server that has gone without a word
                "application_name": "catalyst-host",
            },
        )
    except (NoSuchModuleError, ModuleNotFoundError):
        raise StateError(
            "PostgreSQL needs psycopg, which is not installed", hint="pip install 'catalyst-host[postgres]'"
        ) from None
    event.listen(engine, "connect", _configure_postgres)
    return engine


def _name(url: URL) -> str:
    """Of where it is, and not of who connects."""
    place = [url.host or url.query.get("host"), url.port or url.query.get("port"), url.database]
    return hashlib.sha256(json.dumps(place).encode()).hexdigest()[:12]


def _configure_postgres(connection: psycopg.Connection, record: object) -> None:
    del record
    connection.execute(f"SET lock_timeout = {round(_BUSY_S * 1000)}")
    connection.commit()


_URL_HINT = "like postgresql://user:password@host/name; without one, the state is a file in HOST_STATE_DIR"


@contextmanager
def _told() -> Iterator[None]:
    """The database's errors as StateError. Their own words go along where they hold nothing that was sent to it."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        cause: Any = getattr(error, "orig", None) or error
        said = " ".join(str(cause).split())[:300] if isinstance(cause, sqlite3.Error) else type(cause).__name__
        raise StateError(f"the state's database failed: {said}", hint=_remedy(cause)) from error


def _remedy(cause: object) -> str | None:
    if isinstance(cause, sqlite3.Error):
        match getattr(cause, "sqlite_errorcode", 0) & 0xFF:  # the rest says more of the same
            case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_FULL:
                return "is the disk of HOST_STATE_DIR full?"
            case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
                return f"put back a backup of {FILE}, or name another place with HOST_STATE_DIR"
    elif getattr(cause, "sqlstate", "") is None:  # the server has said nothing: there was no connection
        return 'psql "$HOST_DATABASE" says why it cannot be connected to'
    return None


_INSERTS: Final[Mapping[str, Callable[[Table], sqlite.Insert | postgresql.Insert]]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


def adding(table: Table, place: Sequence[str], counts: Sequence[str]) -> Mapping[str, Any]:
    """By the name of the dialect, the statement that inserts a row, or adds its `counts` to the row with the same
    `place`, the table's primary key."""
    statements = {}
    for dialect, insert in _INSERTS.items():
        statement = insert(table)
        added = {name: table.c[name] + statement.excluded[name] for name in counts}
        statements[dialect] = statement.on_conflict_do_update(index_elements=list(place), set_=added)
    return statements
