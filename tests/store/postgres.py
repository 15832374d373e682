"""A PostgreSQL server for the tests: Debian's binaries, and a folder that is removed at the end."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from select import select
from signal import SIGCONT, SIGQUIT, SIGSTOP
from threading import Thread
from typing import IO, Any

import psycopg
from psycopg import sql

from tests.benchmarks.gateway.tree import Tree

PATIENCE_S = 60
PASSWORD = "tiger-4711"  # not checked: every process with access to the socket's folder may connect
TEMPLATE = "migrated"

# The data need not survive a power cut or the end of the tests.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "100",
    "dynamic_shared_memory_type": "mmap",  # in its folder, which goes with it, instead of /dev/shm
    "autovacuum": "off",
    "log_checkpoints": "off",
}


class Postgres:
    """A server that listens only on a socket in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        self._emptied: list[tuple[str, _Emptied]] = []  # with their URLs: databases that nobody uses

    def start(self) -> None:
        """Of a folder with data; also again, after `stop`."""
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        self._server = subprocess.Popen(
            _command(_programs() / "postgres", "-D", self._folder / "data", "-k", self._folder, *settings),
            stderr=subprocess.PIPE,
            cwd="/",
        )
        assert self._server.stderr is not None
        _await_ready(self._server.stderr)
        Thread(target=_drained, args=(self._server.stderr,), daemon=True).start()  # a full pipe would stop the server

    def stop(self) -> None:
        """At once, also if it is frozen: its data are deleted next, or recovered."""
        if self._server is not None:
            self._server.send_signal(SIGQUIT)
            self.thaw()
            self._server.wait(PATIENCE_S)
            self._server = None

    def freeze(self) -> None:
        """All its processes are stopped: they hold their connections and their locks, and answer nothing."""
        self._signal(SIGSTOP)

    def thaw(self) -> None:
        self._signal(SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._server is not None
        for pid in Tree(self._server.pid).pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def url(self, database: str) -> str:
        return f"postgresql://postgres:{PASSWORD}@/{database}?host={self._folder}"

    def create(self, template: str = "template1") -> str:
        """The URL of a new database, a copy of `template`."""
        name = f"test_{secrets.token_hex(8)}"
        self._administer(sql.SQL("CREATE DATABASE {} TEMPLATE {}"), name, template)
        return self.url(name)

    def rename(self, url: str, name: str) -> None:
        self._administer(
            sql.SQL("ALTER DATABASE {} RENAME TO {}"), psycopg.conninfo.conninfo_to_dict(url)["dbname"], name
        )

    def drop(self, url: str) -> None:
        """Also with open connections, for example of a killed process."""
        self._administer(sql.SQL("DROP DATABASE {} WITH (FORCE)"), psycopg.conninfo.conninfo_to_dict(url)["dbname"])

    @contextmanager
    def migrated(self) -> Iterator[str]:
        """The URL of a database as TEMPLATE is. It is emptied afterwards, and given again: ten times as fast as another
        copy of the template. One whose tables were changed is dropped."""
        if not self._emptied:
            url = self.create(TEMPLATE)
            self._emptied.append((url, _Emptied(url)))
        url, emptied = self._emptied.pop()
        yield url
        if emptied.empty():
            self._emptied.append((url, emptied))
        else:
            emptied.close()
            self.drop(url)

    def close(self) -> None:
        for _, emptied in self._emptied:
            emptied.close()
        self.stop()

    def _administer(self, statement: sql.SQL, *names: object) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.format(*(sql.Identifier(str(name)) for name in names)))


_SHAPE = """
SELECT md5(string_agg(one, ',' ORDER BY one)) FROM (
    SELECT 'c' || oid || ':' || xmin FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT 't' || oid || ':' || xmin FROM pg_trigger
    UNION ALL SELECT 'k' || oid || ':' || xmin FROM pg_constraint
    UNION ALL SELECT 'a' || attrelid || ':' || attnum || ':' || xmin FROM pg_attribute WHERE attrelid >= 16384
    UNION ALL SELECT 'i' || indexrelid || ':' || xmin FROM pg_index WHERE indexrelid >= 16384
    UNION ALL SELECT 'h' || inhrelid || ':' || inhparent FROM pg_inherits
    UNION ALL SELECT 'n' || oid FROM pg_namespace WHERE oid >= 16384 AND nspname !~ '^pg_'
    UNION ALL SELECT 'p' || oid || ':' || xmin FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT 'y' || oid || ':' || xmin FROM pg_type WHERE oid >= 16384
    UNION ALL SELECT 'o' || oid || ':' || xmin FROM pg_operator WHERE oid >= 16384
    UNION ALL SELECT 'x' || oid || ':' || xmin FROM pg_cast WHERE oid >= 16384
    UNION ALL SELECT 'd' || oid || ':' || xmin FROM pg_attrdef WHERE oid >= 16384
    UNION ALL SELECT 'l' || oid || ':' || xmin FROM pg_policy WHERE oid >= 16384
    UNION ALL SELECT 'r' || oid || ':' || xmin FROM pg_rewrite WHERE oid >= 16384
    UNION ALL SELECT 's' || oid || ':' || xmin FROM pg_statistic_ext WHERE oid >= 16384
    UNION ALL SELECT 'e' || oid || ':' || xmin FROM pg_event_trigger WHERE oid >= 16384
    UNION ALL SELECT 'f' || oid || ':' || xmin FROM pg_collation WHERE oid >= 16384
) AS everything(one)
"""
_LEAVE = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


class _Emptied:
    """A connection that makes a database what it was when this began: for as long as its tables have the same shape."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._shape = self._asked(_SHAPE)
        tables = [str(name) for (name,) in self._connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )]  # fmt: skip
        sequences = [str(name) for (name,) in self._connection.execute("SELECT sequencename FROM pg_sequences")]
        steps = [sql.SQL("BEGIN; SET LOCAL session_replication_role = replica")]  # no triggers, no foreign keys
        for name in tables:
            table = sql.Identifier(name)
            steps.append(sql.SQL("DELETE FROM {}").format(table))
            if kept := self._asked(sql.SQL("SELECT json_agg(one)::text FROM {} AS one").format(table)):
                steps.append(
                    sql.SQL("INSERT INTO {0} SELECT * FROM json_populate_recordset(NULL::{0}, {1})").format(table, kept)
                )
        steps += [sql.SQL("SELECT setval({}, 1, false)").format(name) for name in sequences]
        self._script = sql.SQL("; ").join([*steps, sql.SQL("COMMIT")])

    def empty(self) -> bool:
        """False where it cannot."""
        self._connection.execute(_LEAVE)
        if self._asked(_SHAPE) != self._shape:
            return False
        self._connection.execute(self._script)
        return True

    def close(self) -> None:
        self._connection.close()

    def _asked(self, statement: Any) -> Any:
        row = self._connection.execute(statement).fetchone()
        return row[0] if row else None


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """The server ends with the block, and with this process, also if it is killed."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="host-postgres-"))
    try:
        if os.geteuid() == 0:  # as which PostgreSQL does not run
            shutil.chown(folder, "postgres", "postgres")
        data = folder / "data"
        initialise = [programs / "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"]
        subprocess.run(
            _command(*initialise, "--no-sync", data), check=True, capture_output=True, timeout=PATIENCE_S, cwd="/"
        )
        with closing(Postgres(folder)) as opened:
            opened.start()
            yield opened
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    elsewhere = shutil.which("initdb")
    if not found and not elsewhere:
        raise RuntimeError("these tests need PostgreSQL: apt-get install postgresql")
    return (found[-1] if found else Path(str(elsewhere))).parent


def _command(*arguments: object) -> list[str]:
    user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    return ["setpriv", *user, "--pdeathsig=QUIT", *map(str, arguments)]


def _drained(log: IO[bytes]) -> None:
    with log:
        log.read()


def _await_ready(log: IO[bytes]) -> None:
    """Waits until the server logs that it is ready."""
    said = b""
    while b"ready to accept connections" not in said:
        ready, _, _ = select([log], [], [], PATIENCE_S)
        more = os.read(log.fileno(), 65536) if ready else b""
        if not more:
            raise RuntimeError(f"PostgreSQL does not start: {said.decode(errors='replace')}")
        said += more
