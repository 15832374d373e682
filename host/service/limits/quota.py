"""What is limited, and what counts it.

The sliding window counter: what was counted in this window of the clock, and of the one before it the share that a
window which ends now still covers, as if it had been spent evenly. Two numbers for each limit, however many requests;
for a burst at the end of a window, it lets up to as many again through in the next one as fit into the even share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from host.core.quantities import Quota

Unit = Literal["requests", "tokens"]


@dataclass(frozen=True, slots=True)
class Budget:
    """What all keys together may spend on one catalyst."""

    requests: Quota | None = None
    tokens: Quota | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """`name` is what is counted by (`key:ab12cd34ef56:requests`); `subject` how people are told (`the key 'ci'`)."""

    name: str
    allowance: Quota
    unit: Unit
    subject: str

    @property
    def counter(self) -> str:
        """The name with the window's length: another length has other windows, and begins anew."""
        return f"{self.name}/{self.allowance.window_s!r}"


@dataclass(frozen=True, slots=True)
class Exceeded:
    """The limit that says no for longest, and the seconds after which it would not, if nothing else is counted."""

    limit: Limit
    retry_after_s: float


class Limiter(Protocol):
    """Thread-safe; its methods wait for whatever counts, and raise StateError where that does not answer: then nobody
    is let in. How windows are counted is in `host.service.limits.quota`."""

    def admit(self, limits: Sequence[Limit]) -> Exceeded | None:
        """Count one for each of "requests", and see that something is left of each of "tokens". All, or nothing: where
        one says no, none has counted."""

    def spend(self, limits: Sequence[Limit], tokens: int) -> None:
        """Count `tokens` for each of "tokens", also beyond what was left of it: they were spent."""

    def levels(self, limits: Sequence[Limit]) -> list[float]:
        """How much of each is used in the window that ends now."""

    def close(self) -> None: ...


_A_MOMENT_S: Final = 0.001  # past the point where the share has become less, and not onto it


@dataclass(frozen=True, slots=True)
class Window:
    """Counts of the window before and of this one, of which the share `passed` (0 to 1) is over."""

    previous: int
    current: int
    passed: float

    @property
    def used(self) -> float:
        return self.previous * (1.0 - self.passed) + self.current

    def full(self, amount: int) -> bool:
        """Whether there is no room for one more. A part of one that is left of the window before does not count: one
        request in a minute can be made every minute."""
        return int(self.previous * (1.0 - self.passed)) + self.current >= amount

    def wait_s(self, amount: int, window_s: float) -> float:
        """Where it is full: until it is not, if nothing else is counted."""
        room = amount - self.current  # for the share of the window before: it has to become less than this
        if room > 0:
            share = 1.0 - room / self.previous - self.passed
        else:  # it is the next window's turn, of which this is the one before
            share = 1.0 - self.passed + max(0.0, 1.0 - amount / self.current)
        return max(0.0, share) * window_s + _A_MOMENT_S


def place(now: float, window_s: float) -> tuple[int, float]:
    """The number of the window that `now` (Unix time in seconds) is in, and which share of it is over."""
    number, over = divmod(now, window_s)
    return int(number), over / window_s
