"""What a limiter does, what budgets are, and where limits are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from host.core.leases import Leases
from host.core.quantities import Quota
from host.core.sliding_window import Limit, Reservation, TokenLimiter
from host.service.limits.redis import RedisLimiter
from host.service.limits.store import StoreLimiter

if TYPE_CHECKING:
    from host.core.names import Reference
    from host.runtime.workspace import Workspace
    from host.store.access.api_keys import ApiKey


@dataclass(frozen=True, slots=True)
class Budget:
    """How much all keys together may spend on one catalyst, and how many of its runs may have a sandbox at once in each
    process. None: no bound."""

    requests: Quota | None = None
    tokens: Quota | None = None
    concurrency: int | None = None


class Limiter(TokenLimiter, Leases, Protocol):
    """Thread-safe. Its methods block until the counting is done, and raise StateError if the place that counts does not
    answer: then nothing is admitted.

    What is reserved counts as spent from then on. `settle` gives the rest back, or adds what was missing. A reservation
    that nobody settles, because the process was killed or the client left, stays spent until its window is over."""

    def settle(self, reservation: Reservation, tokens: int | None, answer: str = "", *, again: bool = False) -> int:
        """The request cost `tokens`; None: its answer does not say so yet, and what is held stays so.

        `answer` names an answer that can be read again, and is remembered for as long as the limit's window. `again`:
        the request only read it. Then it is counted once, whoever reads it how often, and the first count settles what
        is held by the request that ordered it. Returns what the first limit counts for this: `tokens`, less what was
        counted for the same answer before."""

    def spend(self, limits: Sequence[Limit], tokens: int) -> None:
        """Count `tokens` for each limit of "tokens", also beyond its quota: they have been spent already."""

    def check(self) -> None:
        """Raises StateError if nothing could be counted now."""

    def close(self) -> None: ...


def open_limiter(url: str | None, workspace: Workspace) -> Limiter:
    """The limiter in the Redis at `url`; without a URL, in the database of `workspace`. To be closed. Raises InputError
    for a URL of another kind, StateError if nothing answers there or a library is missing. Neither error has the URL's
    password."""
    return RedisLimiter.open(url) if url else StoreLimiter(workspace.counters)


def place_of(url: str) -> str:
    """The URL of a limiter without what may be a secret: a name, a password, and what it has behind `?`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def limits_of_key(key: ApiKey | None) -> list[Limit]:
    """The limits of a key: its rate and its budgets."""
    if key is None:
        return []
    subject = f"the key {key.name!r}"
    rate = _limits(f"key:{key.id}:rate", key.rate_limit, None, subject)
    return rate + _limits(f"key:{key.id}", key.request_budget, key.token_budget, subject)


def limits_of_budget(budgets: Mapping[Reference, Budget], catalyst: Reference) -> list[Limit]:
    """The limits of all callers together at this catalyst (any version)."""
    budget = budgets.get(catalyst, Budget())
    return _limits(f"catalyst:{catalyst}", budget.requests, budget.tokens, f"the catalyst {catalyst}")


def is_of_budget(limit: Limit, catalyst: Reference) -> bool:
    """Whether it is one of `limits_of_budget`."""
    return limit.name.startswith(f"catalyst:{catalyst}:")


def _limits(name: str, requests: Quota | None, tokens: Quota | None, subject: str) -> list[Limit]:
    found = []
    if requests is not None:
        found.append(Limit(f"{name}:requests", requests, "requests", subject))
    if tokens is not None:
        found.append(Limit(f"{name}:tokens", tokens, "tokens", subject))
    return found
