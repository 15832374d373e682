"""How often somebody may get it wrong."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from host.errors import LimitExceeded
from host.server.console.throttle import MOST, WINDOW_S, Throttle

HERE = ip_address("192.0.2.7")


class Deadline:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def exhausted(throttle: Throttle, address: str = "192.0.2.7") -> None:
    for _ in range(MOST):
        throttle.check(ip_address(address))
        throttle.failed(ip_address(address))


def test_after_so_many_failures_it_is_a_minute_until_the_first_is_forgotten() -> None:
    clock = Deadline()
    throttle = Throttle(clock)
    throttle.failed(HERE)
    clock.now += 20
    for _ in range(MOST - 1):
        throttle.check(HERE)
        throttle.failed(HERE)
    with pytest.raises(LimitExceeded) as refused:
        throttle.check(HERE)
    assert refused.value.retry_after_s == WINDOW_S - 20
    clock.now += refused.value.retry_after_s
    throttle.check(HERE)


def test_others_are_not_kept_waiting() -> None:
    throttle = Throttle(Deadline())
    exhausted(throttle)
    throttle.check(ip_address("192.0.2.8"))
    throttle.check(None)


def test_all_of_a_customers_ipv6_addresses_are_one_place() -> None:
    throttle = Throttle(Deadline())
    exhausted(throttle, "2001:db8:1:2::5")
    with pytest.raises(LimitExceeded):
        throttle.check(ip_address("2001:db8:1:2:ffff::9"))
    throttle.check(ip_address("2001:db8:1:3::5"))


def test_what_is_remembered_is_bounded() -> None:
    throttle = Throttle(Deadline())
    for number in range(10_050):
        throttle.failed(ip_address(number + 2**31))
    assert len(throttle._failed) == 10_000
