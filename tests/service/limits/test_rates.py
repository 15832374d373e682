"""A policy's rate_limit, for several processes together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from host import Host
from host.capabilities.rate import RateMeter
from host.errors import StateError
from host.policy.document import RateLimit
from host.service.limits import Exceeded, Limit, Limiter
from tests.conftest import CACHE
from tests.probing import error_type, fetched, origin_of, probe, response, serving


def rate(requests: int, window: float) -> RateLimit:
    return RateLimit(requests=requests, window=window)


def test_several_processes_have_one_rate(opened: Callable[[], Limiter], place: str) -> None:
    name = f"c:local.one-{place}:0.1.0"
    one, other = (RateMeter(name, rate(3, 60.0), opened()) for _ in range(2))
    assert [one.take(), other.take(), one.take()] == [None, None, None]
    for each in (one, other):
        wait = each.take()
        assert wait is not None
        assert 0 < wait <= 120.1


def test_one_catalyst_does_not_use_up_anothers(opened: Callable[[], Limiter], place: str) -> None:
    limiter = opened()
    meters = [RateMeter(f"c:local.{name}-{place}", rate(1, 60.0), limiter) for name in ("a", "b")]
    assert [meter.take() for meter in meters] == [None, None]
    assert meters[0].take() is not None


@pytest.mark.parametrize(
    "limit",
    [
        pytest.param(rate(0, 60.0), id="none at all"),
        pytest.param(rate(1, 1e-6), id="a window too short to count in"),
        pytest.param(rate(10**20, 1e14), id="more than anybody counts"),
    ],
)
def test_any_rate_of_a_policy_can_be_counted(opened: Callable[[], Limiter], limit: RateLimit, place: str) -> None:
    taken = RateMeter(f"c:local.any-{place}-{limit.requests}", limit, opened()).take()
    assert taken == (None if limit.requests else 60.0)


def test_two_hosts_that_count_in_one_place_have_one_rate(opened: Callable[[], Limiter]) -> None:
    with serving(response()) as server:
        hosts = [Host(cache_dir=CACHE / "host", state_dir=CACHE / "state", limiter=opened()) for _ in range(2)]
        limited = [probe(host, origin_of(server), rate_limit=RateLimit(requests=2, window="1h")) for host in hosts]
        answers = [fetched(limited[turn % 2]) for turn in range(4)]
        for host in hosts:
            host.close()
    assert ["error" in answer for answer in answers] == [False, False, True, True]
    assert error_type(answers[-1]) == "rate_limited"


def test_where_nothing_can_be_counted_nothing_is_sent() -> None:
    class Broken:
        def admit(self, limits: Sequence[Limit]) -> Exceeded | None:
            raise StateError("the Redis that counts limits failed: ConnectionError")

    with (
        serving(response()) as server,
        Host(cache_dir=CACHE / "host", state_dir=CACHE / "state", limiter=Broken()) as host,
    ):
        limited = probe(host, origin_of(server), rate_limit=RateLimit(requests=2, window="1h"))
        with pytest.raises(StateError, match="the Redis that counts limits failed"):
            fetched(limited)
        assert server.requests == []
