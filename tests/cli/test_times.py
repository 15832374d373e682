"""Times as people write them."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from host.cli.times import parse_future, parse_past, parse_span
from host.errors import InputError

NOW = 1_700_000_000.0


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


@pytest.mark.parametrize(
    ("text", "before_s"),
    [("500ms", 0.5), ("30s", 30), ("30m", 1_800), ("1h", 3_600), ("90d", 7_776_000), ("2w", 1_209_600)],
)
def test_a_span_is_so_long_ago_or_to_come(text: str, before_s: float) -> None:
    assert parse_past(text) == NOW - before_s
    assert parse_future(text) == NOW + before_s
    assert parse_span(text) == before_s


@pytest.mark.parametrize("text", ["2026-11-20", "2026-11-20T17:00", "2026-11-20 17:00:09"])
def test_a_date_is_in_the_zone_of_who_wrote_it(text: str) -> None:
    assert parse_past(text) == parse_future(text) == datetime.fromisoformat(text).timestamp()


def test_a_date_may_name_its_zone() -> None:
    assert parse_past("2001-09-09T01:46:40Z") == 1_000_000_000.0
    assert parse_past("2001-09-09T03:46:40+02:00") == 1_000_000_000.0


@pytest.mark.parametrize("text", ["", "yesterday", "-1d", "1.5d", "999999d", "1y", "2026-13-01", "12"])
def test_anything_else_is_a_mistake(text: str) -> None:
    for read, said in (
        (parse_past, "is not a time"),
        (parse_future, "is not a time"),
        (parse_span, "is not a duration"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            read(text)
        assert "90d" in str(caught.value.hint)


def test_a_date_is_no_span() -> None:
    with pytest.raises(InputError):
        parse_span("2026-11-20")
