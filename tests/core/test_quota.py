"""So much in so long; what is malformed is refused and never large."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.core.quantities import Quota
from host.errors import InputError


@pytest.mark.parametrize(
    ("text", "amount", "window_s"),
    [
        pytest.param("100/1m", 100, 60.0, id="a hundred a minute"),
        pytest.param("1k/1h", 1000, 3600.0, id="a thousand an hour"),
        pytest.param("2M/30d", 2_000_000, 30 * 86_400.0, id="two million in thirty days"),
        pytest.param("1.5k/0.5h", 1500, 1800.0, id="fractions that make whole numbers"),
        pytest.param("5/250ms", 5, 0.25, id="milliseconds"),
        pytest.param("1/1s", 1, 1.0, id="the least"),
        pytest.param("1000000000000000/36525d", 10**15, 36_525 * 86_400.0, id="the most"),
    ],
)
def test_a_quota(text: str, amount: int, window_s: float) -> None:
    assert Quota.parse(text) == Quota(amount, window_s)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        pytest.param("", "does not say in how long", id="empty"),
        pytest.param("100", "does not say in how long", id="no window"),
        pytest.param("/1m", "'' is not an amount", id="no amount"),
        pytest.param("100/", "'' is not a window", id="an empty window"),
        pytest.param("100/m", "'m' is not a window", id="a unit without a number"),
        pytest.param("100/60", "'60' is not a window", id="a number without a unit"),
        pytest.param("100/1m/1h", "'1m/1h' is not a window", id="two windows"),
        pytest.param("100/1w", "'1w' is not a window", id="another unit"),
        pytest.param("100/1M", "'1M' is not a window", id="a unit in capitals"),
        pytest.param("1K/1m", "'1K' is not an amount", id="a multiple in capitals"),
        pytest.param("-1/1m", "'-1' is not an amount", id="a negative amount"),
        pytest.param("1e3/1m", "'1e3' is not an amount", id="an exponent"),
        pytest.param(" 100/1m", "' 100' is not an amount", id="a blank"),
        pytest.param("100/1m\n", r"'1m\\n' is not a window", id="a line break behind it"),
        pytest.param("\u0661\u0660/1m", "is not an amount", id="digits of another script"),
        pytest.param("unlimited/1m", "'unlimited' is not an amount", id="unlimited"),
        pytest.param("1.5/1m", "'1.5' is not a whole number", id="half a request"),
        pytest.param("0/1m", "its amount is 0", id="nothing"),
        pytest.param("9999999999999999/1m", "its amount is 9999999999999999", id="more than is counted"),
        pytest.param("1/0s", "its window is 0 s", id="no time"),
        pytest.param("1/0.1ms", "its window is 0.0001 s", id="less than a millisecond"),
        pytest.param("1/36526d", "its window is", id="more than a lifetime"),
    ],
)
def test_what_is_none_says_what_is_wrong(text: str, wrong: str) -> None:
    with pytest.raises(InputError, match=wrong) as caught:
        Quota.parse(text)
    assert "100/1m" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("amount", "window_s"),
    [(0, 60.0), (-1, 60.0), (True, 60.0), (1.0, 60.0), (10**16, 60.0), (1, 0.0), (1, float("inf")), (1, float("nan"))],
)
def test_one_that_is_made_in_python_is_checked_as_well(amount: int, window_s: float) -> None:
    with pytest.raises(InputError):
        Quota(amount, window_s)


@pytest.mark.parametrize(
    ("quota", "text"),
    [
        (Quota(100, 60.0), "100/1m"),
        (Quota(1000, 90.0), "1k/90s"),
        (Quota(1500, 86_400.0), "1500/1d"),
        (Quota(2_500_000, 30 * 86_400.0), "2.5M/30d"),
        (Quota(1, 0.25), "1/250ms"),
        (Quota(1234567, 5400.0), "1234567/90m"),
    ],
)
def test_it_is_written_as_short_as_it_can_be(quota: Quota, text: str) -> None:
    assert str(quota) == text


@given(st.integers(1, 10**15), st.floats(0.001, 36_525 * 86_400.0))
def test_what_is_written_is_read_back_as_it_was(amount: int, window_s: float) -> None:
    quota = Quota(amount, window_s)
    assert Quota.parse(str(quota)) == quota


@given(st.text(alphabet="0123456789./kMmshd\n e-"))
def test_any_text_is_a_quota_or_a_mistake(text: str) -> None:
    try:
        found = Quota.parse(text)
    except InputError:
        return
    assert Quota.parse(str(found)) == found
