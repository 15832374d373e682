"""Everything that an operator keeps, opened together."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from host import environment
from host.state.database import Database
from host.state.journal import Journal
from host.state.keys import Keys


class Workspace:
    """One per process, thread-safe; to be closed, or used in a `with`. Its parts share one database, and every change
    is recorded in `journal` in the transaction that makes it."""

    def __init__(self, database: Database, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.database = database
        self.keys = Keys(state_dir)
        self.journal = Journal(database, self.keys, state_dir)

    @classmethod
    def open(cls, state_dir: str | Path | None = None, database: str | None = None) -> Workspace:
        """What is kept in `state_dir` (default: `environment.state_dir()`), or in the PostgreSQL database at the URL
        `database` (default: `environment.database()`). Raises InputError, StateError."""
        folder = Path(state_dir) if state_dir else environment.state_dir()
        return cls(Database.open(folder, database or environment.database()), folder)

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
