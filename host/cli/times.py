"""Times as people write them: a duration (`90d`, `2w`, `1h`, `30m`), which is an age or a time to come; or a local date
and time (`2026-11-20`, `2026-11-20T17:00`)."""

from __future__ import annotations

import re
import time
from datetime import datetime

from host.core.quantities import CALENDAR_UNITS, examples, parse_duration
from host.errors import InputError, PolicyError

_PART_OF_A_DAY = re.compile(r"[0-9]+\.[0-9]+[dw]\Z")
_NONE = ("0d", "0w")
_LONGEST_S = 36_525 * 86_400.0
_SPANS = examples(CALENDAR_UNITS)
_DATES = "2026-11-20 or 2026-11-20T17:00"


def parse_past(text: str) -> float:
    """Unix time: so long ago (`90d`), or a date and time. Raises InputError."""
    seconds = _span(text)
    return _date(text, f"an age like {_SPANS}") if seconds is None else time.time() - seconds


def parse_future(text: str) -> float:
    """Unix time: in so long (`90d`), or a date and time. Raises InputError."""
    seconds = _span(text)
    return _date(text, f"a time to come like {_SPANS}") if seconds is None else time.time() + seconds


def parse_span(text: str) -> float:
    """Seconds: up to 100 years. Days and weeks (`90d`, `2w`) are whole numbers. Raises InputError."""
    seconds = _span(text)
    if seconds is None:
        raise InputError(f"{text[:80]!r} is not a duration", hint=f"like {_SPANS}")
    return seconds


def _span(text: str) -> float | None:
    if text in _NONE:
        return 0.0
    try:
        seconds = parse_duration(text, CALENDAR_UNITS)
    except PolicyError:
        return None
    return None if seconds > _LONGEST_S or _PART_OF_A_DAY.match(text) else seconds


def _date(text: str, instead: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()  # local, unless it names its zone
    except (ValueError, OverflowError, OSError):
        raise InputError(f"{text[:80]!r} is not a time", hint=f"{instead}, or a date like {_DATES}") from None
