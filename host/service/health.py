"""Health: whether the upstreams of catalysts answer, by asking them, and by what became of their latest runs.

A check is a run like any other, with its record, of an operation that costs nothing: the one that lists the models. A
catalyst without it is not checked; of several upstreams of an origin, each is. Checks have a time of their own, and few
are under way at once, so that upstreams that hang hold nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from host.core.repeating import cause_of_status
from host.errors import HostError
from host.runtime.catalyst import Catalyst
from host.service.accounts import Ended, Observer
from host.service.dialects import openai

if TYPE_CHECKING:
    from host.core.operation import Result
    from host.service.catalog import Catalog
    from host.service.failover import Tried

CHECK_S: Final = 10.0  # the longest that one takes
AT_ONCE: Final = 4  # checks under way
LEAST_PAUSE_S: Final = 5.0  # between two checks of a server
WINDOW_S: Final = 300.0  # of the latest runs
_MOST_RUNS: Final = 200  # of a catalyst, in that time
_LONGEST_WORDS: Final = 300

HealthState = Literal["ok", "ill", "unchecked"]


@dataclass(frozen=True, slots=True)
class Health:
    """What one check found. `state` "unchecked": the catalyst has no operation for it. `cause` is an error's code or a
    status, `words` say it; both are "" where it is well. `run` is the id of the check's run, `at` Unix time. `upstream`
    is the origin that was asked, of several; else ""."""

    reference: str
    state: HealthState
    cause: str = ""
    words: str = ""
    took_s: float = 0.0
    run: str = ""
    at: float = 0.0
    upstream: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


async def check(catalyst: Catalyst, timeout_s: float = CHECK_S, upstream: str = "") -> Health:
    """Ask the catalyst's upstream for its models; with `upstream`, that one of several. Whatever is wrong is in the
    result."""
    name = catalyst.reference
    if catalyst.operation(openai.LIST_MODELS) is None:
        return Health(name, "unchecked", words=f"it has no {openai.LIST_MODELS}", at=time.time())
    began, at = time.monotonic(), time.time()
    caller = {"via": "health", "operation": openai.LIST_MODELS}
    given, only = {"operation": openai.LIST_MODELS, "params": {}}, (upstream,) if upstream else ()
    try:
        result = await catalyst.arun(given, timeout=min(timeout_s, CHECK_S), caller=caller, upstreams=only)
    except HostError as error:
        run = "" if error.execution is None else error.execution.id
        took_s = time.monotonic() - began
        return Health(name, "ill", error.code, str(error)[:_LONGEST_WORDS], took_s, run, at, upstream)
    took_s, cause, words = time.monotonic() - began, "", ""
    if not result.ok:
        cause, words = str(result.status), _words_of(result)
    state: HealthState = "ok" if result.ok else "ill"
    return Health(name, state, cause, words, took_s, result.execution.id, at, upstream)


def _upstreams_of(catalyst: Catalyst) -> list[str]:
    """Each of several upstreams of an origin; "" where there is but one."""
    several = (places for places in catalyst.grant.upstreams.values() if len(places) > 1)
    named = dict.fromkeys(str(place.origin) for places in several for place in places)
    return list(named) if named and catalyst.operation(openai.LIST_MODELS) is not None else [""]


def _words_of(result: Result) -> str:
    said = result.error.get("message") if isinstance(result.error, Mapping) else result.error
    return str(said)[:_LONGEST_WORDS]


async def check_all(catalysts: Sequence[Catalyst], timeout_s: float = CHECK_S) -> list[Health]:
    """The health of each, and of each of its upstreams, a few at a time."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(catalyst: Catalyst, upstream: str) -> Health:
        async with turns:
            return await check(catalyst, timeout_s, upstream)

    every = [(catalyst, upstream) for catalyst in catalysts for upstream in _upstreams_of(catalyst)]
    return list(await asyncio.gather(*(one(*each) for each in every)))


def best_of(checks: Sequence[Health]) -> Health:
    """Of those of one catalyst: a request is served where one of its upstreams is well."""
    return next((one for one in checks if one.state == "ok"), checks[0])


def checked(catalysts: Sequence[Catalyst], timeout_s: float = CHECK_S) -> list[Health]:
    """`check_all`, for callers without an event loop."""
    return asyncio.run(check_all(catalysts, timeout_s))


class Seen(Protocol):
    """A run that has ended, as far as this module needs it."""

    catalyst: Catalyst
    tried: list[Tried]


class HealthBook(Observer[Seen]):
    """What one process knows of its catalysts' health: their latest checks, and how their latest runs ended. For its
    event loop."""

    def __init__(self) -> None:
        self._checks: dict[str, list[Health]] = {}
        self._runs: dict[str, deque[tuple[float, str]]] = {}

    def moved(self, running: Seen) -> None:
        self._note(running.tried[-1].catalyst, running.tried[-1].outcome)

    def ended(self, running: Seen, how: Ended) -> None:
        self._note(running.catalyst.reference, how.outcome)

    def _note(self, reference: str, outcome: str) -> None:
        self._runs.setdefault(reference, deque(maxlen=_MOST_RUNS)).append((time.monotonic(), outcome))

    def of(self, reference: str) -> dict[str, Any]:
        """`check`, the latest, or None; of several upstreams the best one's, and `upstreams` has all. `runs` in the
        last minutes, how many of these failed by the upstream's doing, and the outcome of the last of these."""
        since = time.monotonic() - WINDOW_S
        latest = [outcome for at, outcome in self._runs.get(reference, ()) if at >= since]
        failed = [outcome for outcome in latest if _is_ill(outcome)]
        found = self._checks.get(reference, [])
        return {
            "reference": reference,
            "check": best_of(found).as_dict() if found else None,
            **({"upstreams": [one.as_dict() for one in found]} if len(found) > 1 else {}),
            "runs": len(latest),
            "failed": len(failed),
            "last_failure": failed[-1] if failed else None,
        }

    async def check(self, catalog: Catalog) -> list[Health]:
        """Check every catalyst of the routing now. One that does not load is ill, too. Raises StateError."""
        view, catalysts, found = await catalog.current(), list[Catalyst](), list[Health]()
        for reference in view.routing.references:
            try:
                catalysts.append(await catalog.catalyst(view, reference))
            except HostError as error:
                found.append(Health(str(reference), "ill", error.code, str(error)[:_LONGEST_WORDS], at=time.time()))
        found += await check_all(catalysts)
        self._checks = {name: [one for one in found if one.reference == name] for name in {x.reference for x in found}}
        self._runs = {name: self._runs[name] for name in self._runs if name in self._checks}
        return found

    def all(self) -> list[dict[str, Any]]:
        """`of` each catalyst that was checked or ran."""
        return [self.of(name) for name in sorted({*self._checks, *self._runs})]


def _is_ill(outcome: str) -> bool:
    if outcome.isdigit():
        return cause_of_status(int(outcome)) is not None
    return outcome in ("upstream_timeout", "circuit_open")
