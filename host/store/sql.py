"""Statements for SQLite and PostgreSQL, made of tables and columns: as much of SQL as the store says.

    select(keys.c.id).where(keys.c.purpose == "audit", keys.c.current)

A statement does not change: each method returns another one. Its text is made once for each dialect. A value is never a
part of the text: the database gets it beside it. The words are those that both dialects know. A column of truth is
compared with a number in SQLite, which has no other truth.

A library that knows all of SQL took a third of the time of `host run` to be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias

SqlDialect: TypeAlias = Literal["sqlite", "postgresql"]
ColumnKind: TypeAlias = Literal["text", "integer", "real", "truth", "bytes"]
"""What a column has. An integer has 64 bits."""

TEXT: Final = "text"
INTEGER: Final = "integer"
REAL: Final = "real"
TRUTH: Final = "truth"
BYTES: Final = "bytes"

_MARK: Final[Mapping[SqlDialect, str]] = {"sqlite": "?", "postgresql": "%s"}


class Param(NamedTuple):
    """The place of a value that is given with the statement, by its name."""

    name: str


class StatementText(NamedTuple):
    """The text of a statement; its values in their order, a Param for each that is given later; the columns of its
    answer, and the places of those that come as numbers and are true or false."""

    text: str
    values: tuple[Any, ...]
    names: tuple[str, ...]
    truths: tuple[int, ...]

    def bound(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(given[one.name] if isinstance(one, Param) else one for one in self.values)


class StatementWriter:
    """A statement as it is written. `around` are the tables of the statements around the one that is written."""

    def __init__(self, dialect: SqlDialect) -> None:
        self.dialect: SqlDialect = dialect
        self.parts: list[str] = []
        self.values: list[Any] = []
        self.around: tuple[Source, ...] = ()

    def add(self, *parts: _Word) -> None:
        for part in parts:
            if isinstance(part, str):
                self.parts.append(part)
            elif isinstance(part, Phrase):
                part.write(self)
            else:
                self.parts.append(part[self.dialect])


class Phrase:
    """Whatever can be written into a statement."""

    __slots__ = ()

    def write(self, out: StatementWriter) -> None:
        raise NotImplementedError

    def sources(self) -> Iterator[Source]:
        """The tables that it names, those of statements inside it left out."""
        return iter(())


_Word: TypeAlias = str | Phrase | Mapping[SqlDialect, str]


class Expression(Phrase):
    """A value of a row. Operators make other expressions."""

    __slots__ = ()
    kind: ColumnKind | None = None  # None: no matter
    name: str = ""

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        return _Words("(", self, " IS NULL)") if other is None else _operation(self, "=", other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        return _Words("(", self, " IS NOT NULL)") if other is None else _operation(self, "<>", other)

    __hash__ = object.__hash__

    def __lt__(self, other: object) -> Expression:
        return _operation(self, "<", other)

    def __le__(self, other: object) -> Expression:
        return _operation(self, "<=", other)

    def __gt__(self, other: object) -> Expression:
        return _operation(self, ">", other)

    def __ge__(self, other: object) -> Expression:
        return _operation(self, ">=", other)

    def __add__(self, other: object) -> Expression:
        return _operation(self, "+", other)

    def __sub__(self, other: object) -> Expression:
        return _operation(self, "-", other)

    def __and__(self, other: Expression) -> Expression:
        return and_(self, other)

    def __or__(self, other: Expression) -> Expression:
        return or_(self, other)

    def __invert__(self) -> Expression:
        return _Words(_Condition(self, holds=False))

    def __bool__(self) -> bool:
        raise TypeError("an expression is true or false in the database alone")

    def in_(self, among: Select | Iterable[Any]) -> Expression:
        if isinstance(among, Select):
            return _Words(self, " IN (", among, ")")
        values = [_Value(one) for one in among]
        return _Words(self, " IN (", *_listed(values), ")") if values else _Words("1 = 0")

    def startswith(self, text: str) -> Expression:
        """Whether it begins with `text`, letter for letter."""
        return _Words("substr(", self, ", 1, ", _Value(len(text)), ")") == text

    def contains(self, text: str) -> Expression:
        """Whether `text` is somewhere in it, letter for letter."""
        return _Words({"sqlite": "instr(", "postgresql": "strpos("}, self, ", ", _Value(text), ") > 0")

    def desc(self) -> Expression:
        return _Words(self, " DESC")

    def label(self, name: str) -> Expression:
        """As a column of an answer, under a name."""
        return _Words(self, f" AS {_quoted(name)}", kind=self.kind, name=name)


class _Value(Expression):
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def write(self, out: StatementWriter) -> None:
        out.parts.append(_MARK[out.dialect])
        out.values.append(self.value)


class _Words(Expression):
    __slots__ = ("kind", "name", "words")

    def __init__(self, *words: _Word, kind: ColumnKind | None = None, name: str = "") -> None:
        self.words = words
        self.kind = kind
        self.name = name

    def write(self, out: StatementWriter) -> None:
        out.add(*self.words)

    def sources(self) -> Iterator[Source]:
        return _sources(one for one in self.words if isinstance(one, Phrase))


class _Condition(Phrase):
    """That an expression holds, or that it does not."""

    __slots__ = ("holds", "one")

    def __init__(self, one: Expression, *, holds: bool = True) -> None:
        self.one = one
        self.holds = holds

    def write(self, out: StatementWriter) -> None:
        if isinstance(self.one, Column) and out.dialect == "sqlite":
            out.add(self.one, f" = {int(self.holds)}")
        else:
            out.add("" if self.holds else "NOT ", self.one)

    def sources(self) -> Iterator[Source]:
        return self.one.sources()


class Source(Phrase):
    """Rows to select from: `c` has its columns, by name and as attributes."""

    __slots__ = ("c", "name")

    def __init__(self, name: str, columns: Iterable[tuple[str, ColumnKind]]) -> None:
        self.name = name
        self.c = Columns(Column(self, column, kind) for column, kind in columns)

    def write(self, out: StatementWriter) -> None:
        out.add(_quoted(self.name))


class Table(Source):
    """A table, and the kinds of its columns in their order: `Table("newest", subject=TEXT, version=TEXT)`."""

    __slots__ = ()

    def __init__(self, name: str, /, **columns: ColumnKind) -> None:
        super().__init__(name, columns.items())


class Column(Expression):
    __slots__ = ("kind", "name", "source")

    def __init__(self, source: Source, name: str, kind: ColumnKind) -> None:
        self.source = source
        self.name = name
        self.kind = kind

    def write(self, out: StatementWriter) -> None:
        out.add(f"{_quoted(self.source.name)}.{_quoted(self.name)}")

    def sources(self) -> Iterator[Source]:
        yield self.source


class Columns(dict[str, Column]):
    """The columns of a table in their order, by name, and as attributes."""

    def __init__(self, columns: Iterable[Column]) -> None:
        super().__init__((one.name, one) for one in columns)
        self.__dict__.update(self)

    def __getattr__(self, name: str) -> Column:
        raise AttributeError(f"there is no column {name!r}")


class _Statement(Phrase):
    """See the head of the module."""

    def __init__(self) -> None:
        self._compiled: dict[tuple[SqlDialect, tuple[str, ...]], StatementText] = {}

    def compiled(self, dialect: SqlDialect, columns: tuple[str, ...] = ()) -> StatementText:
        """`columns` are those of the rows that are given with an insert."""
        found = self._compiled.get((dialect, columns))
        if found is None:
            out = StatementWriter(dialect)
            self._of_rows(columns).write(out)
            shown = self._shown()
            truths = tuple(place for place, one in enumerate(shown) if one.kind == TRUTH and dialect == "sqlite")
            found = StatementText("".join(out.parts), tuple(out.values), tuple(one.name for one in shown), truths)
            self._compiled[dialect, columns] = found
        return found

    def _of_rows(self, columns: tuple[str, ...]) -> Phrase:
        del columns
        return self

    def _shown(self) -> Sequence[Expression]:
        """The columns of its answer."""
        return ()

    def _with(self, **changes: Any) -> Self:
        other = copy(self)
        other.__dict__.update(changes, _compiled={})
        return other


class Select(_Statement):
    """A query. It reads the tables that it names, without those that a statement around it reads, if any are left."""

    def __init__(self, *columns: Expression | Source) -> None:
        super().__init__()
        self._columns: tuple[Expression, ...] = tuple(
            one for given in columns for one in (given.c.values() if isinstance(given, Source) else (given,))
        )
        self._from: tuple[Source, ...] = ()
        self._joins: tuple[tuple[str, Source, Expression], ...] = ()
        self._where: tuple[Expression, ...] = ()
        self._after: tuple[_Word, ...] = ()  # the conditions
        self._distinct = False

    def where(self, *conditions: Expression) -> Self:
        return self._with(_where=(*self._where, *conditions))

    def select_from(self, source: Source) -> Self:
        return self._with(_from=(*self._from, source))

    def join(self, source: Source, on: Expression, *, outer: bool = False) -> Self:
        """With the rows of `source` beside those that fit `on`; with `outer` also where none fits."""
        return self._with(_joins=(*self._joins, (" LEFT JOIN " if outer else " JOIN ", source, on)))

    def distinct(self) -> Self:
        return self._with(_distinct=True)

    # these in the order in which SQL has them

    def group_by(self, *columns: Expression) -> Self:
        return self._with(_after=(*self._after, " GROUP BY ", *_listed(columns)))

    def order_by(self, *columns: Expression) -> Self:
        return self._with(_after=(*self._after, " ORDER BY ", *_listed(columns)))

    def limit(self, count: int) -> Self:
        return self._with(_after=(*self._after, " LIMIT ", _Value(count)))

    def offset(self, count: int) -> Self:
        return self._with(_after=(*self._after, " OFFSET ", _Value(count)))

    def scalar_subquery(self) -> Expression:
        """Its one value, for another statement."""
        return _Words("(", self, ")")

    def _shown(self) -> Sequence[Expression]:
        return self._columns

    def write(self, out: StatementWriter) -> None:
        before, joined = out.around, [source for _, source, _ in self._joins]
        every = dict.fromkeys((*self._from, *_sources((*self._columns, *self._where))))
        named = [one for one in every if one not in joined]
        read = [one for one in named if one not in before] or named
        out.around = (*before, *read, *joined)
        out.add("SELECT DISTINCT " if self._distinct else "SELECT ", *_listed(self._columns or ("1",)))
        if read:
            out.add(" FROM ", *_listed(read))
        for kind, source, on in self._joins:
            out.add(kind, source, " ON ", on)
        out.add(*_where(self._where), *self._after)
        out.around = before


class exists(Expression):  # noqa: N801 - reads as the word of SQL that it is
    """Whether there is a row: `exists().where(keys.c.id == ident)`."""

    __slots__ = ("_query",)
    kind: ColumnKind | None = TRUTH

    def __init__(self, query: Select | None = None) -> None:
        self._query = query or Select()

    def where(self, *conditions: Expression) -> exists:
        return exists(self._query.where(*conditions))

    def select_from(self, source: Source) -> exists:
        return exists(self._query.select_from(source))

    def write(self, out: StatementWriter) -> None:
        out.add("EXISTS (", self._query, ")")


class _Change(_Statement):
    def __init__(self, table: Table) -> None:
        super().__init__()
        self._table = table
        self._where: tuple[Expression, ...] = ()
        self._values: Mapping[str, Any] = {}

    def values(self, given: Mapping[str, Any] | None = None, /, **values: Any) -> Self:
        return self._with(_values={**self._values, **(given or {}), **values})

    def where(self, *conditions: Expression) -> Self:
        return self._with(_where=(*self._where, *conditions))


class Insert(_Change):
    """Inserts a row, or those that are given with it, which have the same columns."""

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self._place: Sequence[str] = ()
        self._put: Mapping[str, Expression] | None = None

    def where_there(self, place: Sequence[str], put: Mapping[str, Expression]) -> Self:
        """What to `put` into a row that is there already, with the same values in the columns `place`."""
        return self._with(_place=place, _put=put)

    def _of_rows(self, columns: tuple[str, ...]) -> Self:
        return self.values({name: Param(name) for name in columns if name not in self._values})

    def write(self, out: StatementWriter) -> None:
        out.add("INSERT INTO ", self._table, " (", *_listed(map(_quoted, self._values)), ") VALUES (")
        out.add(*_listed(map(_Value, self._values.values())), ")")
        if self._put is not None:
            out.add(" ON CONFLICT (", *_listed(map(_quoted, self._place)), ") DO ")
            out.add("UPDATE SET " if self._put else "NOTHING", *_assigned(self._put))


class Update(_Change):
    def write(self, out: StatementWriter) -> None:
        out.around = (self._table,)
        out.add("UPDATE ", self._table, " SET ", *_assigned(self._values), *_where(self._where))


class Delete(_Change):
    def write(self, out: StatementWriter) -> None:
        out.around = (self._table,)
        out.add("DELETE FROM ", self._table, *_where(self._where))


Statement: TypeAlias = Select | Insert | Update | Delete


class _Functions:
    """`func.max(column)`: a function that both databases have. Without arguments: of all rows."""

    def __getattr__(self, name: str) -> Callable[..., Expression]:
        return lambda *given: _Words(f"{name}(", *_listed(map(_expression, given)), ")" if given else "*)")


func: Final = _Functions()
select: Final = Select
insert: Final = Insert
update: Final = Update
delete: Final = Delete


def and_(*conditions: Expression) -> Expression:
    return _Words("(", *_listed(map(_Condition, conditions), " AND "), ")")


def or_(*conditions: Expression) -> Expression:
    return _Words("(", *_listed(map(_Condition, conditions), " OR "), ")")


def case(condition: Expression, then: object, otherwise: object) -> Expression:
    return _Words(
        "CASE WHEN ", _Condition(condition), " THEN ", _expression(then), " ELSE ", _expression(otherwise), " END"
    )


def as_bytes(one: Expression) -> Expression:
    """The value as bytes, also if somebody put another type there."""
    return _Words("CAST(", one, {"sqlite": " AS BLOB)", "postgresql": " AS BYTEA)"}, kind=BYTES)


def concat(*texts: object) -> Expression:
    return _Words("(", *_listed(map(_expression, texts), " || "), ")")


def param(name: str) -> Expression:
    """A value that is given with the statement."""
    return _Value(Param(name))


def adding(table: Table, place: Sequence[str], counts: Sequence[str]) -> Insert:
    """The upsert that inserts a row, or adds its `counts` to the row with the same `place`, the table's primary key."""
    return Insert(table).where_there(place, {name: table.c[name] + _excluded(name) for name in counts})


def putting(table: Table, place: Sequence[str], values: Sequence[str]) -> Insert:
    """The upsert that inserts a row, or puts its `values` into the row with the same `place`."""
    return Insert(table).where_there(place, {name: _excluded(name) for name in values})


def inserting(table: Table, place: Sequence[str]) -> Insert:
    """The statement that inserts a row, or leaves the row with the same `place` as it is."""
    return Insert(table).where_there(place, {})


def _excluded(name: str) -> Expression:
    """In an upsert: the value of the row that was to be inserted."""
    return _Words(f"excluded.{_quoted(name)}")


def _expression(value: object) -> Expression:
    return value if isinstance(value, Expression) else _Value(value)


def _operation(left: Expression, operator: str, right: object) -> Expression:
    return _Words("(", left, f" {operator} ", _expression(right), ")")


def _sources(parts: Iterable[Phrase]) -> Iterator[Source]:
    return (source for part in parts for source in part.sources())


def _listed(parts: Iterable[_Word], between: str = ", ") -> list[_Word]:
    """With `between` between each two."""
    return [word for part in parts for word in (between, part)][1:]


def _where(conditions: Sequence[Expression]) -> list[_Word]:
    return [" WHERE ", *_listed(map(_Condition, conditions), " AND ")] if conditions else []


def _assigned(values: Mapping[str, Any]) -> list[_Word]:
    return _listed(_Words(_quoted(name), " = ", _expression(value)) for name, value in values.items())


def _quoted(name: str) -> str:
    return f'"{name}"'
