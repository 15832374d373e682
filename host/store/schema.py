"""The schema of the database, known exactly: nothing in the database acts that this program did not make.

A trigger, a view, a rule or a default runs inside our transactions, so whoever can write to the database could let this
program do what only its operator may, and seal that too. Therefore the tables, indexes and constraints have to be
those of `migrations/*.schema`, one object a line, and nothing else may be in the database's schema. That is checked
when the database is opened, whenever the state digest is checked, and again before a new one is written, each time in
the same transaction (`host.store.state_digest`). The digest of the schema is a part of the state digest.

SQLite: no trigger and no view works on our connections. The objects are compared when a connection meets a schema for
the first time, and again when its number (the schema cookie) has moved. An index is a second copy of columns, and a
query by it does not look at the rows that it leads past. So somebody who can write to the file could put an entry there
that no row has. Whoever verifies rows therefore also compares them with their indexes (`check_indexes`).

PostgreSQL: tables with their columns, defaults, row security and children; indexes; constraints with their triggers;
triggers, rules and policies; functions, operators, types and the like, because a better match than the server's own
could be called in its place; event triggers. A superuser of that server can replace the server's own functions, and
nothing that a client does helps against that.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from host.errors import StateError
from host.store.connections import StateConnection
from host.store.sql import Table

FILES: Final = Path(__file__).parent / "migrations"  # with the schema of each dialect: `sqlite.schema`
EARLIER: Final[tuple[str, ...]] = (
    "",
    "4c2b9ea7877aef5b751e8b5bc7e0fb6095a8b14b6b6f6181f105f2000307c69c",
    "dd7f61d578c63e1d146653124ee768f7b945a8dbc596b45e317e7e168d17735b",
    "f51dcbbaa5f01d01f455eb73c98121463abdc345c47b937e9f44cc1338d6caad",
    "529ed8795422a4eb4875343d74c3ecb92d41ac8263ef2b16b1dd68f68a2a8ab1",
)
"""Digests of the schemas before this one; "": it was no part of the state digest."""

_MOST_NAMED: Final = 5
_BLANKS: Final = re.compile(r"[ \t\n\r]+")  # what separates words in SQL, and no other blank does
_COOKIE: Final = "PRAGMA main.schema_version"
_OF_SQLITE: Final = "SELECT type, name, tbl_name, sql, rootpage FROM main.sqlite_master"


class SchemaObject(NamedTuple):
    """`definition` is SQL, or what the catalogue of PostgreSQL says."""

    kind: str
    name: str
    table: str
    definition: str

    def __str__(self) -> str:
        on = f" on {self.table[:80]!r}" if self.table not in ("", self.name) else ""
        return f"the {self.kind[:20]} {self.name[:80]!r}{on}"


def check(connection: StateConnection) -> None:
    """Raises StateError, which names the objects, if the schema is not the one of this program. To be called in the
    transaction that depends on it."""
    dialect = connection.dialect
    if dialect != "sqlite":
        _compare(dialect, found(connection))
        return
    cookie = connection.execute(_COOKIE).scalar()
    if connection.info.get("schema") != cookie:  # of the connection to the file, which parses the schema once itself
        _compare(dialect, found(connection))
        connection.info["schema"] = cookie


def check_indexes(connection: StateConnection, tables: Iterable[Table]) -> None:
    """Raises StateError if an index of one of the tables has other entries than the table has rows. To be called in the
    transaction that reads them. Does nothing on PostgreSQL, where only a superuser could write to an index."""
    if connection.dialect != "sqlite":
        return
    if (name := connection.execute(_indexes_of(tuple(one.name for one in tables))).scalar()) is not None:
        raise StateError(
            f"the indexes of the table {name!r} do not have the entries of its rows",
            hint="somebody wrote to the file, or the disk is damaged: put back a backup of the whole state; REINDEX in "
            "the shell sqlite3 makes the indexes anew from the rows",
        )


def found(connection: StateConnection) -> list[SchemaObject]:
    """Every object in the schema of the database."""
    if connection.dialect == "sqlite":
        return _in_sqlite(connection.execute(_OF_SQLITE))
    ours, path, _ = connection.execute(_ALONE).one()
    rows = connection.execute(_OF_POSTGRES, (ours,)).all()
    connection.execute(_AS_BEFORE, (path,))
    return [SchemaObject(*map(str, row)) for row in rows]


@cache
def expected(dialect: str) -> tuple[SchemaObject, ...]:
    """Every object that the migrations make."""
    return tuple(SchemaObject(*line.split("\t")) for line in _lines(dialect).splitlines())


@cache
def digest(dialect: str) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(_lines(dialect).encode()).hexdigest()


def as_lines(objects: Iterable[SchemaObject]) -> str:
    """The content of a `.schema` file."""
    return "".join(f"{line}\n" for line in sorted("\t".join(one) for one in objects))


def forbid_actions(connection: sqlite3.Connection) -> None:
    """No trigger and no view of the file works on this connection: a statement that would use one fails. Python 3.12
    can also switch them off (https://sqlite.org/c3ref/c_dbconfig_defensive.html)."""
    connection.set_authorizer(_by_itself)
    connection.execute("PRAGMA trusted_schema=OFF").close()
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, False)
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_VIEW, False)
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)


def _by_itself(action: int, one: str | None, two: str | None, database: str | None, actor: str | None) -> int:
    """SQLite asks when it prepares a statement, and not for each row. `actor`: the trigger or the view that acts."""
    del action, one, two, database
    return sqlite3.SQLITE_OK if actor is None else sqlite3.SQLITE_DENY


@cache
def _indexes_of(tables: Sequence[str]) -> str:
    """One statement, which names a table that does not pass (https://sqlite.org/pragma.html#pragma_integrity_check)."""
    return " UNION ALL ".join(
        f"SELECT '{name}' FROM pragma_integrity_check('{name}', 'main') WHERE integrity_check <> 'ok'"  # noqa: S608 - ours
        for name in tables
    )


@cache
def _lines(dialect: str) -> str:
    return (FILES / f"{dialect}.schema").read_text("utf-8")


def _in_sqlite(rows: Iterable[Any]) -> list[SchemaObject]:
    """Two objects in one place of the file would be one table with two names: the second is marked as unknown."""
    objects, places = [], set()
    for kind, name, table, sql, place in rows:
        shared = place in places
        places.add(place)
        definition = "" if sql is None else _BLANKS.sub(" ", str(sql))
        objects.append(
            SchemaObject(str(kind), str(name), str(table), f"shared: {definition}" if shared else definition)
        )
    return objects


def _compare(dialect: str, there: Iterable[SchemaObject]) -> None:
    """Raises StateError for any difference."""
    have, want = Counter(there), Counter(expected(dialect))
    if have == want:
        return
    more, less = list((have - want).elements()), list((want - have).elements())
    names = {one[:3] for one in less}
    changed = {one[:3] for one in more if one[:3] in names}
    said = [f"{one} is not as it was made" for one in more if one[:3] in changed]
    said += [f"{one} is not of this program" for one in more if one[:3] not in changed]
    said += [f"{one} is missing" for one in less if one[:3] not in changed]
    left = len(said) - _MOST_NAMED
    raise StateError(
        "the schema of the state's database was changed: "
        + "; ".join([*said[:_MOST_NAMED], *([f"and {left} more"] if left > 0 else [])]),
        hint="nothing runs until it is as this program makes it: drop what somebody added, after a look at what it "
        "did, or put back a backup of the whole state",
    )


# What the check itself calls is the server's own: for as long as it lasts, names and operators of others are not found.
_ALONE: Final = (
    "SELECT pg_catalog.current_schema(), pg_catalog.current_setting('search_path'),"
    " pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)"
)
_AS_BEFORE: Final = "SELECT pg_catalog.set_config('search_path', %s, true)"

# Numbers of types, functions and collations below 16384 are those of the server itself, the same in every version.
_OF_POSTGRES: Final = r"""
WITH ours AS (SELECT oid, quote_ident(nspname) || '.' AS prefix FROM pg_namespace WHERE nspname = %s),
relations AS (SELECT pg_class.* FROM pg_class JOIN ours ON relnamespace = ours.oid),
constraints AS (SELECT pg_constraint.* FROM pg_constraint JOIN ours ON connamespace = ours.oid WHERE contype <> 'n')
SELECT CASE relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
        WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' WHEN 'p' THEN 'partitioned table' ELSE 'type' END,
    relname, relname,
    concat_ws(' ', relkind, relpersistence, relam, relrowsecurity, relforcerowsecurity, relispartition) || ': '
    || coalesce((
        SELECT string_agg(concat_ws(' ', attname, atttypid, atttypmod, attnotnull, attcollation,
            attidentity::text || '.', attgenerated::text || '.', attislocal, attinhcount,
            pg_get_expr(adbin, adrelid)), ', ' ORDER BY attname)
        FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = relations.oid AND attnum > 0 AND NOT attisdropped), '')
FROM relations WHERE relkind NOT IN ('i', 'I')
UNION ALL SELECT 'index', index.relname, relations.relname,
    concat_ws(' ', replace(pg_get_indexdef(indexrelid), ours.prefix, ''), index.relam, indisprimary, indimmediate,
        indisvalid, indisready, indislive)
FROM relations JOIN pg_index ON indrelid = relations.oid JOIN pg_class AS index ON index.oid = indexrelid, ours
UNION ALL SELECT 'constraint', conname, coalesce(relations.relname, ''),
    concat_ws(' ', replace(pg_get_constraintdef(constraints.oid), ours.prefix, ''), (
        SELECT string_agg(concat_ws(' ', tgfoid, tgtype, tgenabled), ', ' ORDER BY tgfoid)
        FROM pg_trigger WHERE tgconstraint = constraints.oid AND tgisinternal))
FROM ours, constraints LEFT JOIN relations ON relations.oid = conrelid
UNION ALL SELECT 'trigger', tgname, relname, ''
FROM pg_trigger JOIN relations ON relations.oid = tgrelid
WHERE NOT (tgisinternal AND tgconstraint IN (SELECT oid FROM constraints))
UNION ALL SELECT 'rule', rulename, relname, '' FROM pg_rewrite JOIN relations ON relations.oid = ev_class
UNION ALL SELECT 'policy', polname, relname, '' FROM pg_policy JOIN relations ON relations.oid = polrelid
UNION ALL SELECT 'child', child.relname, relations.relname, ''
FROM pg_inherits JOIN relations ON relations.oid = inhparent JOIN pg_class AS child ON child.oid = inhrelid
UNION ALL SELECT 'parent', parent.relname, relations.relname, ''
FROM pg_inherits JOIN relations ON relations.oid = inhrelid JOIN pg_class AS parent ON parent.oid = inhparent
UNION ALL SELECT 'statistics', stxname, relname, '' FROM pg_statistic_ext JOIN relations ON relations.oid = stxrelid
UNION ALL SELECT 'function', proname, '', '' FROM pg_proc JOIN ours ON pronamespace = ours.oid
WHERE pg_proc.oid >= 16384
UNION ALL SELECT 'operator', oprname, '', '' FROM pg_operator JOIN ours ON oprnamespace = ours.oid
UNION ALL SELECT 'operator class', opcname, '', '' FROM pg_opclass JOIN ours ON opcnamespace = ours.oid
UNION ALL SELECT 'collation', collname, '', '' FROM pg_collation JOIN ours ON collnamespace = ours.oid
WHERE pg_collation.oid >= 16384
UNION ALL SELECT 'conversion', conname, '', '' FROM pg_conversion JOIN ours ON connamespace = ours.oid
UNION ALL SELECT 'type', typname, '', '' FROM pg_type JOIN ours ON typnamespace = ours.oid
WHERE typtype <> 'c' AND typcategory <> 'A'
UNION ALL SELECT 'cast', format_type(castsource, NULL) || ' as ' || format_type(casttarget, NULL), '', ''
FROM pg_cast WHERE oid >= 16384 AND castsource < 16384 AND casttarget < 16384
UNION ALL SELECT 'function', 'pg_catalog.' || proname::text, '', '' FROM pg_proc
WHERE oid >= 16384 AND pronamespace = 11 AND NOT EXISTS (
    SELECT FROM pg_depend WHERE classid = 1255 AND objid = pg_proc.oid AND deptype = 'e')
UNION ALL SELECT 'operator', 'pg_catalog.' || oprname::text, '', '' FROM pg_operator
WHERE oid >= 16384 AND oprnamespace = 11 AND NOT EXISTS (
    SELECT FROM pg_depend WHERE classid = 2617 AND objid = pg_operator.oid AND deptype = 'e')
UNION ALL SELECT 'event trigger', evtname, '', '' FROM pg_event_trigger
WHERE evtenabled <> 'D' AND NOT EXISTS (
    SELECT FROM pg_depend WHERE classid = 3466 AND objid = pg_event_trigger.oid AND deptype = 'e')
"""
