"""What is limited, and what counts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from host.policy.allowance import Allowance

Unit = Literal["requests", "tokens"]


@dataclass(frozen=True, slots=True)
class Limit:
    """`name` is what is counted by (`key:ab12cd34ef56:requests`); `subject` how people are told (`the key 'ci'`)."""

    name: str
    allowance: Allowance
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
    is let in. How windows are counted is in `host.server.limits.window`."""

    def admit(self, limits: Sequence[Limit]) -> Exceeded | None:
        """Count one for each of "requests", and see that something is left of each of "tokens". All, or nothing: where
        one says no, none has counted."""

    def spend(self, limits: Sequence[Limit], tokens: int) -> None:
        """Count `tokens` for each of "tokens", also beyond what was left of it: they were spent."""

    def levels(self, limits: Sequence[Limit]) -> list[float]:
        """How much of each is used in the window that ends now."""

    def close(self) -> None: ...
