"""A policy's rate_limit, for several processes together."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from host import Host
from host.errors import StateError
from host.policy.document import Rate, RateLimit
from host.service.limits import Limiter
from host.service.limits.opening import SharedRates
from tests.conftest import CACHE
from tests.probing import error_type, fetched, origin_of, probe, response, serving


@pytest.fixture
def rates(opened: Callable[[], Limiter]) -> Callable[[], SharedRates]:
    """`rates()` is one more process's."""
    return lambda: SharedRates(opened())


def test_several_processes_have_one_rate(rates: Callable[[], SharedRates], place: str) -> None:
    one, other, rate = rates(), rates(), Rate(3, 60.0)
    name = f"c:local.one-{place}:0.1.0"
    assert [one.take(name, rate), other.take(name, rate), one.take(name, rate)] == [None, None, None]
    for each in (one, other):
        wait = each.take(name, rate)
        assert wait is not None
        assert 0 < wait <= 120.1


def test_one_catalyst_does_not_use_up_anothers(rates: Callable[[], SharedRates], place: str) -> None:
    shared, rate = rates(), Rate(1, 60.0)
    assert [shared.take(f"c:local.{name}-{place}", rate) for name in ("a", "b")] == [None, None]
    assert shared.take(f"c:local.a-{place}", rate) is not None


@pytest.mark.parametrize(
    "rate",
    [
        pytest.param(Rate(0, 60.0), id="none at all"),
        pytest.param(Rate(1, 1e-6), id="a window too short to count in"),
        pytest.param(Rate(10**20, 1e15), id="more than anybody counts"),
    ],
)
def test_any_rate_of_a_policy_can_be_counted(rates: Callable[[], SharedRates], rate: Rate, place: str) -> None:
    taken = rates().take(f"c:local.any-{place}-{rate.requests}", rate)
    assert taken == (None if rate.requests else 60.0)


def test_two_hosts_that_count_in_one_place_have_one_rate(rates: Callable[[], SharedRates]) -> None:
    with serving(response()) as server:
        hosts = [Host(cache_dir=CACHE / "host", state_dir=CACHE / "state", rates=rates()) for _ in range(2)]
        limited = [probe(host, origin_of(server), rate_limit=RateLimit(requests=2, window="1h")) for host in hosts]
        answers = [fetched(limited[turn % 2]) for turn in range(4)]
        for host in hosts:
            host.close()
    assert ["error" in answer for answer in answers] == [False, False, True, True]
    assert error_type(answers[-1]) == "rate_limited"


def test_where_nothing_can_be_counted_nothing_is_sent() -> None:
    class Broken:
        def take(self, name: str, rate: Rate) -> float | None:
            raise StateError("the Redis that counts limits failed: ConnectionError")

    with (
        serving(response()) as server,
        Host(cache_dir=CACHE / "host", state_dir=CACHE / "state", rates=Broken()) as host,
    ):
        limited = probe(host, origin_of(server), rate_limit=RateLimit(requests=2, window="1h"))
        with pytest.raises(StateError, match="the Redis that counts limits failed"):
            fetched(limited)
        assert server.requests == []
