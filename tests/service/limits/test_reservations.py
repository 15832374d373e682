"""Tokens held before a run and settled after it, wherever they are counted."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from host.core.sliding_window import Held
from host.service.limits import Exceeded, Limiter, Reservation
from tests.service.limits.levels import levels
from tests.service.limits.test_limiters import limit


def held(limiter: Limiter, *limits: object, needed: int = 1, likely: int = 1) -> Reservation:
    found = limiter.reserve(limits, needed, likely)  # type: ignore[arg-type]
    assert isinstance(found, Reservation)
    return found


def test_many_at_once_do_not_pass_a_budget_with_one_token_left(limiter: Limiter) -> None:
    tokens, together = limit("100/1h", "tokens"), threading.Barrier(8)
    limiter.spend([tokens], 99)

    def ask(_: int) -> bool:
        together.wait()
        return isinstance(limiter.reserve([tokens], 1, 50), Reservation)

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(ask, range(8))) == 1
    assert levels(limiter, [tokens]) == [100.0]


def test_what_does_not_fit_is_told_by_the_budget_and_by_when_it_would(limiter: Limiter, clock: list[float]) -> None:
    tokens, requests = limit("100/1h", "tokens"), limit("9/1h")
    held(limiter, tokens, requests, needed=60, likely=60)
    exceeded = limiter.reserve([tokens, requests], 60, 60)
    assert isinstance(exceeded, Exceeded)
    assert (exceeded.limit, exceeded.needed) == (tokens, 60)
    assert levels(limiter, [tokens, requests]) == [60.0, 1.0], "nothing is counted for it"
    clock[0] += exceeded.retry_after_s - 0.01
    assert isinstance(limiter.reserve([tokens], 60, 60), Exceeded)
    clock[0] += 0.02
    held(limiter, tokens, needed=60, likely=60)


def test_more_than_the_whole_budget_never_fits(limiter: Limiter) -> None:
    tokens = limit("100/1h", "tokens")
    exceeded = limiter.reserve([tokens], 101, 101)
    assert isinstance(exceeded, Exceeded)
    assert exceeded.retry_after_s == 3600.0
    assert levels(limiter, [tokens]) == [0.0]


def test_what_is_only_likely_takes_the_room_that_there_is(limiter: Limiter) -> None:
    tokens = limit("100/1h", "tokens")
    assert held(limiter, tokens, needed=5, likely=4000).held[0].amount == 100
    assert isinstance(limiter.reserve([tokens], 1, 1), Exceeded)


def test_what_costs_nothing_needs_no_room(limiter: Limiter) -> None:
    """Else nobody could read the answer that a budget waits for."""
    tokens = limit("100/1h", "tokens")
    limiter.spend([tokens], 500)
    assert held(limiter, tokens, needed=0, likely=0).held[0].amount == 0
    assert isinstance(limiter.admit([tokens]), Exceeded), "where it is not said, there must be room for one"


@pytest.mark.parametrize(("cost", "level"), [(0, 0.0), (20, 20.0), (50, 50.0), (80, 80.0), (5000, 5000.0)])
def test_the_answer_gives_back_what_is_left_and_adds_what_was_missing(
    limiter: Limiter, cost: int, level: float
) -> None:
    tokens = limit("100/1h", "tokens")
    reservation = held(limiter, tokens, needed=50, likely=50)
    assert levels(limiter, [tokens]) == [50.0]
    assert limiter.settle(reservation, cost) == cost
    assert levels(limiter, [tokens]) == [level]


def test_what_nobody_settles_stays_spent_until_its_window_is_over(
    opened: Callable[[], Limiter], clock: list[float]
) -> None:
    tokens = limit("100/1h", "tokens")
    held(opened(), tokens, needed=100, likely=100)  # by a process that is killed
    another = opened()
    assert isinstance(another.reserve([tokens], 1, 1), Exceeded)
    clock[0] += 7200.0
    held(another, tokens, needed=100, likely=100)


def test_what_is_given_back_late_opens_no_later_window(limiter: Limiter, clock: list[float]) -> None:
    tokens = limit("100/1h", "tokens")
    reservation = held(limiter, tokens, needed=100, likely=100)
    for _ in range(3):
        clock[0] += 3600.0
        if _ == 0:
            assert levels(limiter, [tokens]) == [100.0]
            limiter.settle(reservation, 10)
            assert levels(limiter, [tokens]) == [10.0], "of the last window, where it was held"
    other = held(limiter, tokens, needed=30, likely=30)
    limiter.settle(Reservation((Held(tokens, reservation.held[0].window, 100),)), 0)
    assert levels(limiter, [tokens]) == [30.0]
    limiter.settle(other, 0)
    assert levels(limiter, [tokens]) == [0.0]


def test_a_reservation_that_is_settled_twice_makes_no_room(limiter: Limiter) -> None:
    tokens = limit("100/1h", "tokens")
    first, second = held(limiter, tokens, likely=40), held(limiter, tokens, likely=40)
    limiter.settle(first, 0)
    limiter.settle(first, 0)
    limiter.settle(second, 0)
    assert levels(limiter, [tokens]) == [0.0], "and never less than nothing"


class TestAnAnswer:
    def test_that_is_read_twice_counts_once(self, limiter: Limiter) -> None:
        tokens = limit("1000/1h", "tokens")
        assert limiter.settle(held(limiter, tokens, likely=50), 70, "r1") == 70
        for _ in range(3):
            assert limiter.settle(held(limiter, tokens, needed=0, likely=0), 70, "r1", again=True) == 0
        assert levels(limiter, [tokens]) == [70.0]
        assert limiter.settle(held(limiter, tokens, needed=0, likely=0), 70, "r2", again=True) == 70
        assert levels(limiter, [tokens]) == [140.0]

    def test_that_comes_later_is_held_when_it_is_ordered_and_settled_when_it_is_read(self, limiter: Limiter) -> None:
        tokens = limit("1000/1h", "tokens")
        assert limiter.settle(held(limiter, tokens, likely=400), None, "r1") == 0
        assert levels(limiter, [tokens]) == [400.0]
        assert limiter.settle(held(limiter, tokens, needed=0, likely=0), None, "r1", again=True) == 0
        assert levels(limiter, [tokens]) == [400.0], "it is not there yet"
        for due in (30, 0, 0):
            assert limiter.settle(held(limiter, tokens, needed=0, likely=0), 30, "r1", again=True) == due
            assert levels(limiter, [tokens]) == [30.0]

    def test_that_cost_more_than_was_held_adds_the_rest_once(self, limiter: Limiter) -> None:
        tokens = limit("1000/1h", "tokens")
        limiter.settle(held(limiter, tokens, likely=40), None, "r1")
        for _ in range(2):
            limiter.settle(held(limiter, tokens, needed=0, likely=0), 700, "r1", again=True)
            assert levels(limiter, [tokens]) == [700.0]

    def test_of_another_request_with_the_same_id_counts_in_full(self, limiter: Limiter) -> None:
        """Some servers number their answers badly. Only what is read counts once."""
        tokens = limit("1000/1h", "tokens")
        for _ in range(3):
            assert limiter.settle(held(limiter, tokens, likely=50), 70, "chatcmpl-1") == 70
        assert levels(limiter, [tokens]) == [210.0]
        limiter.settle(held(limiter, tokens, likely=50), None, "chatcmpl-1")
        assert levels(limiter, [tokens]) == [260.0]

    def test_that_says_less_the_second_time_gives_nothing_back(self, limiter: Limiter) -> None:
        tokens = limit("1000/1h", "tokens")
        limiter.settle(held(limiter, tokens, likely=40), 300, "r1")
        limiter.settle(held(limiter, tokens, needed=0, likely=0), 0, "r1", again=True)
        limiter.settle(held(limiter, tokens, needed=0, likely=0), 300, "r1", again=True)
        assert levels(limiter, [tokens]) == [300.0]

    def test_that_others_read_is_counted_for_them_too_and_for_no_other_budget(self, limiter: Limiter) -> None:
        ours, theirs = limit("1000/1h", "tokens"), limit("1000/1h", "tokens")
        limiter.settle(held(limiter, ours, likely=400), None, "r1")
        assert limiter.settle(held(limiter, theirs, needed=0, likely=0), 30, "r1", again=True) == 30
        assert levels(limiter, [ours, theirs]) == [400.0, 30.0]

    def test_is_known_to_another_process_and_after_a_restart(self, opened: Callable[[], Limiter]) -> None:
        tokens = limit("1000/1h", "tokens")
        first, second = opened(), opened()
        first.settle(held(first, tokens, likely=400), None, "r1")
        second.settle(held(second, tokens, needed=0, likely=0), 30, "r1", again=True)
        third = opened()
        third.settle(held(third, tokens, needed=0, likely=0), 30, "r1", again=True)
        assert levels(third, [tokens]) == [30.0]

    def test_is_known_in_the_next_window_and_forgotten_after_that(self, limiter: Limiter, clock: list[float]) -> None:
        tokens = limit("1000/1h", "tokens")
        limiter.settle(held(limiter, tokens, likely=400), None, "r1")
        clock[0] += 3600.0
        assert limiter.settle(held(limiter, tokens, needed=0, likely=0), 30, "r1", again=True) == 30
        assert levels(limiter, [tokens]) == [30.0]
        assert limiter.settle(held(limiter, tokens, needed=0, likely=0), 30, "r1", again=True) == 0
        clock[0] += 7200.0
        assert limiter.settle(held(limiter, tokens, needed=0, likely=0), 30, "r1", again=True) == 30

    def test_counts_for_each_of_several_budgets(self, limiter: Limiter) -> None:
        key, catalyst = limit("1000/1h", "tokens"), limit("5000/1d", "tokens")
        limiter.settle(held(limiter, key, catalyst, likely=400), None, "r1")
        limiter.settle(held(limiter, key, catalyst, needed=0, likely=0), 30, "r1", again=True)
        assert levels(limiter, [key, catalyst]) == [30.0, 30.0]


def test_of_whatever_happens_no_level_is_below_zero_or_below_what_was_paid(
    limiter: Limiter, clock: list[float]
) -> None:
    tokens, dice = limit("100000/1h", "tokens"), random.Random(7)
    paid, open_ = 0, []
    for _ in range(150):
        if open_ and dice.random() < 0.5:
            cost = dice.choice([0, 5, 50, 500])
            paid += cost
            limiter.settle(open_.pop(dice.randrange(len(open_))), cost)
        else:
            open_.append(held(limiter, tokens, likely=dice.randrange(1, 100)))
        [level] = levels(limiter, [tokens])
        assert level == paid + sum(one.held[0].amount for one in open_)
