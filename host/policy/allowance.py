"""So much in so long, as people write it: `100/1m`, `1k/1h`, `2M/30d`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NoReturn

from host.errors import InputError

_AMOUNT = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,6})?)([kM]?)\Z")
_WINDOW = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,20})?)(ms|s|m|h|d)\Z")
_TIMES: Final = {"": 1, "k": 1_000, "M": 1_000_000}
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
MOST: Final = 10**15  # which any database counts to, and a float
SHORTEST_S: Final = 0.001
LONGEST_S: Final = 36_525 * 86_400.0
_HINT: Final = (
    "like 100/1m, 1k/1h or 2M/30d: a number, with k or M for thousands or millions, in so many ms, s, m, h or d"
)


@dataclass(frozen=True, slots=True)
class Allowance:
    """`amount` (1 to 10^15) in any `window_s` seconds (a millisecond to 100 years). Raises InputError for others."""

    amount: int
    window_s: float

    def __post_init__(self) -> None:
        if not isinstance(self.amount, int) or isinstance(self.amount, bool) or not 1 <= self.amount <= MOST:
            _refuse(f"its amount is {str(self.amount)[:40]}, and not a whole number from 1 to 10^15")
        if not SHORTEST_S <= self.window_s <= LONGEST_S:  # nor is NaN
            _refuse(f"its window is {self.window_s:g} s, and not between a millisecond and 100 years")

    @classmethod
    def parse(cls, text: str) -> Allowance:
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
        return cls(int(exact), float(timed[1]) * _SECONDS[timed[2]])

    def __str__(self) -> str:
        """The shortest text that is read as this."""
        amounts = (f"{_plain(Decimal(self.amount) / times)}{unit}" for unit, times in _TIMES.items())
        windows = (f"{number}{unit}" for unit, size in _SECONDS.items() for number in _numbers(self.window_s / size))
        return "/".join(
            (
                min((text for text in amounts if _AMOUNT.match(text)), key=len),
                min((text for text in windows if _reads_as(text, self.window_s)), key=len),
            )
        )


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def _numbers(amount: float) -> tuple[str, str]:
    """As short as it mostly can be, and exactly."""
    return f"{amount:.15g}", repr(amount).removesuffix(".0")


def _reads_as(text: str, window_s: float) -> bool:
    match = _WINDOW.match(text)
    return match is not None and float(match[1]) * _SECONDS[match[2]] == window_s


def _refuse(what: str) -> NoReturn:
    raise InputError(f"not an allowance: {what}", hint=_HINT)
