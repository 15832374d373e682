"""The tables' history: each `.sql` takes the state from one version to the next.

They are written in the words of SQLite; `_IN_POSTGRES` has those of PostgreSQL that differ. `*.schema` are what they
make, one object a line, with which a database is compared (`host.store.schema`). After a new migration
`python -m tests.store.schema_files` writes them anew. `schema.EARLIER` gets the digest of the file before it, if that
was released: it is a part of the states that were sealed then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from host.errors import StateError
from host.store.connections import StateConnection
from host.store.sql import SqlDialect

_FILES: Final = ("0001_first", "0002_server", "0003_counters", "0004_made_objects", "0005_batches")
_VERSIONS: Final = [name[:4] for name in _FILES]
NEWEST: Final = _VERSIONS[-1]
_IN_POSTGRES: Final = {
    "BLOB": "BYTEA",
    "DOUBLE": "DOUBLE PRECISION",
    "seq INTEGER": "seq BIGINT",
    "window": '"window"',
}
_OTHERWISE: Final = re.compile(r"\b(?:" + "|".join(_IN_POSTGRES) + r")\b")
_IS_THERE: Final = {  # and not in another schema (host.store.schema); the name is that of the tool that once made it
    "sqlite": "SELECT name FROM main.sqlite_master WHERE name = 'alembic_version'",
    "postgresql": "SELECT to_regclass('alembic_version')::text",
}
_MAKE: Final = """
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
)
"""


def version(connection: StateConnection) -> str | None:
    """Which version the tables are in; None for a database without any."""
    if connection.execute(_IS_THERE[connection.dialect]).scalar() is None:
        return None
    found: str | None = connection.execute("SELECT version_num FROM alembic_version").scalar()
    return found


def upgrade(connection: StateConnection) -> None:
    """Bring the tables to the newest version, in the transaction of `connection`. Raises StateError where they are
    newer than this host."""
    found = version(connection)
    if found is None:
        connection.execute(_MAKE)
    elif found not in _VERSIONS:
        raise StateError(
            f"the state is of another version ({found}) than this host knows ({NEWEST})",
            hint="use a newer catalyst-host, or another HOST_STATE_DIR",
        )
    for name in _FILES[0 if found is None else _VERSIONS.index(found) + 1 :]:
        for statement in _statements(name, connection.dialect):
            connection.execute(statement)
    connection.execute("DELETE FROM alembic_version")
    connection.execute(f"INSERT INTO alembic_version VALUES ('{NEWEST}')")  # noqa: S608 - ours


def _statements(name: str, dialect: SqlDialect) -> Iterator[str]:
    text = (Path(__file__).parent / f"{name}.sql").read_text("utf-8")
    if dialect == "postgresql":
        text = _OTHERWISE.sub(lambda found: _IN_POSTGRES[found[0]], text)
    return (statement for part in text.split(";\n") if (statement := part.strip()))
