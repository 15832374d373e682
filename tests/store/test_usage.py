"""Sums of usage."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from host.errors import StateError
from host.store.access.usage import Usage, Used
from host.store.database import Database

OPENAI = "c:local.openai:0.1.0"


@pytest.fixture
def usage(database: Database) -> Usage:
    return Usage(database)


def test_what_is_added_is_added_up_by_day_key_and_catalyst(usage: Usage) -> None:
    usage.add([Used("2026-11-20", "k1", OPENAI, 1, 0, 10, 5), Used("2026-11-20", "k1", OPENAI, 1, 1, 2, 0)])
    usage.add([Used("2026-11-20", "k1", OPENAI, 2, 0, 3, 4), Used("2026-11-20", "", OPENAI, 7)])
    usage.add([Used("2026-11-21", "k1", OPENAI, 1), Used("2026-11-20", "k1", "c:local.other:1.0.0", 1)])
    assert usage.totals() == [
        Used("2026-11-21", "k1", OPENAI, 1),
        Used("2026-11-20", "", OPENAI, 7),
        Used("2026-11-20", "k1", OPENAI, 4, 1, 15, 9),
        Used("2026-11-20", "k1", "c:local.other:1.0.0", 1),
    ]
    assert [one.day for one in usage.totals("2026-11-21")] == ["2026-11-21"]
    assert usage.totals("2026-11-22") == []
    assert [(one.day, one.requests) for one in usage.totals(key="")] == [("2026-11-20", 7)]
    assert [one.requests for one in usage.totals("2026-11-21", "k1")] == [1]


def test_nothing_added_is_nothing_written(usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "writing", None)
    usage.add([])


def test_more_tokens_than_32_bits_count(usage: Usage) -> None:
    for _ in range(2):
        usage.add([Used("2026-11-20", "k1", OPENAI, 1, 0, 2**40, 2**40)])
    assert usage.totals()[0].input_tokens == 2**41


def test_all_of_it_is_added_or_none(usage: Usage) -> None:
    with pytest.raises(StateError):
        usage.add([Used("2026-11-20", "k1", OPENAI, 1), Used("2026-11-20", "k2", None, 1)])  # type: ignore[arg-type]
    assert usage.totals() == []


def test_what_threads_add_at_once_is_all_there(usage: Usage) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: usage.add([Used("2026-11-20", f"k{n % 2}", OPENAI, 1)]), range(40)))
    assert [one.requests for one in usage.totals()] == [20, 20]
