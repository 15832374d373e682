"""Connections to a database, SQLite's or PostgreSQL's, and their pool. They execute statements of `host.store.sql`, and
plain SQL with the database's own marks.

No connection is used by two threads at once. One that is given back has no open transaction.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from host.core import forks
from host.core.waiting import left
from host.errors import StateError
from host.store.sql import Insert, SqlDialect, Statement

if TYPE_CHECKING:
    import psycopg

    Raw: TypeAlias = sqlite3.Connection | psycopg.Connection[Any]

_MOST: Final = 15  # connections of one process
_MOST_IDLE: Final = 5  # kept open
_AT_ONCE: Final = 1_000  # rows in memory of an answer that is streamed
_numbers: Final = count()  # of such answers
_VALUES: Final = "a text is UTF-8, and a number has at most 64 bits"


class Row(tuple[Any, ...]):
    """A row of an answer: a tuple, with each value under the name of its column too."""

    __slots__ = ()
    _names: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the row has no column {name!r}")

    def as_dict(self) -> dict[str, Any]:
        return dict(zip(self._names, self, strict=True))


@cache
def _row_type(names: tuple[str, ...]) -> Callable[[Iterable[Any]], Row]:
    """Makes the rows of an answer with these columns."""
    values = {name: property(itemgetter(place)) for place, name in enumerate(names)}
    return type("Row", (Row,), {"__slots__": (), "_names": names, **values})


class Rows:
    """What a statement did: its rows, and how many it wrote. `one` and `scalar_one` are for a row that has to be there,
    the others return None where there is none. A scalar is the first value of a row."""

    def __init__(self, rows: Sequence[Row], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def all(self) -> list[Row]:
        return list(self._rows)

    def first(self) -> Row | None:
        return self._rows[0] if self._rows else None

    def one(self) -> Row:
        """Raises StateError unless there is one row."""
        if len(self._rows) != 1:
            raise StateError(f"the state's database has {len(self._rows)} rows in the place of one")
        return self._rows[0]

    def one_or_none(self) -> Row | None:
        """Raises StateError if there are several rows."""
        return self.one() if self._rows else None

    def scalar(self) -> Any:
        return self._rows[0][0] if self._rows else None

    def scalar_one(self) -> Any:
        return self.one()[0]

    def scalar_one_or_none(self) -> Any:
        return self.one()[0] if self._rows else None

    def scalars(self) -> list[Any]:
        return [row[0] for row in self._rows]


class StateConnection:
    """A connection with a transaction. `info` lasts as long as the connection to the database does."""

    def __init__(self, raw: Raw, dialect: SqlDialect) -> None:
        self.raw = raw
        self.dialect: SqlDialect = dialect
        self.info: dict[str, Any] = {}
        self._streamed: list[Any] = []  # cursors
        self._generation = forks.generation

    @property
    def ours(self) -> bool:
        """False in a child of a fork in the middle of a transaction, which is the parent's."""
        return self._generation == forks.generation

    def execute(self, statement: Statement | str, given: Mapping[str, Any] | Sequence[Any] = ()) -> Rows:
        """`given` are the values of an `sql.param`, or the rows of an insert, as mappings; of plain SQL its values.
        Raises StateError for a value that no database has; other errors are the database's own."""
        if isinstance(statement, str):
            cursor = self._executed(statement, given)
            names: tuple[str, ...] = tuple(one[0] for one in cursor.description or ())
            truths: tuple[int, ...] = ()
        elif isinstance(statement, Insert) and not isinstance(given, Mapping) and given:
            cursor = self._inserted(statement, given)
            return Rows((), _counted(cursor))
        else:
            values = given if isinstance(given, Mapping) else {}
            compiled = statement.compiled(self.dialect, tuple(values) if isinstance(statement, Insert) else ())
            cursor = self._executed(compiled.text, compiled.bound(values))
            names, truths = compiled.names, compiled.truths
        found = _rows(cursor.fetchall(), names, truths) if cursor.description else []
        written = _counted(cursor)
        cursor.close()
        return Rows(found, written)

    def stream(self, query: Statement, at_once: int | None = None) -> Iterator[Row]:
        """The rows of a query as they are consumed, in the transaction: `at_once` of them are fetched together. As
        `execute`."""
        compiled = query.compiled(self.dialect)
        if isinstance(self.raw, sqlite3.Connection):
            cursor: Any = self.raw.cursor()
        else:
            cursor = self.raw.cursor(f"streamed_{next(_numbers)}")
        self._streamed.append(cursor)
        _sent(cursor.execute, compiled.text, compiled.bound({}))
        try:
            while cursor in self._streamed and (rows := cursor.fetchmany(at_once or _AT_ONCE)):
                yield from _rows(rows, compiled.names, compiled.truths)
        finally:
            if cursor in self._streamed and self.ours:
                self._streamed.remove(cursor)
                cursor.close()

    def commit(self) -> None:
        if not self.ours:
            raise forks.made_before()
        self.raw.commit()

    def rollback(self) -> None:
        """It ends what is still streamed too."""
        while self._streamed:
            self._streamed.pop().close()
        self.raw.rollback()

    def _executed(self, text: str, values: Any) -> Any:
        if isinstance(self.raw, sqlite3.Connection):
            return _sent(self.raw.execute, text, values)
        return _sent(self.raw.execute, text, values or None)  # without values a % is a %

    def _inserted(self, statement: Insert, given: Any) -> Any:
        compiled = statement.compiled(self.dialect, tuple(given[0]))
        cursor: Any = self.raw.cursor()
        _sent(cursor.executemany, compiled.text, [compiled.bound(row) for row in given])
        return cursor


def _sent(send: Callable[[str, Any], Any], text: str, values: Any) -> Any:
    try:
        return send(text, values)
    except (OverflowError, UnicodeEncodeError):  # which show the value
        raise StateError("the state's database has no such text or number", hint=_VALUES) from None


def _counted(cursor: Any) -> int:
    return int(cursor.rowcount)


def _rows(found: Sequence[Any], names: tuple[str, ...], truths: tuple[int, ...]) -> list[Row]:
    make = _row_type(names)
    if not truths:
        return [make(row) for row in found]
    return [make(_with_truths(row, truths)) for row in found]


def _with_truths(row: Sequence[Any], truths: tuple[int, ...]) -> list[Any]:
    values = list(row)
    for place in truths:
        values[place] = None if values[place] is None else bool(values[place])
    return values


class ConnectionPool:
    """The connections of one database. `connect` makes another; `alive` says whether one that lay idle still works."""

    def __init__(
        self, dialect: SqlDialect, connect: Callable[[], Raw], alive: Callable[[Raw], bool], wait_s: float
    ) -> None:
        self.dialect: SqlDialect = dialect
        self._connect = connect
        self._alive = alive
        self._wait_s = wait_s
        self._free = threading.BoundedSemaphore(_MOST)
        self._idle: list[StateConnection] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def connected(self) -> Iterator[StateConnection]:
        """A connection, given back at the end. Raises StateError where all are in use for too long, and what connecting
        does."""
        connection = self.take()
        try:
            yield connection
        finally:
            self.give_back(connection)

    def take(self) -> StateConnection:
        """As `connected`; to be given back."""
        if not self._free.acquire(timeout=max(0.0, left(self._wait_s))):
            raise StateError("the state's database is busy: all connections of this process are in use")
        try:
            return self._idle_one() or StateConnection(self._connect(), self.dialect)
        except BaseException:
            self._free.release()
            raise

    def give_back(self, connection: StateConnection) -> None:
        """What was not committed is rolled back. In a child of a fork it does nothing."""
        if not connection.ours:
            forks.keep(connection)
            return
        try:
            keep = _rolled_back(connection)
            with self._lock:
                keep = keep and not self._closed and len(self._idle) < _MOST_IDLE
                if keep:
                    self._idle.append(connection)
            if not keep:
                _closed(connection.raw)
        finally:
            self._free.release()

    def close(self) -> None:
        """Those in use are closed when they are given back."""
        with self._lock:
            self._closed = True
        self._drop_idle()

    def _idle_one(self) -> StateConnection | None:
        with self._lock:
            found = self._idle.pop() if self._idle else None
        if found is None or self._alive(found.raw):
            return found
        _closed(found.raw)
        self._drop_idle()  # the others are as old
        return None

    def _drop_idle(self) -> None:
        with self._lock:
            dropped, self._idle = self._idle, []
        for one in dropped:
            _closed(one.raw)


def _rolled_back(connection: StateConnection) -> bool:
    """Whether the connection can be used again."""
    raw = connection.raw
    try:
        connection.rollback()
    except Exception:  # noqa: BLE001 - of either database: the connection is lost
        return False
    return isinstance(raw, sqlite3.Connection) or not raw.closed


def _closed(raw: Raw) -> None:
    with suppress(Exception):  # of either database: the connection was lost before
        raw.close()
