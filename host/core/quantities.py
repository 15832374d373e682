"""Quantities as people write them: durations (`500ms 30s 5m 1h 7d`), sizes (`64MB 16MiB`), and quotas (`100/1m 1k/1h
2M/30d`), which are a count in a duration.

One table has the units of each kind, and one function reads all kinds. A caller says which units of time it accepts. A
new unit is one more entry in its table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as shown  # a short text, of whatever size the value is
from typing import Final, Literal, NoReturn

from host.errors import InputError, PolicyError

TimeUnit = Literal["ms", "s", "m", "h", "d", "w"]

_NUMBER: Final = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,20}))?([A-Za-z]*)\Z")
_SECONDS: Final[Mapping[str, float]] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_BYTES: Final[Mapping[str, int]] = {
    "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
}  # fmt: skip
_MULTIPLES: Final[Mapping[str, int]] = {"": 1, "k": 1000, "M": 1000**2}
_EXAMPLES: Final[Mapping[str, str]] = {
    "ms": "500ms", "s": "30s", "m": "5m", "h": "1h", "d": "90d", "w": "2w",
    "B": "512B", "KB": "512KB", "MB": "64MB", "GB": "1GB", "KiB": "512KiB", "MiB": "16MiB", "GiB": "1GiB",
}  # fmt: skip

_RUN_UNITS: Final[Sequence[TimeUnit]] = ("ms", "s", "m", "h")  # a run lasts hours at most
_WINDOW_UNITS: Final[Sequence[TimeUnit]] = ("ms", "s", "m", "h", "d")
CALENDAR_UNITS: Final[Sequence[TimeUnit]] = ("ms", "s", "m", "h", "d", "w")
_LONGEST_S: Final = 1e15


def parse_duration(given: object, units: Sequence[TimeUnit] = _RUN_UNITS) -> float:
    """Seconds, more than 0: from a text like `30s` in one of `units`, or from a number of seconds. Raises
    PolicyError."""
    if isinstance(given, str) and (found := _read(given, units)) is not None:
        seconds = found.seconds
    elif isinstance(given, int | float) and not isinstance(given, bool) and given < _LONGEST_S:
        seconds = float(given)
    else:
        raise _not("a duration", given, units)
    if not (math.isfinite(seconds) and seconds > 0):
        raise PolicyError(f"{shown(given)} is not a duration above zero")
    return seconds


def parse_size(given: object) -> int:
    """Bytes, 0 or more: from a text like `64MB` (10^6) or `64MiB` (2^20), or from a number of bytes. Raises
    PolicyError."""
    if isinstance(given, str) and (found := _read(given, _BYTES)) is not None:
        return found.times(_BYTES[found.unit])[0]
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    raise _not("a size", given, _BYTES)


def parse_count(given: object) -> int:
    """A whole number, 0 or more. Raises PolicyError."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    raise PolicyError(f"{shown(given)} is not a count", hint="a whole number, 0 or more")


def parse_share(given: object) -> float:
    """A part of a whole, 0 to 1, from a text like `20%` or `0.5%`. Raises PolicyError."""
    if isinstance(given, str) and given.endswith("%") and (found := _NUMBER.match(given[:-1])) and not found[3]:
        share = float(given[:-1]) / 100
        if share <= 1:
            return share
    raise PolicyError(f"{shown(given)} is not a share", hint="like 20%: 0% to 100%")


def examples(units: Iterable[str]) -> str:
    """One quantity in each of `units`, as a hint names them: `500ms, 30s, 5m or 1h`."""
    *first, last = (_EXAMPLES[unit] for unit in units)
    return f"{', '.join(first)} or {last}"


def as_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as `seconds`; the number itself if no text of 15 digits does."""
    candidates = (f"{seconds / _SECONDS[unit]:.15g}{unit}" for unit in _RUN_UNITS)
    return _shortest(candidates, lambda text: parse_duration(text) == seconds, str(seconds))


def as_size(count: int) -> str:
    """The shortest text that `parse_size` reads as `count`; the number itself if no text of 15 digits does."""
    candidates = (f"{count / size:.15g}{unit}" for unit, size in _BYTES.items())
    return _shortest(candidates, lambda text: parse_size(text) == count, str(count))


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `amount` (1 to 10^15) in any `window_s` seconds (a millisecond to 100 years). Raises InputError for
    others."""

    amount: int
    window_s: float

    def __post_init__(self) -> None:
        if not isinstance(self.amount, int) or isinstance(self.amount, bool) or not 1 <= self.amount <= _MOST:
            _refuse_quota(f"its amount is {str(self.amount)[:40]}, and not a whole number from 1 to 10^15")
        if not _SHORTEST_WINDOW_S <= self.window_s <= _LONGEST_WINDOW_S:  # this refuses NaN too
            _refuse_quota(f"its window is {self.window_s:g} s, and not between a millisecond and 100 years")

    @classmethod
    def parse(cls, text: str) -> Quota:
        """From a text like `100/1m`, `1k/1h` or `2M/30d`. Raises InputError, which says what is wrong."""
        before, slash, after = text.partition("/")
        if not slash:
            _refuse_quota(f"{shown(text)} does not say in how long")
        amount, window = _read(before, _MULTIPLES), _read(after, _WINDOW_UNITS)
        if amount is None:
            _refuse_quota(f"{shown(before)} is not an amount")
        if window is None:
            _refuse_quota(f"{shown(after)} is not a window")
        whole, rest = amount.times(_MULTIPLES[amount.unit])
        if rest:
            _refuse_quota(f"{shown(before)} is not a whole number")
        return cls(whole, window.seconds)

    @classmethod
    def nearest(cls, amount: int, window_s: float) -> Quota:
        """The quota within the bounds that is nearest to `amount`, which is 1 or more, in `window_s`."""
        return cls(min(amount, _MOST), min(max(window_s, _SHORTEST_WINDOW_S), _LONGEST_WINDOW_S))

    def __str__(self) -> str:
        """The shortest text that is read as this quota."""
        amounts = (_in_units(self.amount, size) + unit for unit, size in _MULTIPLES.items())
        windows = (
            number + unit
            for unit in _WINDOW_UNITS
            for exact in [self.window_s / _SECONDS[unit]]
            for number in (f"{exact:.15g}", repr(exact).removesuffix(".0"))
        )
        window = _shortest(windows, lambda text: parse_duration(text, _WINDOW_UNITS) == self.window_s, "")
        return f"{min(amounts, key=len)}/{window}"


_MOST: Final = 10**15  # every database counts so far, and so does a float
_SHORTEST_WINDOW_S: Final = 0.001
_LONGEST_WINDOW_S: Final = 36_525 * 86_400.0


@dataclass(frozen=True, slots=True)
class _Quantity:
    """A decimal number, as its digits before and behind the point, and its unit."""

    whole: str
    part: str
    unit: str

    @property
    def seconds(self) -> float:
        return float(f"{self.whole}.{self.part}") * _SECONDS[self.unit]

    def times(self, size: int) -> tuple[int, int]:
        """So often `size`, exactly: the whole number, and 0 if nothing is left of it."""
        whole, rest = divmod(int(self.whole + self.part) * size, int("1" + "0" * len(self.part)))
        return whole, rest


def _read(text: str, units: Iterable[str]) -> _Quantity | None:
    match = _NUMBER.match(text)
    if match is None or match[3] not in units:
        return None
    return _Quantity(match[1], match[2] or "", match[3])


def _not(noun: str, given: object, units: Iterable[str]) -> PolicyError:
    return PolicyError(f"{shown(given)} is not {noun}", hint=f"like {examples(units)}")


def _refuse_quota(wrong: str) -> NoReturn:
    units = ", ".join(_WINDOW_UNITS[:-1])
    raise InputError(
        f"not a quota: {wrong}",
        hint="like 100/1m, 1k/1h or 2M/30d: a number, with k or M for thousands or millions, in so many "
        f"{units} or {_WINDOW_UNITS[-1]}",
    )


def _shortest(candidates: Iterable[str], holds: Callable[[str], bool], otherwise: str) -> str:
    def reads(text: str) -> bool:
        try:
            return holds(text)
        except PolicyError:
            return False

    return min(filter(reads, candidates), key=len, default=otherwise)


def _in_units(count: int, size: int) -> str:
    """`count` as a decimal number of units, each of `size`, a power of ten."""
    whole, rest = divmod(count, size)
    return f"{whole}.{rest:0{len(str(size)) - 1}}".rstrip("0") if rest else str(whole)
