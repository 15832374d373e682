"""The tables' history, by Alembic: each file in `versions` takes the state from one version to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, column, inspect, select, table

from host.errors import StateError

NEWEST: Final = "0002"
_VERSION = table("alembic_version", column("version_num"))


def version(connection: Connection) -> str | None:
    """Which version the tables are in; None for a database without any. Plain SQL: Alembic takes longer to import than
    most commands take, and is needed once."""
    if not inspect(connection).has_table(_VERSION.name):
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
