"""Times as people write them: a span (`90d`, `2w`, `1h`, `30m`), which is an age or a time to come, or a local date and
time (`2026-11-20`, `2026-11-20T17:00`)."""

from __future__ import annotations

import re
import time
from datetime import datetime

from host.errors import InputError, PolicyError
from host.policy.units import parse_duration

_LONG = re.compile(r"([0-9]{1,5})([dw])\Z")
_DAY_S = 86_400.0
_SPANS = "30m, 1h, 90d or 2w"
_DATES = "2026-11-20 or 2026-11-20T17:00"


def moment(text: str) -> float:
    """Unix time, so long ago or then. Raises InputError."""
    found = _span(text)
    return _date(text, f"an age like {_SPANS}") if found is None else time.time() - found


def deadline(text: str) -> float:
    """Unix time, in so long or then. Raises InputError."""
    found = _span(text)
    return _date(text, f"a time to come like {_SPANS}") if found is None else time.time() + found


def span(text: str) -> float:
    """Seconds. Raises InputError."""
    found = _span(text)
    if found is None:
        raise InputError(f"{text[:80]!r} is no span of time", hint=f"like {_SPANS}")
    return found


def _span(text: str) -> float | None:
    if match := _LONG.match(text):
        return float(match[1]) * _DAY_S * (7 if match[2] == "w" else 1)
    try:
        return parse_duration(text)
    except PolicyError:
        return None


def _date(text: str, instead: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()  # local, unless it names its zone
    except (ValueError, OverflowError, OSError):
        raise InputError(f"{text[:80]!r} is no time", hint=f"{instead}, or a date like {_DATES}") from None
