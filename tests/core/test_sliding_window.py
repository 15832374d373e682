"""The arithmetic of the sliding window counter, by itself."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from host.core.sliding_window import Window, place
from tests.service.limits.levels import used


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        pytest.param(Window(0, 0, 0.5), 0.0, id="nothing"),
        pytest.param(Window(10, 0, 0.0), 10.0, id="at the beginning all of the window before counts"),
        pytest.param(Window(10, 3, 0.5), 8.0, id="in the middle half of it"),
        pytest.param(Window(10, 3, 1.0), 3.0, id="at the end none of it"),
    ],
)
def test_how_much_is_used(window: Window, expected: float) -> None:
    assert used(window) == expected


@pytest.mark.parametrize(
    ("window", "amount", "full"),
    [
        pytest.param(Window(0, 4, 0.5), 5, False, id="room for one"),
        pytest.param(Window(0, 5, 0.5), 5, True, id="room for none"),
        pytest.param(Window(0, 9, 0.5), 5, True, id="more than there was room for"),
        pytest.param(Window(4, 3, 0.5), 5, True, id="with what is left of before"),
        pytest.param(Window(3, 3, 0.5), 5, False, id="a part of one does not count"),
        pytest.param(Window(1, 0, 0.0), 1, True, id="one in a window, a whole window ago"),
        pytest.param(Window(1, 0, 0.001), 1, False, id="and a little more"),
    ],
)
def test_whether_there_is_room_for_one_more(window: Window, amount: int, full: bool) -> None:
    assert window.full(amount) is full


COUNT = st.integers(0, 3) | st.integers(0, 1000) | st.integers(0, 10**15)


@given(COUNT, COUNT, st.integers(1, 1000) | st.integers(1, 10**15), st.floats(0.01, 1e8), st.floats(0, 0.999))
def test_after_the_wait_there_is_room_and_not_much_sooner(
    previous: int, current: int, amount: int, window_s: float, share: float
) -> None:
    """Whatever was counted, by a clock that goes on: none of it is counted again in the meantime."""
    began = 20 * window_s
    now = began + share * window_s
    assume(place(now, window_s)[0] == 20)
    counts = {19: previous, 20: current}

    def at(moment: float) -> Window:
        number, passed = place(moment, window_s)
        return Window(counts.get(number - 1, 0), counts.get(number, 0), passed)

    window = at(now)
    assume(window.full(amount))
    wait = window.wait_s(amount, window_s)
    assert 0 < wait <= 2 * window_s + 0.001
    assert not at(now + wait).full(amount)
    sooner = wait - 0.002 - 1e-9 * window_s
    assert sooner < 0 or at(now + sooner).full(amount)


@given(st.floats(0, 1e11), st.floats(0.001, 3e9))
def test_a_moment_is_in_one_window(now: float, window_s: float) -> None:
    number, passed = place(now, window_s)
    assert number >= 0
    assert 0 <= passed < 1
