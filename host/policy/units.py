"""Durations and sizes as people write them: `500ms 30s 5m 1h`, `64MB 16MiB`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from reprlib import repr as shown  # short, of whatever size

from host.errors import PolicyError

_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|s|m|h)\Z")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(B|KB|MB|GB|KiB|MiB|GiB)\Z")
_LONGEST_S = 1e15
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def parse_duration(given: object) -> float:
    """Seconds, more than 0: from a text like `30s`, or a number of seconds. Raises PolicyError."""
    if isinstance(given, str) and (match := _DURATION.match(given)):
        seconds = float(match[1]) * _SECONDS[match[2]]
    elif isinstance(given, int | float) and not isinstance(given, bool) and given < _LONGEST_S:
        seconds = float(given)
    else:
        raise PolicyError(f"{shown(given)} is not a duration", hint="like 500ms, 30s, 5m or 1h")
    if not (math.isfinite(seconds) and seconds > 0):
        raise PolicyError(f"{shown(given)} is not a duration above zero")
    return seconds


def parse_size(given: object) -> int:
    """Bytes, 0 or more: from a text like `64MB` (10^6) or `64MiB` (2^20), or a number of bytes. Raises PolicyError."""
    if isinstance(given, str) and (match := _SIZE.match(given)):
        return int(float(match[1]) * _BYTES[match[2]])
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    raise PolicyError(f"{shown(given)} is not a size", hint="like 512KB, 64MB or 16MiB")


def as_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as `seconds`; the number itself where there is none."""
    return _written(seconds, _SECONDS, parse_duration)


def as_size(count: int) -> str:
    """The shortest text that `parse_size` reads as `count`; the number itself where there is none."""
    return _written(count, _BYTES, parse_size)


def parse_count(given: object) -> int:
    """A whole number, 0 or more. Raises PolicyError."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    raise PolicyError(f"{shown(given)} is not a count", hint="a whole number, 0 or more")


def _written(amount: float, units: Mapping[str, float], parse: Callable[[object], float]) -> str:
    candidates = [f"{amount / size:.15g}{unit}" for unit, size in units.items()]
    return min((text for text in candidates if _reads_as(text, amount, parse)), key=len, default=str(amount))


def _reads_as(text: str, amount: float, parse: Callable[[object], float]) -> bool:
    try:
        return parse(text) == amount
    except PolicyError:
        return False
