"""Limits in the store: one transaction for a request's limits, and for those that wait meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from host.core.quantities import Quota
from host.errors import StateError
from host.service.limits import Limit
from host.service.limits.store import StoreLimiter, _CountRequest
from host.store.access.counters import Counters, Tally
from host.store.database import Database
from tests.service.limits.levels import levels

ONE = Limit("test:one", Quota.parse("2/1h"), "requests", "the key 'ci'")
TWO = Limit("test:two", Quota.parse("2/1m"), "requests", "the key 'ci'")


class Counted(Counters):
    """Says how many transactions there were."""

    transactions = 0

    @contextmanager
    def counting(self) -> Iterator[Tally]:
        self.transactions += 1
        with super().counting() as tally:
            yield tally


def test_all_limits_of_a_request_cost_one_transaction(tmp_path: Path) -> None:
    with closing(Database.open(tmp_path / "state")) as database:
        counters = Counted(database)
        limiter = StoreLimiter(counters)
        assert limiter.admit([ONE, TWO]) is None
        assert limiter.admit([]) is None
        limiter.spend([ONE], 5)
        assert counters.transactions == 1


def test_those_that_are_counted_together_see_each_other(tmp_path: Path) -> None:
    with closing(Database.open(tmp_path / "state")) as database:
        limiter = StoreLimiter(Counters(database))
        answers = limiter._count(
            [_CountRequest((ONE,)), _CountRequest((ONE, TWO)), _CountRequest((ONE, TWO)), _CountRequest((TWO,))]
        )
        assert [answer is None for answer in answers] == [True, True, False, True]
        assert levels(limiter, [ONE, TWO]) == [2.0, 2.0]


def test_where_the_database_fails_nobody_gets_in(tmp_path: Path) -> None:
    with closing(Database.open(tmp_path / "state")) as database:
        limiter = StoreLimiter(Counters(database))
        with database.writing() as connection:
            connection.execute("DROP TABLE counters")
        with pytest.raises(StateError):
            limiter.admit([ONE])
