"""Times as people write them: an age (`90d`, `2w`, `1h`, `30m`), or a local date and time (`2026-11-20`,
`2026-11-20T17:00`)."""

from __future__ import annotations

import re
import time
from datetime import datetime

from host.errors import InputError, PolicyError
from host.policy.units import parse_duration

_LONG = re.compile(r"([0-9]{1,5})([dw])\Z")
_DAY_S = 86_400.0
_HINT = "an age like 30m, 1h, 90d or 2w, or a time like 2026-11-20 or 2026-11-20T17:00"


def moment(text: str) -> float:
    """Unix time. Raises InputError."""
    if match := _LONG.match(text):
        return time.time() - float(match[1]) * _DAY_S * (7 if match[2] == "w" else 1)
    try:
        return time.time() - parse_duration(text)
    except PolicyError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()  # local, unless it names its zone
    except (ValueError, OverflowError, OSError):
        raise InputError(f"{text[:80]!r} is no time", hint=_HINT) from None
