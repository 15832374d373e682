"""The limit of one wait."""

import math

import pytest

from host.egress import EgressError
from host.egress.socket import left


class Fixed:
    def __init__(self, seconds):
        self.seconds = seconds

    def remaining(self):
        return self.seconds


@pytest.mark.parametrize(("remaining", "expected"), [(5.0, 5.0), (0.001, 0.001), (math.inf, 3_600.0)])
def test_a_wait_lasts_no_longer_than_the_run(remaining, expected):
    assert left(Fixed(remaining), "api.test") == expected


@pytest.mark.parametrize("remaining", [0.0, -1.0])
def test_a_run_that_is_over_waits_for_nothing(remaining):
    with pytest.raises(EgressError) as caught:
        left(Fixed(remaining), "api.test")
    assert caught.value.kind == "timeout"
