"""Failover: the way of a request from one target to the next (`host.service.targets`).

A request goes to the first target. If the upstream there does not serve it, it goes to the next one: as a run of its
own, whose record names the first; under the caller's scopes, which are checked for each; with what is held for it
already. Nothing moves on once a part of an answer was handed out, after a mistake of the caller, when the run was
cancelled, or where the upstream may have done the work. Where every target fails, the caller gets what the first one
said, or what the last one said that may have done the work: nobody is told to try again what may be done. The budget of
a target that failed is given back, unless the work may have been done there.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from host.core.audit import Event
from host.core.names import Reference
from host.core.repeating import Cause
from host.core.sliding_window import Reservation
from host.errors import (
    ArtifactError,
    Busy,
    DeadlineExceeded,
    Forbidden,
    HostError,
    InputError,
    LimitExceeded,
    PolicyError,
)
from host.run import AnswerHead, Piece
from host.runtime.events import KEEPALIVE, AsyncEventStream, pieces, unserved
from host.service.limits.limiter import is_of_budget
from host.service.request import Resolved, resolve

if TYPE_CHECKING:
    from host.runtime.catalyst import Catalyst
    from host.service.catalog import View

_log = logging.getLogger(__name__)

_HEAD_S: Final = 15.0  # that the head of an answer waits
_PASSED_OVER: Final = (ArtifactError, Forbidden, InputError, LimitExceeded, Busy, DeadlineExceeded)
"""Errors of a target that cannot be asked: it is not installed or not approved, not the caller's to use, takes no such
request, has spent its budget, or cannot be loaded now or in time. The next one is asked."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One target that did not serve a request: its catalyst, the run there, its outcome and the cause. `once_only`:
    the work may have been done there."""

    catalyst: str
    run: str
    outcome: str
    cause: Cause
    once_only: bool

    def moved_to(self, catalyst: str, run: str) -> Event:
        """For the record of this run: the request goes on as that one."""
        return Event("run.moved", self.run, rule=self.cause, detail={"to": catalyst, "as": run})

    def __str__(self) -> str:
        return f"{self.catalyst} {self.run} {self.outcome}"


class Told(NamedTuple):
    """What the caller is told where every target fails: the error of one of them. `unsent`: no upstream had it."""

    error: HostError
    stream: AsyncEventStream
    resolved: Resolved
    catalyst: Catalyst
    outcome: str
    unsent: bool


class Unserved(NamedTuple):
    """Why an upstream did not serve a request, None where that is not its doing; whether it may have done what may not
    be done twice; and whether the next target is asked because of it."""

    cause: Cause | None
    once_only: bool
    moves: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request goes next: the target's catalyst, loaded, and what is held there."""

    resolved: Resolved
    catalyst: Catalyst
    held: Reservation


@dataclass(frozen=True, slots=True)
class Way:
    """How to reach a target. `view` returns the catalog as it is now; `prepared` loads a catalyst, and checks the input
    and the caller; `reserve` holds what has to be left: of the caller's key if its first flag is set, of the target's
    own budget if its second is; `release` gives that back; `refused` records that the caller may not use a target."""

    view: Callable[[], Awaitable[View]]
    prepared: Callable[[Resolved, View], Awaitable[Catalyst]]
    reserve: Callable[[Resolved, bool, bool], Awaitable[Reservation]]
    release: Callable[[Reservation], Awaitable[None]]
    refused: Callable[[Resolved, Forbidden], Awaitable[None]]


def cause_to_move(stream: AsyncEventStream, resolved: Resolved, error: HostError) -> Unserved:
    """What the `error` in which a request ended says of its upstream."""
    if (group := resolved.failover) is None:
        return Unserved(None, False, False)
    cause, once_only = unserved(stream, error)
    return Unserved(cause, once_only, cause in group.on and (group.unsafe_repeat or not once_only))


async def first_place(resolved: Resolved, view: View, way: Way) -> Place:
    """Where a request begins: at its first target, or at the next one where that does not load or has spent its budget.
    All that it needs is held. Raises what the first one raised where no other can be asked."""
    try:
        catalyst = await way.prepared(resolved, view)
        return Place(resolved, catalyst, await way.reserve(resolved, True, True))
    except (ArtifactError, PolicyError, LimitExceeded):
        if (place := await next_place(resolved, way)) is None:
            raise
    try:
        of_key = await way.reserve(place.resolved, True, False)
    except BaseException:
        await way.release(place.held)
        raise
    return replace(place, held=Reservation((*of_key.held, *place.held.held)))


async def next_place(resolved: Resolved, way: Way) -> Place | None:
    """The next target that can be asked, with its budget held; None where there is none. Raises Unauthenticated for a
    caller who is not let in any more, StateError."""
    others = resolved.others
    while others:
        target, others = others[0], others[1:]
        try:
            view = await way.view()
            found = resolve(resolved.request, view, target)
            found = replace(found, failover=resolved.failover, others=others)
            catalyst = await way.prepared(found, view)
            return Place(found, catalyst, await way.reserve(found, False, True))
        except _PASSED_OVER as error:
            if isinstance(error, Forbidden):
                await way.refused(resolved, error)
            _log.warning("the target %s is passed over: %s", target.reference, error.code)
    return None


async def begun(stream: AsyncEventStream, patience_s: float | None = None) -> list[str | Piece]:
    """`pieces`, with the head of an answer not before something follows it: until then the request may go on elsewhere.
    Where nothing follows for long, the caller is to know at least that there is an answer."""
    found = await pieces(stream, patience_s)
    if len(found) == 1 and isinstance(found[0], AnswerHead):
        found += [one for one in await pieces(stream, _HEAD_S) if one is not KEEPALIVE]
    return found


def part_of(held: Reservation, catalyst: Reference) -> tuple[Reservation, Reservation]:
    """What is held of the budget of the `catalyst`, and the rest."""
    own = tuple([one for one in held.held if is_of_budget(one.limit, catalyst)])
    return Reservation(own), Reservation(tuple([one for one in held.held if one not in own]))
