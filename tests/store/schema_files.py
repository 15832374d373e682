"""Writes `host/store/migrations/*.schema` anew, after a new migration: python -m tests.store.schema_files"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy
from sqlalchemy import Connection

from host.store import migrations, schema
from tests.store.postgres import running_postgres


@contextmanager
def migrated(url: str) -> Iterator[Connection]:
    """A new database as the migrations leave it, unchecked, and gone afterwards."""
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        migrations.upgrade(connection)
        yield connection
    engine.dispose()


def main() -> None:
    with running_postgres() as server:
        for url in ("sqlite://", server.create().replace("postgresql:", "postgresql+psycopg:")):
            with migrated(url) as connection:
                file = schema.FILES / f"{connection.dialect.name}.schema"
                file.write_text(schema.as_lines(schema.found(connection)), "utf-8")


if __name__ == "__main__":
    main()
