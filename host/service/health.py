"""Health: whether the upstreams of catalysts answer, by asking them, and by what became of their latest runs.

A check is a run like any other, with its record, of an operation that costs nothing: the one that lists the models. A
catalyst without it is not checked. Checks have a time of their own, and few are under way at once, so that upstreams
that hang hold nobody.
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
    status, `words` say it; both are "" where it is well. `run` is the id of the check's run, `at` Unix time."""

    reference: str
    state: HealthState
    cause: str = ""
    words: str = ""
    took_s: float = 0.0
    run: str = ""
    at: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


async def check(catalyst: Catalyst, timeout_s: float = CHECK_S) -> Health:
    """Ask the catalyst's upstream for its models. Whatever is wrong is in the result."""
    if catalyst.operation(openai.LIST_MODELS) is None:
        return Health(catalyst.reference, "unchecked", words=f"it has no {openai.LIST_MODELS}", at=time.time())
    began, at = time.monotonic(), time.time()
    caller = {"via": "health", "operation": openai.LIST_MODELS}
    try:
        result = await catalyst.arun(
            {"operation": openai.LIST_MODELS, "params": {}}, timeout=min(timeout_s, CHECK_S), caller=caller
        )
    except HostError as error:
        run = "" if error.execution is None else error.execution.id
        took_s = time.monotonic() - began
        return Health(catalyst.reference, "ill", error.code, str(error)[:_LONGEST_WORDS], took_s, run, at)
    took_s, cause, words = time.monotonic() - began, "", ""
    if not result.ok:
        cause, words = str(result.status), _words_of(result)
    state: HealthState = "ok" if result.ok else "ill"
    return Health(catalyst.reference, state, cause, words, took_s, result.execution.id, at)


def _words_of(result: Result) -> str:
    said = result.error.get("message") if isinstance(result.error, Mapping) else result.error
    return str(said)[:_LONGEST_WORDS]


async def check_all(catalysts: Sequence[Catalyst], timeout_s: float = CHECK_S) -> list[Health]:
    """The health of each, a few at a time."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(catalyst: Catalyst) -> Health:
        async with turns:
            return await check(catalyst, timeout_s)

    return list(await asyncio.gather(*map(one, catalysts)))


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
        self._checks: dict[str, Health] = {}
        self._runs: dict[str, deque[tuple[float, str]]] = {}

    def moved(self, running: Seen) -> None:
        self._note(running.tried[-1].catalyst, running.tried[-1].outcome)

    def ended(self, running: Seen, how: Ended) -> None:
        self._note(running.catalyst.reference, how.outcome)

    def _note(self, reference: str, outcome: str) -> None:
        self._runs.setdefault(reference, deque(maxlen=_MOST_RUNS)).append((time.monotonic(), outcome))

    def of(self, reference: str) -> dict[str, Any]:
        """`check`, the latest, or None; `runs` in the last minutes, how many of these failed by the upstream's doing,
        and the outcome of the last of these."""
        since = time.monotonic() - WINDOW_S
        latest = [outcome for at, outcome in self._runs.get(reference, ()) if at >= since]
        failed = [outcome for outcome in latest if _is_ill(outcome)]
        found = self._checks.get(reference)
        return {
            "reference": reference,
            "check": None if found is None else found.as_dict(),
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
        self._checks = {one.reference: one for one in found}
        self._runs = {name: self._runs[name] for name in self._runs if name in self._checks}
        return found

    def all(self) -> list[dict[str, Any]]:
        """`of` each catalyst that was checked or ran."""
        return [self.of(name) for name in sorted({*self._checks, *self._runs})]


def _is_ill(outcome: str) -> bool:
    if outcome.isdigit():
        return cause_of_status(int(outcome)) is not None
    return outcome in ("upstream_timeout", "circuit_open")
