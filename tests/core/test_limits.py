"""Limits only ever become narrower."""

from __future__ import annotations

from dataclasses import fields, replace

from hypothesis import given
from hypothesis import strategies as st

from host.core.limits import CEILING, Limits

NUMBERS = st.floats(0, 1e6)
LIMITS = st.builds(
    Limits, **{one.name: NUMBERS if one.name.endswith("_s") else st.integers(0, 1 << 40) for one in fields(Limits)}
)


def test_the_defaults_are_within_the_ceiling() -> None:
    assert Limits() <= CEILING
    assert not Limits() >= CEILING


def test_every_limit_has_a_unit_or_counts_something() -> None:
    counted = {"max_http_requests", "max_streams", "max_connections", "max_upstream_connections", "max_host_calls"}
    assert all(one.name.endswith(("_s", "_bytes")) or one.name in counted for one in fields(Limits))


@given(LIMITS, LIMITS)
def test_what_is_narrowed_is_the_largest_within_both(one: Limits, other: Limits) -> None:
    narrowed = one.narrowed(other)
    assert narrowed <= one
    assert narrowed <= other
    assert all(getattr(narrowed, f.name) in (getattr(one, f.name), getattr(other, f.name)) for f in fields(Limits))


@given(LIMITS, LIMITS, LIMITS)
def test_the_order_of_narrowing_does_not_count(one: Limits, two: Limits, three: Limits) -> None:
    assert one.narrowed(two).narrowed(three) == three.narrowed(one.narrowed(two))
    assert one.narrowed(one) == one


def test_one_larger_field_is_enough_not_to_be_within() -> None:
    for one in fields(Limits):
        assert not replace(Limits(), **{one.name: getattr(Limits(), one.name) + 1}) <= Limits()
