"""One operation for whoever asked: admitted, run, counted. What the gateway, MCP and the console have in common.

    ask → may he? → limits and budgets → the run, in its sandbox → usage

Everything about it is in the record under the run's id, with the key that it was for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from host.core.attachments import Attachment
from host.core.names import Reference
from host.core.operation import Result
from host.core.quantities import Quota
from host.core.strict_json import Json
from host.errors import Cancelled, DeadlineExceeded, Forbidden, HostError, LimitExceeded, OperationFailed
from host.runtime.events import AsyncEventStream
from host.runtime.host import Catalyst
from host.service.dialects.openai import (
    Tokens,
    asking_for_usage,
    estimated,
    only_tells_usage,
    tokens_in,
    tokens_in_text,
)
from host.service.limits import Budget, Limit, Limiter
from host.service.principal import Principal

if TYPE_CHECKING:
    from host.service.catalog import Catalog
    from host.service.usage import UsageRecorder
    from host.store.access.api_keys import ApiKey

_log = logging.getLogger(__name__)

_SLOW_S = 0.05  # that a check may take on the event loop: others wait meanwhile
_UNTOLD = (Cancelled.code, DeadlineExceeded.code)  # of runs whose upstream may have done all of its work
_LONGEST_END_S = 5.0  # of cancelled runs: each ends at the next epoch, or the next host call


@dataclass(frozen=True, slots=True)
class OperationRequest:
    """One operation for `principal`, who may: that was found out before. `request` is the request's id. `more` is what
    the input has beside these; of a catalyst that takes no operations (`operation` ""), all that it has. One that is
    `large` is not looked through on the event loop."""

    principal: Principal
    catalyst: Catalyst
    operation: str
    params: Mapping[str, Json]
    stream: bool = False
    attachments: Mapping[str, Attachment] = field(default_factory=dict)
    request: str = ""
    timeout_s: float | None = None
    via: str = "gateway"
    more: Mapping[str, Json] = field(default_factory=dict)
    large: bool = False

    def given(self) -> dict[str, Json]:
        if not self.operation:
            return dict(self.more)
        return {**self.more, "operation": self.operation, "params": self.params, "stream": self.stream}


@dataclass(frozen=True, slots=True)
class Ended:
    """`outcome` is a status, or an error's code."""

    outcome: str
    tokens: Tokens
    took_s: float


class Observer:
    """Sees what the dispatch does, and changes nothing. Each method is called on the event loop, and must not block."""

    def started(self) -> None:
        """A run has begun."""

    def refused(self, reason: str) -> None:
        """A request was over a limit: `reason` is the unit of the limit."""

    def first_event(self, ask: OperationRequest, after_s: float) -> None:
        """The first event of a run has come, `after_s` seconds after the run began."""

    def ended(self, ask: OperationRequest, run: str, how: Ended) -> None:
        """The run whose id is `run` has ended."""


class Running:
    """A run that has begun: `async with`, and out of it the run has ended, whichever way, and was counted."""

    def __init__(self, runner: Dispatch, ask: OperationRequest, limits: Sequence[Limit]) -> None:
        self._runner = runner
        self._began = time.monotonic()
        self._tokens: Tokens | None = None
        self._outcome = Cancelled.code  # unless it ends before its caller leaves
        self._hides_usage = False
        self.events = 0
        self.ask = ask
        self.limits = limits
        given = ask.given()
        if ask.stream and any(limit.unit == "tokens" for limit in limits):
            given["params"], self._hides_usage = asking_for_usage(ask.operation, ask.params)
        caller: dict[str, Json] = {"via": ask.via, "operation": ask.operation[:200], "request": ask.request}
        if ask.principal.key is not None:
            caller = {"key": ask.principal.id, "name": ask.principal.name, **caller}
        self._stream: AsyncEventStream = ask.catalyst.astream(
            given,
            attachments=ask.attachments,
            timeout=ask.timeout_s,
            caller=caller,
            asks=False,
        )

    @property
    def id(self) -> str:
        return self._stream.id

    @property
    def tokens(self) -> Tokens | None:
        """What it cost, as far as its answer has said."""
        return self._tokens

    def cancel(self) -> None:
        self._stream.cancel()

    async def texts(self) -> list[str]:
        """The events that there are by now, each as JSON text: at least one, unless the run has ended. Raises
        HostError: OperationFailed where it ended in an error status."""
        while True:
            found = await self._texts()
            if not found:
                return found
            if not self.events:
                self._runner.first_event(self.ask, time.monotonic() - self._began)
            self.events += len(found)
            for text in found:
                self._tokens = tokens_in_text(text) or self._tokens
            if self._hides_usage:
                found = [text for text in found if not only_tells_usage(text)]
            if found:
                return found

    async def result(self) -> Result:
        """The run's, whatever its status, once all events were taken. Raises HostError."""
        with suppress(OperationFailed):  # the result says so as well
            while await self.texts():
                pass
        return self._stream.result

    async def _texts(self) -> list[str]:
        try:
            found = await self._stream.texts()
        except OperationFailed as failed:
            self._outcome = str(failed.result.status)
            raise
        except HostError as error:
            self._outcome = error.code
            raise
        if not found:
            result = self._stream.result
            self._outcome = str(result.status)
            self._tokens = tokens_in(result.data) or self._tokens
        return found

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._stream.aclose()
        finally:
            await self._runner.ended(self, self._ended())

    def _ended(self) -> Ended:
        tokens = self._tokens
        if tokens is None:
            untold = self.events or self._outcome in _UNTOLD
            tokens = estimated(len(str(self.ask.params)), self.events) if untold else Tokens()
        return Ended(self._outcome, tokens, time.monotonic() - self._began)


class Dispatch:
    """One per process, for its event loop."""

    def __init__(
        self,
        catalog: Catalog,
        limiter: Limiter,
        spending: UsageRecorder,
        observers: Sequence[Observer],
        budgets: Mapping[Reference, Budget],
    ) -> None:
        self._catalog = catalog
        self._limiter = limiter
        self._spending = spending
        self._observers = observers
        self._budgets = budgets
        self._running: dict[str, Running] = {}
        self._slow: set[str] = set()  # catalysts whose schemas take long
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self, ask: OperationRequest) -> Running:
        """Admitted and begun; to be entered at once. Raises InputError where the parameters are not what the catalyst
        says it takes, LimitExceeded, StateError."""
        await self._check(ask)
        limits = self._limits(ask)
        await self._admit(limits)
        running = Running(self, ask, limits)
        self._running[running.id] = running
        self._idle.clear()
        for observer in self._observers:
            observer.started()
        return running

    async def refused(self, known: Mapping[str, Any], error: Forbidden) -> HostError:
        """What to tell whoever wanted what his key is not for. It is put on record and counts as one of his requests:
        once he has spent those, neither is done. Raises StateError."""
        principal = known.get("principal")
        if principal is not None and principal.key is not None:
            try:
                await self._admit([limit for limit in _of_key(principal.key) if limit.unit == "requests"])
            except LimitExceeded as exceeded:
                return exceeded
        await self._catalog.record_refusal(known, error)
        return error

    async def _admit(self, limits: Sequence[Limit]) -> None:
        """Raises LimitExceeded, StateError."""
        if limits and (exceeded := await self._catalog.off_loop(lambda: self._limiter.admit(limits))) is not None:
            for observer in self._observers:
                observer.refused(exceeded.limit.unit)
            raise LimitExceeded(
                f"{exceeded.limit.subject} has spent its {exceeded.limit.quota} {exceeded.limit.unit}",
                unit=exceeded.limit.unit,
                retry_after_s=exceeded.retry_after_s,
            )

    async def _check(self, ask: OperationRequest) -> None:
        """A schema is a stranger's: one that took long once is checked beside the event loop from then on."""
        digest = str(ask.catalyst.digest)
        if ask.large or digest in self._slow:
            await asyncio.to_thread(lambda: ask.catalyst.check(ask.given()))
            return
        began = time.thread_time()
        try:
            ask.catalyst.check(ask.given())
        finally:
            if time.thread_time() - began > _SLOW_S:
                self._slow.add(digest)

    async def run(self, ask: OperationRequest) -> tuple[str, Result]:
        """The run's id, and its Result, whatever its status. Raises HostError. Cancelled with its task."""
        async with await self.start(ask) as running:
            return running.id, await running.result()

    def cancel(self, ids: Collection[str]) -> None:
        """Take back those of the runs that are this process's."""
        for ident in ids:
            if (running := self._running.get(ident)) is not None:
                running.cancel()

    async def end(self) -> None:
        """Take back all that still runs, and return once it has ended."""
        self.cancel(self.running)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_END_S):
                await self._idle.wait()

    def first_event(self, ask: OperationRequest, after_s: float) -> None:
        """What a Running says once its first event has come."""
        for observer in self._observers:
            observer.first_event(ask, after_s)

    @property
    def running(self) -> tuple[str, ...]:
        """The ids of what runs in this process."""
        return tuple(self._running)

    async def ended(self, running: Running, how: Ended) -> None:
        """What a Running says at its end: counted, before anybody is told of it."""
        self._running.pop(running.id, None)
        if not self._running:
            self._idle.set()
        ask = running.ask
        for observer in self._observers:
            observer.ended(ask, running.id, how)
        self._spending.used(
            day=datetime.now(UTC).date().isoformat(),
            key=ask.principal.id,
            catalyst=ask.catalyst.reference,
            failed=not how.outcome.startswith("2"),
            tokens=how.tokens,
        )
        spent = [limit for limit in running.limits if limit.unit == "tokens"]
        if spent and how.tokens.total:
            try:
                await asyncio.shield(self._catalog.off_loop(lambda: self._limiter.spend(spent, how.tokens.total)))
            except HostError:
                _log.exception("the tokens of %s could not be counted", running.id)

    def _limits(self, ask: OperationRequest) -> list[Limit]:
        found = [] if ask.principal.key is None else _of_key(ask.principal.key)
        reference = Reference.parse(ask.catalyst.reference).any_version
        if (budget := self._budgets.get(reference)) is not None:
            found += _limits(f"catalyst:{reference}", budget.requests, budget.tokens, f"the catalyst {reference}")
        return found


def _of_key(key: ApiKey) -> list[Limit]:
    subject = f"the key {key.name!r}"
    rate = _limits(f"key:{key.id}:rate", key.rate_limit, None, subject)
    return rate + _limits(f"key:{key.id}", key.request_budget, key.token_budget, subject)


def _limits(name: str, requests: Quota | None, tokens: Quota | None, subject: str) -> list[Limit]:
    found = []
    if requests is not None:
        found.append(Limit(f"{name}:requests", requests, "requests", subject))
    if tokens is not None:
        found.append(Limit(f"{name}:tokens", tokens, "tokens", subject))
    return found
