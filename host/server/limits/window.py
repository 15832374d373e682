"""The sliding window counter: what was counted in this window of the clock, and of the one before it the share that a
window which ends now still covers, as if it had been spent evenly. Two numbers for each limit, however many requests;
for a burst at the end of a window, it lets up to as many again through in the next one as fit into the even share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

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
