"""The database of the state: SQLite in a file of the state directory, or PostgreSQL by URL.

On both there is one writer at a time, so that what a write transaction reads stays true until it ends.

Every wait has an end, whoever holds a lock and whether or not the server answers: it is bounded here, and by the
deadline of the thread (`host.core.waiting`). The server's own time limits are a second line: a stuck one keeps none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import parse_qsl, unquote
from weakref import WeakSet

from host.core import environment, forks, installation
from host.core.waiting import left, within
from host.errors import InputError, StateError
from host.store import migrations, schema
from host.store.connections import ConnectionPool, StateConnection

if TYPE_CHECKING:
    import psycopg


T = TypeVar("T")

FILE = "state.db"
_WRITERS = 0x6361_7461_6C79_7374  # the advisory lock of PostgreSQL that every writer takes: "catalyst"
_BUSY_S = 3.0  # how long a transaction waits to begin: for a connection, and for the writers before it
_STATEMENT_S = 5.0  # how long PostgreSQL may take for one statement
_VANISHED_S = 60.0  # after which PostgreSQL ends a write transaction whose process is stopped
LONG_S = 60.0  # for statements that read or send much: `reading(LONG_S)`


class Database:
    """One per process, thread-safe. To be closed. `writing` and `reading` are transactions. Both raise StateError,
    which never contains the URL's password; in a child of a fork at once.

    `shared`: other machines may use it, so what they need too cannot be in files of this machine. `name` is "" for the
    database in the state directory, and differs for every other. `quick`: there is `appending`."""

    def __init__(self, pool: ConnectionPool, state_dir: Path, name: str = "") -> None:
        self.state_dir = state_dir
        self.name = name
        self.shared = bool(name)
        self.quick = pool.dialect == "sqlite"
        self._pool = pool
        self._around = threading.local()
        self._appender: StateConnection | None = None
        self._writers = threading.Lock()  # a queue: SQLite itself would make them poll
        self._generation = forks.generation
        _all.add(self)

    @classmethod
    def open(cls, state_dir: Path, url: str | None = None) -> Database:
        """The database at `url`, or the one in `state_dir`. Creates and migrates it if needed. Raises InputError for a
        URL of another kind, StateError."""
        make_private(state_dir)
        place = _parsed(url) if url else None
        pool, name = (_sqlite(state_dir / FILE), "") if place is None else (_postgres(place), _name(place))
        database = cls(pool, state_dir, name)
        try:
            database._migrate()
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[StateConnection]:
        """The only write transaction at a time: committed at the end, rolled back for any exception, and once the
        thread's time is over. It cannot be nested. A `durable` one, and all before it, outlives a loss of power; any
        other outlives this process."""
        until = time.monotonic() + left(_BUSY_S)
        with self._one_writer(until), _translated_errors(), ExitStack() as stack:
            with within(until - time.monotonic()):
                connection = stack.enter_context(self._pool.connected())
                wait_ms = max(1, round(left(_BUSY_S) * 1000))  # 0 would wait for ever
                if self.quick:
                    connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                    connection.execute(f"PRAGMA busy_timeout={wait_ms}")
                    connection.execute("BEGIN IMMEDIATE")
                else:  # the server gives up first, and says why
                    connection.execute(_BEGIN_WRITING, (f"{max(1, wait_ms * 4 // 5)}ms", _WRITERS))
            yield connection
            _require_time()
            connection.commit()

    @contextmanager
    def appending(self) -> Iterator[sqlite3.Connection]:
        """`writing(durable=False)` for data that every run writes several times: on a connection that stays open, and
        without the work around each statement. Only if `quick`."""
        with self._one_writer(time.monotonic() + _BUSY_S), _translated_errors():
            if self._appender is None:
                self._appender = self._pool.take()
                connection = cast("sqlite3.Connection", self._appender.raw)
                for pragma in ("synchronous=NORMAL", f"busy_timeout={round(_BUSY_S * 1000)}"):
                    connection.execute(f"PRAGMA {pragma}").close()
            connection = cast("sqlite3.Connection", self._appender.raw)
            try:
                connection.execute("BEGIN IMMEDIATE").close()
                yield connection
                connection.execute("COMMIT").close()  # prepared once, unlike commit()
            except BaseException:
                connection.rollback()  # also after a failed commit: the next transaction needs an idle connection
                raise

    @contextmanager
    def reading(self, statement_s: float = _STATEMENT_S) -> Iterator[StateConnection]:
        """A read transaction, which sees one state throughout. Inside `snapshot` it is that transaction. PostgreSQL may
        take `statement_s` for one statement."""
        if self._generation != forks.generation:
            raise forks.made_before()
        if (around := getattr(self._around, "connection", None)) is not None:
            yield around
            return
        with _translated_errors(), ExitStack() as stack:
            with within(_BUSY_S):
                connection = stack.enter_context(self._pool.connected())
                begin = "BEGIN" if self.quick else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
                connection.execute(begin)
            if not self.quick and statement_s != _STATEMENT_S:
                stack.enter_context(_patient(connection, statement_s))
            yield connection

    @contextmanager
    def adding(self, statement_s: float) -> Iterator[StateConnection]:
        """A transaction of PostgreSQL's beside the writers, for rows that nothing refers to yet; then it commits."""
        if self._generation != forks.generation:
            raise forks.made_before()
        with _translated_errors(), self._pool.connected() as connection, _patient(connection, statement_s):
            connection.execute(_ENDS_IDLE)
            yield connection
            _require_time()
            connection.commit()

    @contextmanager
    def snapshot(self) -> Iterator[StateConnection]:
        """Everything that this thread reads inside is read in one transaction."""
        with self.reading() as connection:
            before = getattr(self._around, "connection", None)
            self._around.connection = connection
            try:
                yield connection
            finally:
                self._around.connection = before

    def close(self) -> None:
        """A connection that a thread is stuck with is left to the end of the process. In a child of a fork it does
        nothing."""
        if self._generation != forks.generation:
            return
        if self._writers.acquire(timeout=1.0):
            try:
                if self._appender is not None:
                    self._pool.give_back(self._appender)
                    self._appender = None
            finally:
                self._writers.release()
        self._pool.close()

    @contextmanager
    def _one_writer(self, until: float) -> Iterator[None]:
        if self._generation != forks.generation:
            raise forks.made_before()
        free = self._writers.acquire(blocking=False)
        if not free and not self._writers.acquire(timeout=max(0.0, until - time.monotonic())):
            raise StateError("the state's database is busy: another write of this process does not end")
        try:
            yield
        finally:
            self._writers.release()

    def _migrate(self) -> None:
        with self.reading() as connection:
            found = migrations.version(connection)
            if found == migrations.NEWEST:
                schema.check(connection)
        if found != migrations.NEWEST:
            with self.writing() as connection:  # of several processes, the first one migrates
                migrations.upgrade(connection)
                schema.check(connection)


_all: Final[WeakSet[Database]] = WeakSet()


def _leave_open() -> None:
    """In a child of a fork. To close a connection of the parent's there can damage the database
    (https://sqlite.org/howtocorrupt.html#_carrying_an_open_database_file_across_a_fork_)."""
    for database in _all:
        forks.keep(database)


os.register_at_fork(after_in_child=_leave_open)


def make_private(folder: Path) -> None:
    """Create `folder` for this user alone, unless it exists; its name is on the disk then. Raises StateError."""
    if folder == environment.NOWHERE:
        raise StateError(
            "this user has no home directory to keep the state in", hint="HOST_STATE_DIR names a folder for it"
        )
    try:
        if folder.is_dir():
            return
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        raise StateError(
            f"cannot make {str(folder)!r}: {error.strerror}", hint="HOST_STATE_DIR names another"
        ) from None


def sync_folder(folder: Path) -> None:
    """Sync the names in `folder` to the disk: a file that was synced itself can be without one after a loss of power.
    Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _sqlite(file: Path) -> ConnectionPool:
    """SQLite gives its journals the mode of the file. It is made without being opened, because to close it would end
    the locks of all connections of this process, and another process could then delete the journal that they write to
    (https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_)."""
    try:
        with suppress(FileExistsError):
            os.mknod(file, 0o600)
    except OSError as error:
        raise StateError(f"cannot make {str(file)!r}: {error.strerror}", hint=_FOLDER_HINT) from None
    return ConnectionPool("sqlite", partial(_connect_sqlite, file.absolute()), lambda _: True, _BUSY_S)


def _connect_sqlite(file: Path) -> sqlite3.Connection:
    """WAL: readers and the writer do not wait for each other. Deleted content is overwritten. Nothing in the file acts.

    With synchronous=NORMAL a process that is killed loses nothing that was committed; a machine that loses power may
    lose the commits of the last seconds, never more than the end of them, and the file opens
    (https://sqlite.org/pragma.html#pragma_synchronous). Verification of the audit log then finds records missing."""
    connection = sqlite3.connect(file, timeout=_BUSY_S, check_same_thread=False, isolation_level=None)
    try:
        schema.forbid_actions(connection)
        _enter_wal(connection)
        for pragma in ("synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}").close()
    except BaseException:
        connection.close()
        raise
    return connection


def _enter_wal(connection: sqlite3.Connection) -> None:
    """The first time sets the file's mode for good. If two processes do it to a new file at once, SQLite refuses one of
    them at once, because both would wait for each other; that one tries again."""
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


_URL: Final = re.compile(
    r"(?P<kind>\w+)(?:\+\w+)?://"
    r"(?:(?P<user>[^:/]*)(?::(?P<password>[^@]*))?@)?"
    r"(?:\[(?P<ipv6>[^/?@]+)\]|(?P<host>[^/:?@]+))?(?::(?P<port>[^/?]*))?"  # a place has no @, which errors show:
    r"(?:/(?P<dbname>[^?@]*))?(?:\?(?P<more>.*))?\Z"  # what follows one may be of the password
)


def _parsed(url: str) -> dict[str, Any]:
    """The options of a connection to the database at `url`. Raises InputError."""
    found = _URL.match(url) if url.isprintable() and "%00" not in url else None
    if found is None or not (found["port"] or "0").isdecimal():
        raise InputError("the database's URL cannot be read", field="HOST_DATABASE", hint=_URL_HINT)
    if found["kind"] not in ("postgresql", "postgres"):
        kind = url.partition("://")[0]
        raise InputError(f"the database's URL begins with {kind}://", field="HOST_DATABASE", hint=_URL_HINT)
    given = {
        "user": found["user"] and unquote(found["user"]),
        "password": found["password"] and unquote(found["password"]),
        "host": found["ipv6"] or found["host"],
        "port": found["port"] and int(found["port"]),
        "dbname": found["dbname"],
    }
    return {**{name: value for name, value in given.items() if value}, **dict(parse_qsl(found["more"] or ""))}


def _postgres(options: dict[str, Any]) -> ConnectionPool:
    try:
        import psycopg  # noqa: F401, PLC0415 - an extra
    except ModuleNotFoundError:
        raise StateError(
            "PostgreSQL needs psycopg, which is not installed", hint=installation.remedy("postgres")
        ) from None
    bounds = {
        "tcp_user_timeout": round(_STATEMENT_S * 1000),  # for a server that vanished without closing it
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "application_name": "catalyst-host",
    }
    return ConnectionPool("postgresql", partial(_connect_postgres, {**bounds, **options}), _answers, _BUSY_S)


def _name(options: dict[str, Any]) -> str:
    """A name made of the database's place, and not of the user who connects."""
    place = [options.get("host"), options.get("port"), options.get("dbname")]
    return hashlib.sha256(json.dumps(place).encode()).hexdigest()[:12]


def _answers(connection: Any) -> bool:
    """Whether a connection that lay idle is still one."""
    try:
        connection.autocommit = True
        connection.execute("SELECT 1").close()
        connection.autocommit = False
    except _errors():
        return False
    return True


def _require_time() -> None:
    """Before a commit. Raises StateError where the caller has gone, or is about to: it hears that nothing was done."""
    if left(1.0) <= 0:
        raise StateError("the state's database took too long: nothing was changed")


def _connect_postgres(options: dict[str, Any]) -> psycopg.Connection[Any]:
    """A connection. Raises StateError, with the server's place and the reason, and without the password."""
    import psycopg  # noqa: PLC0415 - an extra

    wait_s = max(2, round(left(_BUSY_S)))  # libpq's least, in whole seconds
    try:
        # as one text, which has options of the server's alone: none of the connection here, such as autocommit
        place = psycopg.conninfo.make_conninfo(**{**options, "connect_timeout": wait_s})
        connection = _bounded_connection().connect(place)
    except psycopg.ProgrammingError:
        raise StateError("the database's URL has an option that PostgreSQL does not know", hint=_URL_HINT) from None
    except psycopg.OperationalError as error:
        where = f"{options.get('host') or 'its local socket'}:{options.get('port') or 5432}"
        raise StateError(
            f"cannot connect to PostgreSQL at {where}: {_reason(str(error), options.get('password'))}",
            hint='psql "$HOST_DATABASE" tries the same',
        ) from None
    try:
        _configure_postgres(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _reason(text: str, password: object) -> str:
    """The reason in libpq's words about a connection: `… failed: Connection refused`. None of them without a doubt that
    the password is not among them."""
    if password and str(password) in text:
        return "the connection failed"
    first = next(iter(text.strip().splitlines()), "")
    return " ".join(first.rpartition("failed: ")[2].split())[:200] or "the connection failed"


@cache
def _bounded_connection() -> type[psycopg.Connection[Any]]:
    """A connection whose every wait ends, whether or not the server answers. One that waited in vain is closed: an
    answer that comes later belongs to no statement. Then the pool drops all connections that are as old."""
    import psycopg  # noqa: PLC0415 - an extra

    class Bounded(psycopg.Connection[Any]):
        statement_s = _STATEMENT_S

        def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
            until = time.monotonic() + left(self.statement_s)
            try:
                return super().wait(_ended_at(until, gen), *arguments, **options)
            except TimeoutError:
                self.pgconn.finish()
                raise psycopg.OperationalError("no answer in time") from None

    return Bounded


@contextmanager
def _patient(connection: StateConnection, statement_s: float) -> Iterator[None]:
    """Inside, each statement may take `statement_s`."""
    bounded: Any = connection.raw
    bounded.statement_s = statement_s
    try:
        yield
    finally:
        del bounded.statement_s


def _ended_at(until: float, waits: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """`waits`, a generator of psycopg's that yields what it waits for and is resumed now and then without it. Raises
    TimeoutError into its consumer at the time `until`."""
    try:
        ready = yield next(waits)
        while True:
            if not ready and time.monotonic() >= until:
                raise TimeoutError
            ready = yield waits.send(ready)
    except StopIteration as ended:
        result: T = ended.value
        return result


def _configure_postgres(connection: psycopg.Connection[Any]) -> None:
    """Names mean what is in the schema that the URL or the server chooses, and in the server's own: nothing that others
    put into a schema before it, or into the session, is found in its place. Whatever the server's own defaults, a
    writer that waited for another reads what that one wrote, and a commit is on the server's disk before it is
    acknowledged."""
    connection.execute(f"SET statement_timeout = {round(LONG_S * 1000)}")
    connection.execute(_SEES_THE_LAST_WRITER)
    connection.execute(_PIN_SCHEMA)
    connection.execute(_SYNCHRONOUS)
    connection.commit()


_SEES_THE_LAST_WRITER: Final = "SET default_transaction_isolation = 'read committed'"
_PIN_SCHEMA: Final = """
SELECT pg_catalog.set_config('search_path', pg_catalog.format('%I, pg_temp', pg_catalog.current_schema()), false)
"""
_SYNCHRONOUS: Final = """
SELECT pg_catalog.set_config('synchronous_commit', 'on', false)
WHERE pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'
"""
_ENDS_IDLE: Final = f"SELECT pg_catalog.set_config('idle_in_transaction_session_timeout', '{_VANISHED_S:g}s', true)"
_BEGIN_WRITING: Final = (
    "SELECT pg_catalog.set_config('lock_timeout', %s, true), "
    f"pg_catalog.set_config('idle_in_transaction_session_timeout', '{_VANISHED_S:g}s', true), "
    "pg_catalog.pg_advisory_xact_lock(%s)"
)
_LOCK_NOT_AVAILABLE: Final = "55P03"  # in time
_BUSY_HINT: Final = "another process writes to it and does not end: try again, or end that one"
_FOLDER_HINT: Final = "HOST_STATE_DIR names a folder of your own"
_URL_HINT = "like postgresql://user:password@host/name; without one, the state is a file in HOST_STATE_DIR"


@contextmanager
def _translated_errors() -> Iterator[None]:
    """The database's errors become StateError. SQLite's texts are kept; PostgreSQL's may contain values, so only their
    type is kept."""
    try:
        yield
    except _errors() as error:
        said = " ".join(str(error).split())[:300] if isinstance(error, sqlite3.Error) else type(error).__name__
        raise StateError(f"the state's database failed: {said}", hint=_remedy(error)) from error


def _errors() -> tuple[type[Exception], ...]:
    """Those of the databases that are used here."""
    psycopg = sys.modules.get("psycopg")
    return (sqlite3.Error,) if psycopg is None else (sqlite3.Error, psycopg.Error)


def _remedy(cause: object) -> str | None:
    if isinstance(cause, sqlite3.Error):
        match getattr(cause, "sqlite_errorcode", 0) & 0xFF:  # the higher bits detail the same error
            case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_FULL:
                return "is the disk of HOST_STATE_DIR full?"
            case sqlite3.SQLITE_AUTH:
                return "a trigger or a view in it is not of this program: host audit verify names it"
            case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
                return f"put back a backup of {FILE}, or name another place with HOST_STATE_DIR"
            case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY:
                return _FOLDER_HINT
            case sqlite3.SQLITE_BUSY:
                return _BUSY_HINT
    elif getattr(cause, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
        return _BUSY_HINT
    elif _lost(cause):
        return 'psql "$HOST_DATABASE" says whether it answers again'
    return None


def _lost(cause: object) -> bool:
    """Whether an error of PostgreSQL's is one of the connection: there was no answer, or the server ends it (57P)."""
    import psycopg  # noqa: PLC0415 - an extra

    return isinstance(cause, psycopg.OperationalError) and (cause.sqlstate or "57P").startswith("57P")
