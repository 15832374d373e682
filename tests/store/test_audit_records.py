"""Reading the audit log: filters, order, and invalid records."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from host.core.audit import Event
from host.errors import AuditBroken
from host.store import connections
from host.store.audit_log.log import AuditLog
from host.store.audit_log.records import Wanted, newest_records, records
from host.store.database import Database

Raw = Callable[..., list[Any]]


@pytest.fixture
def filled(audit_log: AuditLog) -> AuditLog:
    for event in (
        Event("run.started", "run_a", at=1.0),
        Event("http.request", "run_a", "deny", "domain not granted", at=2.0),
        Event("component.pulled", "", at=3.0),
        Event("run.started", "run_b", at=4.0),
        Event("http.request", "run_b", "allow", at=5.0),
    ):
        audit_log.record(event)
    return audit_log


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param(Wanted(), [1, 2, 3, 4, 5], id="all of them"),
        pytest.param(Wanted(run="run_a"), [1, 2], id="of a run"),
        pytest.param(Wanted(run=""), [3], id="of no run"),
        pytest.param(Wanted(kind="run.started"), [1, 4], id="of a kind"),
        pytest.param(Wanted(denied=True), [2], id="what was denied"),
        pytest.param(Wanted(since=4.0), [4, 5], id="since a time"),
        pytest.param(Wanted(kind="http.request", since=3.0), [5], id="what holds together"),
        pytest.param(Wanted(run="run_c"), [], id="of a run that never was"),
    ],
)
@pytest.mark.usefixtures("filled")
def test_which_are_wanted(database: Database, wanted: Wanted, found: list[int]) -> None:
    assert [record.seq for record in records(database, wanted)] == found
    assert [record.seq for record in newest_records(database, 2, wanted)] == found[-2:]


@pytest.mark.usefixtures("filled")
def test_they_are_read_a_part_at_a_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_AT_ONCE", 2)
    found = records(database)
    assert [next(found).seq, next(found).seq] == [1, 2]
    found.close()  # and need not be read to the end
    assert [record.seq for record in records(database)] == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("filled")
def test_others_can_be_read_for_each(database: Database) -> None:
    newest = [(record.seq, newest_records(database, 1)[0].seq) for record in records(database)]
    assert newest == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


@pytest.mark.usefixtures("filled")
def test_a_thread_can_end_what_another_began_to_read(database: Database) -> None:
    found = records(database)
    assert next(found).seq == 1
    with ThreadPoolExecutor(1) as other:
        assert [record.seq for record in other.submit(list, found).result()] == [2, 3, 4, 5]


@pytest.mark.parametrize("at", [-1.0, 1e300, 253_402_300_800.0])
@pytest.mark.usefixtures("filled")
def test_a_time_that_no_calendar_has_is_told_by_its_number(raw: Raw, database: Database, at: float) -> None:
    raw("UPDATE audit SET at = ? WHERE seq = 3", at)
    with pytest.raises(AuditBroken, match="record 3 cannot be read"):
        list(records(database))


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)  # the other database enforces the types of columns
@pytest.mark.parametrize("column", ["at", "run", "kind", "decision", "rule"])
@pytest.mark.usefixtures("filled")
def test_a_value_of_another_type_is_told_by_its_number(raw: Raw, database: Database, column: str) -> None:
    raw(f"UPDATE audit SET {column} = x'00ff' WHERE seq = 3")
    with pytest.raises(AuditBroken, match="record 3 cannot be read"):
        list(records(database))


@pytest.mark.parametrize("detail", ["", "[]", "{", '{"a":' * 300])
@pytest.mark.usefixtures("filled")
def test_a_detail_that_somebody_put_there_is_told_by_its_number(raw: Raw, database: Database, detail: str) -> None:
    raw("UPDATE audit SET detail = ? WHERE seq = 3", detail)
    with pytest.raises(AuditBroken, match="record 3 cannot be read") as caught:
        list(records(database))
    assert (caught.value.seq, caught.value.hint) == (3, "host audit verify")
