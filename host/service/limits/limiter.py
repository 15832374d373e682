"""What a limiter does, what budgets are, and where limits are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from host.core.quantities import Quota
from host.core.sliding_window import Exceeded, Limit, RequestLimiter, Reservation
from host.service.limits.redis import RedisLimiter
from host.service.limits.store import StoreLimiter

if TYPE_CHECKING:
    from host.runtime.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Budget:
    """How much all keys together may spend on one catalyst. None: no bound."""

    requests: Quota | None = None
    tokens: Quota | None = None


class Limiter(RequestLimiter, Protocol):
    """Thread-safe. Its methods block until the counting is done, and raise StateError if the place that counts does not
    answer: then nothing is admitted.

    What is reserved counts as spent from then on. `settle` gives the rest back, or adds what was missing. A reservation
    that nobody settles, because the process was killed or the client left, stays spent until its window is over."""

    def reserve(self, limits: Sequence[Limit], needed: int, likely: int) -> Reservation | Exceeded:
        """As `admit`, and hold tokens of each limit of "tokens": `likely` many, or as many as it has room for, but at
        least `needed`. If one has no room for `needed`, nothing is counted. With 0 of both no room is needed."""

    def settle(self, reservation: Reservation, tokens: int | None, answer: str = "", *, again: bool = False) -> int:
        """The request cost `tokens`; None: its answer does not say so yet, and what is held stays so.

        `answer` names an answer that can be read again, and is remembered for as long as the limit's window. `again`:
        the request only read it. Then it is counted once, whoever reads it how often, and the first count settles what
        is held by the request that ordered it. Returns what the first limit counts for this: `tokens`, less what was
        counted for the same answer before."""

    def spend(self, limits: Sequence[Limit], tokens: int) -> None:
        """Count `tokens` for each limit of "tokens", also beyond its quota: they have been spent already."""

    def close(self) -> None: ...


def open_limiter(url: str | None, workspace: Workspace) -> Limiter:
    """The limiter in the Redis at `url`; without a URL, in the database of `workspace`. To be closed. Raises InputError
    for a URL of another kind, StateError if nothing answers there or a library is missing. Neither error has the URL's
    password."""
    return RedisLimiter.open(url) if url else StoreLimiter(workspace.counters)
