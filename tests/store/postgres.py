"""A PostgreSQL server for the tests: Debian's binaries, and a folder that is removed at the end."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select
from signal import SIGQUIT
from threading import Thread
from typing import IO

import psycopg
from psycopg import sql

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

    def _administer(self, statement: sql.SQL, *names: object) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.format(*(sql.Identifier(str(name)) for name in names)))


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
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        server = subprocess.Popen(
            _command(programs / "postgres", "-D", data, "-k", folder, *settings),
            stderr=subprocess.PIPE,
            cwd="/",
        )
        assert server.stderr is not None
        log = Thread(target=server.stderr.read, daemon=True)  # a full pipe would stop the server
        try:
            _await_ready(server.stderr)
            log.start()
            yield Postgres(folder)
        finally:
            server.send_signal(SIGQUIT)  # at once: its data are deleted next
            server.wait(PATIENCE_S)
            if log.ident:
                log.join(PATIENCE_S)
            server.stderr.close()
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


def _await_ready(log: IO[bytes]) -> None:
    """Waits until the server logs that it is ready."""
    said = b""
    while b"ready to accept connections" not in said:
        ready, _, _ = select([log], [], [], PATIENCE_S)
        more = os.read(log.fileno(), 65536) if ready else b""
        if not more:
            raise RuntimeError(f"PostgreSQL does not start: {said.decode(errors='replace')}")
        said += more
