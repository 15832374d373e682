"""Writes `host/store/migrations/*.schema` anew, after a new migration: python -m tests.store.schema_files"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from host.store import database, migrations, schema
from host.store.connections import StateConnection
from tests.store.postgres import running_postgres


@contextmanager
def migrated(url: str | None) -> Iterator[StateConnection]:
    """A new database as the migrations leave it, unchecked, and gone afterwards. SQLite's without a `url`."""
    with TemporaryDirectory() as folder:
        pool = (
            database._sqlite(Path(folder, database.FILE)) if url is None else database._postgres(database._parsed(url))
        )
        with closing(pool), pool.connected() as connection:
            migrations.upgrade(connection)
            yield connection


def main() -> None:
    with running_postgres() as server:
        for url in (None, server.create()):
            with migrated(url) as connection:
                file = schema.FILES / f"{connection.dialect}.schema"
                file.write_text(schema.as_lines(schema.found(connection)), "utf-8")


if __name__ == "__main__":
    main()
