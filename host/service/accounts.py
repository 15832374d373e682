"""Accounts: what a request may spend and has spent, counted by the limiter, beside the event loop.

    admit     one request under its limits
    reserve   tokens that a run may cost, by an estimate
    settle    by the run's answer: the rest is given back, what was missing is added, an answer that is read again
              counts once

What is never settled stays spent until its window is over. Waiting has an end, in the queue too: a place that counts
and is stuck stops nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from host.core.names import Reference
from host.core.quantities import Quota
from host.core.sliding_window import Held
from host.core.waiting import ANSWER_S
from host.errors import HostError, LimitExceeded
from host.runtime.threads import Workers
from host.service.dialects.dialect import MOST_TOKENS, Estimate, StoredAnswer, Tokens
from host.service.limits import Exceeded, Limit, Limiter, Reservation

R_contra = TypeVar("R_contra", contravariant=True)

_log = logging.getLogger(__name__)

_COUNTERS: Final = 4  # threads
_SETTLE_S: Final = 2.0  # how long an answer waits until its tokens are counted
_REMEMBERED: Final = Quota(MOST_TOKENS, 86_400.0)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended. `outcome` is a status, or an error's code. `counted`: its `tokens` are all that it cost; else it
    may have cost more, which its answer did not say. `answer` is what was read, if it can be read again."""

    outcome: str
    tokens: Tokens
    took_s: float
    counted: bool = True
    answer: StoredAnswer | None = None


class Observer(Generic[R_contra]):
    """Sees what the dispatch does with runs, and changes nothing. Methods are called on the event loop, and must not
    block."""

    def started(self) -> None:
        """A run began."""

    def refused(self, unit: str) -> None:
        """A request was over a limit that counts `unit`."""

    def first_event(self, running: R_contra, after_s: float) -> None:
        """The first event of a run came, `after_s` seconds after the run began."""

    def moved(self, running: R_contra) -> None:
        """The upstream of the last target that was `tried` did not serve the request: another one is asked."""

    def ended(self, running: R_contra, how: Ended) -> None:
        """A run ended."""


class Accounts:
    """One per process, for its event loop. `refused` is called with the unit of a limit that a request was over."""

    def __init__(self, limiter: Limiter, refused: Callable[[str], None]) -> None:
        self._limiter = limiter
        self._refused = refused
        self._counting = Workers("host-limits", _COUNTERS)

    async def admit(self, limits: Sequence[Limit]) -> None:
        """Raises LimitExceeded, StateError, Busy."""
        if limits:
            exceeded = await self._counting.answer(lambda: self._limiter.admit(limits), ANSWER_S)
            if exceeded is not None:
                raise self._over(exceeded)

    async def reserve(self, limits: Sequence[Limit], estimate: Callable[[], Awaitable[Estimate]]) -> Reservation:
        """Admit a run, and hold the tokens that it may cost. Raises LimitExceeded, StateError, Busy."""
        if not any(limit.unit == "tokens" for limit in limits):
            await self.admit(limits)
            return Reservation()
        cost = await estimate()
        needed, likely = cost.needed, cost.needed + cost.likely
        found = await self._counting.answer(lambda: self._limiter.reserve(limits, needed, likely), ANSWER_S)
        if isinstance(found, Exceeded):
            raise self._over(found)
        return found

    async def reserve_more(self, held: Reservation, tokens: int) -> None:
        """Count so many tokens more for a run that holds some. Raises LimitExceeded where a limit has no room: then
        they are counted all the same, since they were spent. Raises StateError, Busy."""
        limits = [one.limit for one in held.held]
        found = await self._counting.answer(lambda: self._limiter.reserve(limits, tokens, tokens), ANSWER_S)
        if isinstance(found, Exceeded):
            await self._counting.answer(lambda: self._limiter.spend(limits, tokens), ANSWER_S)
            raise self._over(found)

    async def release(self, held: Reservation) -> None:
        """Nothing ran."""
        await self._settle(held, 0)

    async def settle(
        self,
        held: Reservation,
        tokens: Tokens,
        *,
        counted: bool,
        answer: StoredAnswer | None,
        key: str,
        catalyst: Reference,
    ) -> Tokens:
        """Settle what is held, and return what is to be counted: nothing for an answer that was counted before. Without
        `counted` the run may have cost more than `tokens`: what is held stays so. `key` is the caller's id."""
        if not held.held:
            if answer is None or not answer.again:
                return tokens
            if not answer.later:
                return Tokens()  # it was counted when it was made
            # no limit remembers it: it is remembered for a day
            held = Reservation((Held(Limit(f"read:{key}:{catalyst}", _REMEMBERED, "tokens", ""), 0, 0),))
        name, again = ("", False) if answer is None else (_name(catalyst, answer), answer.again)
        if counted:
            due = await self._settle(held, tokens.total, name, again=again)
            return tokens if due == tokens.total else tokens.at_most(due)
        missing = [(one.limit, tokens.total - one.amount) for one in held.held if tokens.total > one.amount]
        settling = [self._settle(Reservation((Held(limit, 0, 0),)), more) for limit, more in missing]
        if answer is not None:
            settling.append(self._settle(held, None, name, again=again))
        await asyncio.gather(*settling)  # at once: the caller waits for the slowest, and not for all in turn
        return tokens

    async def _settle(self, held: Reservation, tokens: int | None, answer: str = "", *, again: bool = False) -> int:
        """Returns what is due. What cannot be settled stays held: then all of `tokens` are due."""
        if not held.held:
            return tokens or 0
        settle = self._limiter.settle
        try:
            return await asyncio.shield(
                self._counting.answer(lambda: settle(held, tokens, answer, again=again), _SETTLE_S)
            )
        except HostError:
            _log.exception("the tokens of a run could not be counted")
            return tokens or 0

    def _over(self, exceeded: Exceeded) -> LimitExceeded:
        limit, needed = exceeded.limit, exceeded.needed
        self._refused(limit.unit)
        hint = "the operation's own bound, like max_tokens, says how long the answer may be" if needed > 1 else None
        said = f"{limit.subject} has spent its {limit.quota} {limit.unit}"
        if needed > 1:
            said = f"{limit.subject} has no {needed} {limit.unit} left of its {limit.quota}, which the request may cost"
        return LimitExceeded(said, unit=limit.unit, retry_after_s=exceeded.retry_after_s, hint=hint)


def _name(catalyst: Reference, answer: StoredAnswer) -> str:
    """The answer's name for the limiter, of one length: ids are strangers' texts."""
    return hashlib.sha256(f"{catalyst} {answer.id}".encode()).hexdigest()[:32]
