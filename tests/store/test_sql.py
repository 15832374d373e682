"""Statements mean the same in both databases."""

from __future__ import annotations

from typing import Any

import pytest

from host.store.database import Database
from host.store.sql import Expression, and_, case, delete, func, insert, or_, select, update
from host.store.tables import api_keys, cancellations, rules

ROWS = [("a", True, 1), ("%s", False, 2), ("B%", True, 3), ('"', False, 4)]


@pytest.fixture
def filled(database: Database) -> Database:
    names = ("namespace", "require_signature", "threshold")
    with database.writing() as connection:
        assert connection.execute(insert(rules), [dict(zip(names, row, strict=True)) for row in ROWS]).rowcount == 4
    return database


def thresholds(database: Database, *conditions: Expression) -> list[Any]:
    with database.reading() as connection:
        query = select(rules.c.threshold).where(*conditions).order_by(rules.c.threshold)
        return connection.execute(query).scalars()


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        pytest.param(rules.c.require_signature, [1, 3], id="a truth"),
        pytest.param(~rules.c.require_signature, [2, 4], id="its opposite"),
        pytest.param(rules.c.require_signature == False, [2, 4], id="a truth as a value"),  # noqa: E712
        pytest.param(~and_(rules.c.require_signature, rules.c.threshold > 1), [1, 2, 4], id="not both"),
        pytest.param(or_(~rules.c.require_signature, rules.c.threshold <= 1), [1, 2, 4], id="either"),
        pytest.param(rules.c.namespace.in_([]), [], id="among nothing"),
        pytest.param(~rules.c.namespace.in_([]), [1, 2, 3, 4], id="not among nothing"),
        pytest.param(rules.c.namespace.in_(["a", "b%"]), [1], id="among some, letter for letter"),
        pytest.param(rules.c.namespace.startswith("%"), [2], id="a percent sign at the beginning"),
        pytest.param(rules.c.namespace.contains("%"), [2, 3], id="a percent sign somewhere"),
        pytest.param(rules.c.namespace.contains("b"), [], id="in capitals"),
        pytest.param(rules.c.namespace == '"', [4], id="a quotation mark"),
        pytest.param(case(rules.c.require_signature, rules.c.threshold, 0) > 1, [3], id="a case"),
        pytest.param(rules.c.threshold == None, [], id="is null"),  # noqa: E711
        pytest.param(rules.c.threshold != None, [1, 2, 3, 4], id="is not null"),  # noqa: E711
    ],
)
def test_which_rows_fit(filled: Database, condition: Expression, found: list[int]) -> None:
    assert thresholds(filled, condition) == found


def test_a_query_inside_a_statement_on_its_own_table_reads_that_table(filled: Database) -> None:
    oldest = select(rules.c.threshold).order_by(rules.c.threshold).limit(2)
    newest = select(func.max(rules.c.threshold)).scalar_subquery()
    with filled.writing() as connection:
        assert connection.execute(delete(rules).where(rules.c.threshold.in_(oldest))).rowcount == 2
        assert connection.execute(select(rules.c.namespace).where(rules.c.threshold == newest)).scalars() == ['"']
        connection.execute(update(rules).where(rules.c.threshold < newest).values(threshold=9))
    assert thresholds(filled) == [4, 9]


def test_a_row_has_its_values_by_name_as_they_were_written(filled: Database) -> None:
    with filled.reading() as connection:
        rows = [row.as_dict() for row in connection.execute(select(rules).order_by(rules.c.threshold))]
    assert [tuple(row.values()) for row in rows] == ROWS
    assert all(type(row["require_signature"]) is bool for row in rows)


def test_bytes_and_times_come_back_as_they_were(database: Database) -> None:
    texts = dict.fromkeys(("id", "name", "type", "scopes", "ip_allowlist", "models", "catalysts"), "ü")
    with database.writing() as connection:
        connection.execute(insert(api_keys).values({**texts, "hash": bytes(range(256)), "created_at": 0.1 + 0.2}))
        connection.execute(insert(cancellations).values(run="r", asked_at=1e300))
    with database.reading() as connection:
        row = connection.execute(select(api_keys)).one()
        assert connection.execute(select(cancellations.c.asked_at)).scalar_one() == 1e300
    assert (row.hash, row.created_at, row.name) == (bytes(range(256)), 0.1 + 0.2, "ü")
    assert (row.previous_hash, row.revoked_at, row.rate_limit) == (None, None, None)
