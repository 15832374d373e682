"""The tables' history, by Alembic: each file in `versions` takes the state from one version to the next.

`*.schema` are what they make, one object a line, with which a database is compared (`host.store.schema`). After a new
migration `python -m tests.store.schema_files` writes them anew. `schema.EARLIER` gets the digest of the file before it,
if that was released: it is a part of the states that were sealed then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, column, select, table, text

from host.errors import StateError

NEWEST: Final = "0005"
_VERSION = table("alembic_version", column("version_num"))
_IS_THERE: Final = {  # and not by reflection, which could find operators of others (host.store.schema)
    "sqlite": text("SELECT name FROM main.sqlite_master WHERE name = 'alembic_version'"),
    "postgresql": text("SELECT to_regclass('alembic_version')::text"),
}


def version(connection: Connection) -> str | None:
    """Which version the tables are in; None for a database without any. Plain SQL: Alembic takes longer to import than
    most commands take, and is needed once."""
    if connection.execute(_IS_THERE[connection.dialect.name]).scalar() is None:
        return None
    found: str | None = connection.execute(select(_VERSION.c.version_num)).scalar()
    return found


def upgrade(connection: Connection) -> None:
    """Bring the tables to the newest version, in the transaction of `connection`. Raises StateError where they are
    newer than this host."""
    from alembic import command  # noqa: PLC0415 - see version
    from alembic.config import Config  # noqa: PLC0415 - as above
    from alembic.util import CommandError  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, NEWEST)
    except CommandError as error:
        raise StateError(
            f"the state is of another version ({version(connection)}) than this host knows ({NEWEST})",
            hint="use a newer catalyst-host, or another HOST_STATE_DIR",
        ) from error
