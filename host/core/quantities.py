"""Durations and sizes as people write them: `500ms 30s 5m 1h`, `64MB 16MiB`.

So much in so long, as people write it: `100/1m`, `1k/1h`, `2M/30d`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from reprlib import repr as shown  # short, of whatever size
from typing import Final, NoReturn

from host.errors import InputError, PolicyError

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


_AMOUNT = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,6})?)([kM]?)\Z")
_WINDOW = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,20})?)(ms|s|m|h|d)\Z")
_TIMES: Final = {"": 1, "k": 1_000, "M": 1_000_000}
_WINDOW_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
MOST: Final = 10**15  # which any database counts to, and a float
SHORTEST_S: Final = 0.001
LONGEST_S: Final = 36_525 * 86_400.0
_HINT: Final = (
    "like 100/1m, 1k/1h or 2M/30d: a number, with k or M for thousands or millions, in so many ms, s, m, h or d"
)


@dataclass(frozen=True, slots=True)
class Quota:
    """`amount` (1 to 10^15) in any `window_s` seconds (a millisecond to 100 years). Raises InputError for others."""

    amount: int
    window_s: float

    def __post_init__(self) -> None:
        if not isinstance(self.amount, int) or isinstance(self.amount, bool) or not 1 <= self.amount <= MOST:
            _refuse(f"its amount is {str(self.amount)[:40]}, and not a whole number from 1 to 10^15")
        if not SHORTEST_S <= self.window_s <= LONGEST_S:  # nor is NaN
            _refuse(f"its window is {self.window_s:g} s, and not between a millisecond and 100 years")

    @classmethod
    def parse(cls, text: str) -> Quota:
        """Raises InputError, which says what is wrong."""
        amount, slash, window = text.partition("/")
        if not slash:
            _refuse(f"{text[:80]!r} does not say in how long")
        counted, timed = _AMOUNT.match(amount), _WINDOW.match(window)
        if counted is None:
            _refuse(f"{amount[:80]!r} is no amount")
        if timed is None:
            _refuse(f"{window[:80]!r} is no window")
        exact = Decimal(counted[1]) * _TIMES[counted[2]]
        if exact != int(exact):
            _refuse(f"{amount[:80]!r} is no whole number")
        return cls(int(exact), float(timed[1]) * _WINDOW_SECONDS[timed[2]])

    def __str__(self) -> str:
        """The shortest text that is read as this."""
        amounts = (f"{_plain(Decimal(self.amount) / times)}{unit}" for unit, times in _TIMES.items())
        windows = (
            f"{number}{unit}" for unit, size in _WINDOW_SECONDS.items() for number in _numbers(self.window_s / size)
        )
        return "/".join(
            (
                min((text for text in amounts if _AMOUNT.match(text)), key=len),
                min((text for text in windows if _window_reads_as(text, self.window_s)), key=len),
            )
        )


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def _numbers(amount: float) -> tuple[str, str]:
    """As short as it mostly can be, and exactly."""
    return f"{amount:.15g}", repr(amount).removesuffix(".0")


def _window_reads_as(text: str, window_s: float) -> bool:
    match = _WINDOW.match(text)
    return match is not None and float(match[1]) * _WINDOW_SECONDS[match[2]] == window_s


def _refuse(what: str) -> NoReturn:
    raise InputError(f"not an allowance: {what}", hint=_HINT)
