"""What people see of a batch while it runs."""

from __future__ import annotations

import io
import sys

import pytest

from host.cli.output.batch import BatchBar, about, short
from host.service.batches.answers import BatchAnswer
from host.service.dialects.dialect import Tokens


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_says_how_fast_how_much_and_how_long_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, times = Screen(), iter([100.0, 101.0, 102.0])
    monkeypatch.setattr(sys, "stderr", screen)
    with BatchBar(100, 40, lambda: next(times)) as bar:
        bar.written(BatchAnswer(1, b"{}", failed=False, tokens=Tokens(600, 650)))
        bar.written(BatchAnswer(2, b"{}", failed=True))
    shown = screen.getvalue()
    assert "40/100" in shown
    assert "1.0/s, 1.2k tokens, 59s left" in shown
    assert "1.0/s, 1.2k tokens, 1 failed, 58s left" in shown


def test_elsewhere_it_shows_nothing_and_counts(capfd: pytest.CaptureFixture[str]) -> None:
    with BatchBar(2, 0) as bar:
        bar.written(BatchAnswer(1, b"{}", failed=False, tokens=Tokens(3, 4)))
    assert (bar.totals.lines, bar.totals.input_tokens, bar.totals.output_tokens) == (1, 3, 4)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (1_234, "1.2k"), (999_949, "999.9k"), (999_950, "1.0M")]
)
def test_counts_are_short(count: int, text: str) -> None:
    assert short(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (119.4, "119s"), (120.0, "2m"), (3_600.0, "1h"), (9_000.0, "2h30m")]
)
def test_times_are_about(seconds: float, text: str) -> None:
    assert about(seconds) == text
