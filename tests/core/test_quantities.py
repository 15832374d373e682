"""Durations and sizes as people write them; what is malformed is refused and never large."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.core.quantities import as_duration, as_size, parse_count, parse_duration, parse_size
from host.errors import PolicyError

ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.integers())


@pytest.mark.parametrize(
    ("given_", "seconds"),
    [
        pytest.param("500ms", 0.5, id="milliseconds"),
        pytest.param("30s", 30.0, id="seconds"),
        pytest.param("5m", 300.0, id="minutes"),
        pytest.param("1h", 3600.0, id="hours"),
        pytest.param("1.5s", 1.5, id="a fraction"),
        pytest.param(7, 7.0, id="a whole number of seconds"),
        pytest.param(0.25, 0.25, id="a number of seconds"),
    ],
)
def test_a_duration(given_: object, seconds: float) -> None:
    assert parse_duration(given_) == seconds


@pytest.mark.parametrize(
    "given_",
    [
        pytest.param("", id="empty"),
        pytest.param("30", id="a text without a unit"),
        pytest.param("30 s", id="a blank"),
        pytest.param("30S", id="a unit in capitals"),
        pytest.param("-5s", id="a negative text"),
        pytest.param("1h30m", id="two units"),
        pytest.param("5d", id="days"),
        pytest.param("1e3s", id="an exponent"),
        pytest.param("\u0663\u0660s", id="digits of another script"),
        pytest.param("30s\n", id="a line break behind it"),
        pytest.param("inf", id="infinity as a text"),
        pytest.param("unlimited", id="unlimited"),
        pytest.param("0s", id="zero as a text"),
        pytest.param(0, id="zero"),
        pytest.param(-1, id="a negative number"),
        pytest.param(float("inf"), id="infinity"),
        pytest.param(float("nan"), id="NaN"),
        pytest.param(10**400, id="a number that no float can hold"),
        pytest.param("9" * 400 + "s", id="a text of 400 digits"),
        pytest.param(True, id="true"),
        pytest.param(None, id="nothing"),
        pytest.param(["30s"], id="a list"),
    ],
)
def test_what_is_no_duration(given_: object) -> None:
    with pytest.raises(PolicyError):
        parse_duration(given_)


@pytest.mark.parametrize(
    ("given_", "size"),
    [
        pytest.param("0B", 0, id="nothing"),
        pytest.param("512B", 512, id="bytes"),
        pytest.param("64KB", 64_000, id="a decimal unit"),
        pytest.param("64MB", 64_000_000, id="megabytes are 10^6"),
        pytest.param("64MiB", 64 << 20, id="mebibytes are 2^20"),
        pytest.param("1.5GiB", 3 << 29, id="a fraction"),
        pytest.param(10, 10, id="a number"),
    ],
)
def test_a_size(given_: object, size: int) -> None:
    assert parse_size(given_) == size


@pytest.mark.parametrize(
    "given_",
    [
        "",
        "64",
        "64mb",
        "64 MB",
        "-1B",
        "MB",
        "1e9B",
        "\u0666\u0664MB",
        "9" * 400 + "GB",
        -1,
        1.5,
        True,
        None,
        float("inf"),
        {},
    ],
    ids=repr,
)
def test_what_is_no_size(given_: object) -> None:
    with pytest.raises(PolicyError):
        parse_size(given_)


@pytest.mark.parametrize("given_", ["5", -1, 1.0, True, None, [], float("nan")], ids=repr)
def test_what_is_no_count(given_: object) -> None:
    with pytest.raises(PolicyError):
        parse_count(given_)


@given(ANYTHING)
def test_anything_is_a_finite_amount_or_a_policy_error(value: object) -> None:
    for parse, least in ((parse_duration, 5e-324), (parse_size, 0), (parse_count, 0)):
        try:
            amount = parse(value)
        except PolicyError:
            continue
        assert least <= amount < float("inf")


@pytest.mark.parametrize(
    ("written", "text"),
    [
        pytest.param(as_duration(60.0), "1m", id="a minute"),
        pytest.param(as_duration(90.0), "90s", id="a minute and a half"),
        pytest.param(as_duration(0.005), "5ms", id="five milliseconds"),
        pytest.param(as_duration(24 * 3600.0), "24h", id="a day"),
        pytest.param(as_duration(1 / 3), str(1 / 3), id="a number that no text of ours spells"),
        pytest.param(as_size(128 << 20), "128MiB", id="a power of two"),
        pytest.param(as_size(64_000_000), "64MB", id="a power of ten"),
        pytest.param(as_size(0), "0B", id="nothing"),
        pytest.param(as_size(1_234_567), "1234567B", id="an odd number of bytes"),
    ],
)
def test_an_amount_is_written_as_short_as_it_can_be(written: str, text: str) -> None:
    assert written == text


@given(st.integers(0, 1 << 45), st.integers(1, 10**9))
def test_an_amount_that_is_written_is_read_back_as_it_was(count: int, milliseconds: int) -> None:
    assert parse_size(as_size(count)) == count
    assert parse_duration(as_duration(milliseconds * 0.001)) == milliseconds * 0.001
