"""Whether a request may be sent again, after what wait, and how many repeats there may be."""

from __future__ import annotations

import threading

import pytest

from host.egress import EgressError
from host.egress.retry import (
    FLOOR,
    FLOOR_OF_KEY,
    RetryBudget,
    answer_may_change,
    asked_wait_s,
    failure_may_pass,
    wait_s,
)
from host.policy.reliability import Retries

KEY = (("Idempotency-Key", "k"),)


def failure(*, passing: bool = True, sent: bool = True) -> EgressError:
    error = EgressError("http_error", "{} went away", "api.test:443", passing=passing)
    error.sent = sent
    return error


@pytest.mark.parametrize(
    ("method", "headers", "error", "again"),
    [
        pytest.param("GET", (), failure(), True, id="a GET that may have arrived"),
        pytest.param("POST", (), failure(), False, id="a POST that may have arrived is not sent twice"),
        pytest.param("PATCH", (), failure(), False, id="nor a PATCH"),
        pytest.param("POST", KEY, failure(), True, id="with an idempotency key it is"),
        pytest.param("POST", (("idempotency-key", " "),), failure(), False, id="an empty key is none"),
        pytest.param("POST", (), failure(sent=False), True, id="a POST of which nothing was sent"),
        pytest.param("GET", (), failure(passing=False), False, id="what will be so the next time too"),
        pytest.param("POST", (), failure(passing=False, sent=False), False, id="as a certificate"),
    ],
)
def test_a_failure_is_tried_again_only_if_nothing_is_done_twice(method, headers, error, again):
    assert failure_may_pass(method, headers, error) is again


@pytest.mark.parametrize(
    ("method", "status", "headers", "answered", "again"),
    [
        *[pytest.param("POST", status, (), (), True, id=f"{status}: not processed") for status in (408, 421, 425, 429)],
        *[
            pytest.param("POST", status, (), (), False, id=f"{status}: a POST is paid for")
            for status in (500, 502, 503)
        ],
        *[pytest.param("GET", status, (), (), True, id=f"{status}: a GET") for status in (500, 502, 503, 504)],
        *[pytest.param("GET", status, (), (), False, id=f"{status}: final") for status in (400, 401, 404, 409, 501)],
        pytest.param("POST", 500, KEY, (), True, id="a key"),
        pytest.param("POST", 503, (), (("retry-after", "1"),), True, id="503 with a time to try again"),
        pytest.param("POST", 500, (), (("x-should-retry", "true"),), True, id="the upstream says so"),
        pytest.param("GET", 429, (), (("x-should-retry", " False "),), False, id="the upstream says no"),
        pytest.param("GET", 400, (), (("x-should-retry", "perhaps"),), False, id="the upstream says neither"),
    ],
)
def test_an_answer_is_asked_for_again_only_if_it_may_be_another(method, status, headers, answered, again):
    assert answer_may_change(method, headers, status, answered) is again


NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({"retry-after": "7"}, 7.0, id="seconds"),
        pytest.param({"retry-after": "0.5"}, 0.5, id="parts of them"),
        pytest.param({"retry-after-ms": "250", "retry-after": "7"}, 0.25, id="milliseconds come first"),
        pytest.param({"retry-after-ms": "soon", "retry-after": "7"}, 7.0, id="unless they are none"),
        pytest.param({"retry-after": "Fri, 15 Jan 2027 08:00:20 GMT"}, 20.0, id="a date"),
        pytest.param({"retry-after": "Friday, 15-Jan-27 08:00:20 GMT"}, 20.0, id="a date of RFC 850"),
        pytest.param({"retry-after": "Fri, 15 Jan 2021 08:00:00 GMT"}, 0.0, id="a date that is over"),
        pytest.param({"retry-after": "1000000000"}, 1e9, id="thirty years"),
        *[
            pytest.param({"retry-after": text}, None, id=f"no time: {text[:20]!r}")
            for text in ("-1", "NaN", "inf", "1e9", "0x10", "", "9" * 400, "Fri, 99 Jan 2027 08:00:20 GMT")
        ],
        pytest.param({"retry-after": "Fri, 15 Jan 99999999999 08:00:20 GMT"}, None, id="a year that no clock has"),
        pytest.param({"retry-after": "Fri, 15 Jan 2027 08:00:20 +9999999"}, None, id="a zone that no clock has"),
        pytest.param({"retry-after": "x" * 100_000}, None, id="a long text"),
        pytest.param({}, None, id="nothing"),
    ],
)
def test_a_wait_that_an_upstream_asks_for_is_read_or_is_none(headers, seconds):
    assert asked_wait_s(tuple(headers.items()), lambda: NOW) == seconds


def test_waits_double_are_random_and_have_an_end():
    retries = Retries(max=10, backoff="500ms", longest_wait="5s")
    assert [wait_s(retries, repeat, None, lambda: 1.0) for repeat in range(1, 7)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert wait_s(retries, 3, None, lambda: 0.0) == 0.0
    assert len({wait_s(retries, 3, None) for _ in range(20)}) > 1
    assert wait_s(retries, 1, 7.0, lambda: 1.0) == 7.0


def budget(clock: list[float], share: float = 0.2) -> RetryBudget:
    return RetryBudget(share, lambda: clock[0])


def test_a_budget_is_a_share_of_the_requests_and_a_floor():
    clock = [1000.0]
    one = budget(clock)
    one.begun.extend((clock[0], None) for _ in range(100))
    assert sum(one.take("") for _ in range(200)) == FLOOR + 20
    clock[0] += 61
    assert sum(one.take("") for _ in range(200)) == FLOOR


def test_a_key_cannot_use_up_the_repeats_of_another():
    """Attack: a key whose requests all fail, so that nobody's are repeated any more."""
    clock = [1000.0]
    one = budget(clock)
    one.begun.extend((clock[0], "attacker") for _ in range(50))
    one.begun.extend((clock[0], "other") for _ in range(50))
    assert sum(one.take("attacker") for _ in range(200)) == FLOOR_OF_KEY + 10
    assert sum(one.take("other") for _ in range(200)) == FLOOR_OF_KEY + 10


def test_many_keys_together_get_no_more_than_the_catalysts_share():
    """Attack: amplification by a key for each request."""
    clock = [1000.0]
    one = budget(clock)
    keys = [f"key-{number}" for number in range(100)]
    one.begun.extend((clock[0], key) for key in keys)
    assert sum(one.take(key) for key in keys for _ in range(5)) == FLOOR + 20


def test_threads_together_get_no_more_than_the_budget():
    one, taken = RetryBudget(0.0), []
    threads = [threading.Thread(target=lambda: taken.extend(one.take("") for _ in range(10))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken.count(True) == FLOOR
