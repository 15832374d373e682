"""Rows whose counts are added to those that are there: one statement on either database, which differ in the words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite

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
