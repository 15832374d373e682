"""Dispatch: the one way of an operation through the host, for every face.

admit      the key's share of this process, and its limits, by the request's head host.service.principal, .limits
           (then the face reads the body, and parses it)
resolve    the caller may run it, of which catalyst, and with which models      host.service.request
load       the catalyst, with the permissions that the operator gave it          host.service.catalog
check      its input, against the manifest's schema
hold       the limits of the catalyst, and tokens by an estimate                 host.service.limits
run        in a sandbox of its own, when it is the caller's turn                 host.runtime.executor
settle     usage, what is held, observers
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from operator import add
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from host.core.audit import Event
from host.core.names import Reference
from host.core.operation import Result
from host.core.strict_json import Json, as_written, parse_json, write_json
from host.core.waiting import start
from host.errors import (
    CallerTimeout,
    Cancelled,
    DeadlineExceeded,
    Forbidden,
    HostError,
    InputError,
    LimitExceeded,
    OperationFailed,
    Overloaded,
    StateError,
    UpstreamTimeout,
)
from host.run import Piece, StreamEnd
from host.runtime.catalyst import Catalyst
from host.runtime.events import KEEPALIVE, AsyncEventStream, is_event, pieces, upstream_end, upstreams_of
from host.runtime.threads import aside
from host.service.accounts import Accounts, Ended, Observer
from host.service.dialects.dialect import Estimate, StoredAnswer, Tokens
from host.service.failover import Place, Told, Tried, Way, begun, cause_to_move, first_place, next_place, part_of
from host.service.limits import Budget, Limit, Limiter, Reservation, limits_of_budget, limits_of_key
from host.service.principal import Admission, Admitted, Principal
from host.service.request import OperationRequest, Resolved, TokenCount, resolve
from host.service.stored_objects import StoredObjects
from host.service.under_way import UnderWay
from host.store.access.usage import Usage, Used

if TYPE_CHECKING:
    from host.service.catalog import Catalog, View


T = TypeVar("T")
_log = logging.getLogger(__name__)
_SLOW_S: Final = 0.05  # a check that takes longer leaves the event loop
_MAY_HAVE_COST: Final = tuple(one.code for one in (Cancelled, DeadlineExceeded, UpstreamTimeout, CallerTimeout))
_LEAST_S: Final = 0.001  # of a run
_NOTHING: Final = Reservation()
_EVERY_S, _LAST_S = 1.0, 2.0  # between two writes of the usage, and for the last


class Running:
    """A run that began. To be used in an `async with`: at its end the run has ended and is settled."""

    def __init__(self, dispatch: Dispatch, resolved: Resolved, catalyst: Catalyst, held: Reservation) -> None:
        self._dispatch = dispatch
        self._began = time.monotonic()
        self._outcome = Cancelled.code  # unless the run ends before its caller leaves
        self._unsent = False  # whether no upstream had the request
        self._cancelled = False
        self._why: HostError | None = None
        self.held = held
        self.events = 0
        self.tried: list[Tried] = []  # before the target that is asked now
        self._told: Told | None = None
        self._handed = False  # whether the caller has a part of the answer
        self._begins = ""  # the first event
        self._asks_count = resolved.stream and bool(held.held or resolved.request.counts_tokens)
        self._stream = self._begun(resolved, catalyst)
        self.id = self._stream.id

    def _begun(self, resolved: Resolved, catalyst: Catalyst) -> AsyncEventStream:
        self.resolved, self.catalyst, spec = resolved, catalyst, resolved.spec
        self._reads = spec is not None and (spec.method == "GET" or spec.route.endswith("/cancel"))
        self._counted = TokenCount(resolved.dialect)
        params, self._hides_count = resolved.params, False
        if self._asks_count:
            name = resolved.spec.name if resolved.spec else resolved.operation  # the caller may have given an alias
            asked, self._hides_count = resolved.dialect.asking_for_tokens(name, params)
            params = as_written(asked, params)
        given, caller = resolved.sent(params, catalyst.passes, catalyst.grant.forwards), resolved.caller()
        if caller and "headers" in given and resolved.operation:
            caller["headers"] = sorted(given["headers"])
        known: dict[str, Any] = {"asks": False, "checked": True, "upstreams": resolved.upstreams}
        share, timeout_s = resolved.share(self._dispatch.budgets), resolved.request.timeout_s
        if self.tried:
            caller |= {"attempt": len(self.tried) + 1, "first": self.tried[0].run}
            timeout_s = timeout_s and max(_LEAST_S, timeout_s - (time.monotonic() - self._began))
        known |= {"attachments": resolved.attachments, "timeout": timeout_s, "counting": self._counted, "share": share}
        self.meters = (stream := catalyst.astream(given, caller=caller, takes_pieces=resolved.flows, **known)).meters
        self.upstreams = upstreams_of(stream)
        return stream

    def cancel(self, why: HostError | None = None) -> None:
        """End the run. Its caller gets `why`, or Cancelled."""
        self._cancelled, self._why = True, self._why or why
        self._stream.cancel()

    @property
    def tokens(self) -> Tokens | None:
        """The tokens, as far as the answer has said."""
        return self._counted.tokens

    @property
    def said(self) -> Json:
        """The answer, or its first event. Raises InputError, StateError."""
        return parse_json(self._begins, "the event") if self._begins else self._stream.result.known

    @property
    def upstream_end(self) -> StreamEnd | None:
        """How the upstream's stream ended that the host relayed; None where it relayed none to its end."""
        return upstream_end(self._stream)

    async def texts(self) -> list[str]:
        """The next events, each as JSON text: at least one, or none once the run has ended. Raises HostError, of which
        OperationFailed is for an error status."""
        while True:
            found = await self.pieces()
            texts = [one for one in found if is_event(one)]
            if texts or not found:
                return texts

    async def pieces(self, patience_s: float | None = None) -> list[str | Piece]:
        """As `texts`, with all else that flows: heads, comments, and the bytes of an answer. Where nothing comes for
        `patience_s` seconds it is KEEPALIVE alone."""
        while True:
            found = await self._pieces(patience_s)
            if not found or found[0] is KEEPALIVE or (found := self._noted(found)):
                return found

    def _noted(self, found: list[str | Piece]) -> list[str | Piece]:
        """`found`, without events that only the host asked for, once it is counted."""
        shown = []
        for one in found:
            if isinstance(one, bytes) or is_event(one):
                if not self.events:
                    self._dispatch.first_event(self, time.monotonic() - self._began)
                    self._begins = one if isinstance(one, str) else ""
                self.events += 1
            if not (self._hides_count and is_event(one) and self.resolved.dialect.only_counts(one)):
                shown.append(one)
        return shown

    async def result(self) -> Result:
        """The run's result, whatever its status. Events that were not taken are dropped. Raises HostError."""
        with suppress(OperationFailed):  # the result has the status, too
            while await self.pieces():
                pass
        return self._stream.result

    async def _pieces(self, patience_s: float | None) -> list[str | Piece]:
        try:
            reading = begun if self.resolved.others and not self._handed else pieces
            found = await reading(self._stream, patience_s)
            self._handed = self._handed or not found or found[0] is not KEEPALIVE
        except OperationFailed as failed:
            may_go_on = self._hides_count and not self.events and not self._cancelled
            if may_go_on and self.resolved.dialect.refuses_count(failed.result.status, failed.result.error):
                self._asks_count = False  # what the caller did not ask for must not fail the request
                self._stream = self._begun(self.resolved, self.catalyst)
                self._dispatch.goes_on(self, self._stream.id)
                return await self._pieces(patience_s)
            self._outcome = str(failed.result.status)
            if await self._moved(failed):
                return await self._pieces(patience_s)
            raise self._error(failed) from None
        except HostError as error:
            self._outcome = error.code
            self._unsent = isinstance(error, UpstreamTimeout) and error.limit == "connect_timeout"
            if self._why is not None and isinstance(error, Cancelled):
                raise self._why from None
            if await self._moved(error):
                return await self._pieces(patience_s)
            raise self._error(error) from None
        if not found:
            self._outcome = str(self._stream.result.status)
        return found

    async def _moved(self, error: HostError) -> bool:
        """Whether the request goes on at its next target, after `error` at this one."""
        cause, once_only, moves = cause_to_move(self._stream, self.resolved, error)
        if cause is None or self._handed or self._cancelled or not (moves or self.tried):
            return False
        self.tried.append(Tried(self.catalyst.reference, self.id, self._outcome, cause, once_only))
        if self._told is None or once_only:
            self._told = Told(error, self._stream, self.resolved, self.catalyst, self._outcome, self._unsent)
        if moves and (place := await self._dispatch.moved(self)) is not None:
            if self._cancelled:  # meanwhile
                raise self._why or Cancelled("the run was cancelled")
            self._stream = self._begun(place.resolved, place.catalyst)
            self._dispatch.goes_on(self, self._stream.id)
            await self._dispatch.record(self.tried[-1].moved_to(self.catalyst.reference, self.id))
            return True
        _, self._stream, self.resolved, self.catalyst, self._outcome, self._unsent = self._told
        self._dispatch.goes_on(self, self._stream.id)
        return False

    def _error(self, error: HostError) -> HostError:
        """What the caller is told of `error`."""
        return self._told.error if self._told is not None and self._told.stream is self._stream else error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._stream.aclose()
        finally:
            await self._dispatch.settle(self, self._ended())

    def _ended(self) -> Ended:
        took_s, tokens, outcome = time.monotonic() - self._began, self.tokens, self._outcome
        if tokens is not None and (tokens.input or tokens.output):
            again = self.held.held or self._reads  # else nobody asks whether it was counted before
            answer = self._answer() if again else None
            counted = answer is None or answer.done
            return Ended(outcome, tokens if counted else Tokens(), took_s, counted, answer)
        if not self._stream.asked:
            return Ended(outcome, Tokens(), took_s)  # nobody was asked for anything
        answer = self._answer()
        if outcome.startswith("2"):
            if answer is not None and (answer.later or answer.again):  # it is not there yet, or was cancelled
                return Ended(outcome, Tokens(), took_s, counted=False, answer=answer)
            return Ended(outcome, self._uncounted(), took_s, answer=answer)
        if (outcome.isdigit() or self._unsent) and not self.events:
            return Ended(outcome, Tokens(), took_s)  # the upstream refused, or never had the request
        tokens = Tokens()
        if self.events or outcome in _MAY_HAVE_COST:
            tokens = Tokens.estimated(len(str(self.resolved.params)), self.events)
        return Ended(outcome, tokens, took_s, counted=False, answer=answer)

    def _uncounted(self) -> Tokens:
        """For an answer that does not say what it cost."""
        result = self._stream.result
        length = len(write_json(result.data) if result.document is None else result.document)
        tokens = self.resolved.estimate().uncounted(length)
        return Tokens(tokens.input, max(tokens.output, self.events)) if tokens.input else tokens

    def _answer(self) -> StoredAnswer | None:
        """What was read, as far as the answer says. A stream that is left early says it in its first event."""
        dialect, spec, params = self.resolved.dialect, self.resolved.spec, self.resolved.params
        with suppress(InputError, StateError):  # there is no result
            event = self._counted.said or (self._begins if self.resolved.comes_later else "")
            said = parse_json(event, "the event") if event else self._stream.result.known
            return dialect.answer_of(spec, params, said)
        return None


class Dispatch(UnderWay["Running"]):
    """One per process, for its event loop. `budgets` are by references without a version."""

    def __init__(
        self,
        catalog: Catalog,
        limiter: Limiter,
        usage: UsageRecorder,
        observers: Sequence[Observer[Running]],
        budgets: Mapping[Reference, Budget],
        admission: Admission,
        objects: StoredObjects,
    ) -> None:
        self._catalog, self._usage = catalog, usage
        self._accounts = Accounts(limiter, self._note_refused)
        self.reserve_more = self._accounts.reserve_more
        self._observers, self._objects = observers, objects
        self.budgets, self._admission = budgets, admission
        self._way = Way(catalog.current, self.prepared, self._reserve, self._accounts.release, self._not_theirs)
        super().__init__()
        self._slow: set[str] = set()  # digests of catalysts whose schemas take long

    @asynccontextmanager
    async def admitted(self, principal: Principal, *, spends: bool = False) -> AsyncIterator[Admitted]:
        """One request of the caller is under way: it counts against the key's limits now. To be entered once for each,
        before its body is read. One that `spends` tokens needs some left. Raises LimitExceeded, Busy, StateError."""
        try:
            admitted = self._admission.enter(principal)
        except Overloaded as exceeded:
            self._note_refused(exceeded.unit)
            raise
        try:
            if principal.key is not None:
                limits = limits_of_key(principal.key)
                await self._accounts.admit([limit for limit in limits if spends or limit.unit == "requests"])
            yield admitted
        finally:
            self._admission.leave(admitted)

    def resolve(self, request: OperationRequest, view: View) -> Resolved:
        """See `host.service.request.resolve`: apart from `start`, so that a face can log what fails to start."""
        return resolve(request, view)

    async def start(self, resolved: Resolved, view: View, kind: type[Running] = Running) -> Running:
        """Load, check, count and begin: to be entered at once. Raises InputError, LimitExceeded, Forbidden, StateError
        and what loading raises."""
        if self._objects.active:
            resolved = await self._objects.pinned(resolved, view)
        if resolved.others:
            place = await first_place(resolved, view, self._way)
        else:
            place = Place(resolved, await self.prepared(resolved, view), await self._reserve(resolved, True, True))
        try:
            resolved, several = place.resolved, place.catalyst.grant.several_upstreams
            resolved = await self._objects.at_upstreams(resolved, place.catalyst) if several else resolved
            running = kind(self, resolved, place.catalyst, place.held)
        except BaseException:
            await self._accounts.release(place.held)  # nothing ran
            raise
        self._running[running.id] = running
        self._idle.clear()
        for observer in self._observers:
            observer.started()
        return running

    async def prepared(self, resolved: Resolved, view: View) -> Catalyst:
        """The request's catalyst, once the input and the caller are checked. It may have to be compiled, which goes on
        where the request has no time for it. Raises what `start` does."""
        principal, reference = resolved.request.principal, resolved.component.reference
        catalyst = await self._catalog.catalyst(view, resolved.reference, resolved.request.timeout_s)
        if catalyst.reference != str(reference):  # a newer one was installed since
            principal.require_catalyst(Reference.parse(catalyst.reference))
        await self._check(resolved, catalyst)
        if principal.proof is not None:  # reading the request may have taken minutes
            principal.require_still((await self._catalog.current()).keys, time.time())
        return catalyst

    async def run(self, request: OperationRequest, view: View) -> Result:
        """The result, whatever its status. Cancelled with its task. Raises HostError."""
        async with await self.start(self.resolve(request, view), view) as running:
            return await running.result()

    async def refused(
        self,
        error: Forbidden,
        principal: Principal | None,
        *,
        request_id: str = "",
        route: str = "",
        admitted: bool = True,
    ) -> HostError:
        """Record a refusal, and return the error for the caller. If the request was not `admitted` it counts as one of
        the key's: a key without any left gets LimitExceeded, and nothing is recorded. Raises StateError."""
        if principal is not None and not admitted:
            try:
                await self._accounts.admit(
                    [limit for limit in limits_of_key(principal.key) if limit.unit == "requests"]
                )
            except LimitExceeded as exceeded:
                return exceeded
        detail = {"key": principal.id if principal else "", "request": request_id, "route": route}
        await self.record(Event("request.refused", "", "deny", error.message, detail))
        return error

    async def _not_theirs(self, resolved: Resolved, error: Forbidden) -> None:
        """Record that the caller may not use a target that their request could go on at. Raises StateError."""
        await self.refused(error, resolved.request.principal, request_id=resolved.request.request_id)

    async def record(self, event: Event) -> None:
        """Raises AuditError, StateError."""
        await self._catalog.record(event)

    async def moved(self, running: Running) -> Place | None:
        """Called by a Running whose last target failed: the next one, or None; it holds what it needs there then. What
        the failed one's budget holds is given back, unless the work may have been done."""
        if (place := await next_place(running.resolved, self._way)) is None:
            return None
        own, rest = part_of(running.held, running.resolved.component.reference.any_version)
        running.held = Reservation((*rest.held, *place.held.held))  # before anything waits, and may be cancelled
        for observer in self._observers:
            observer.moved(running)
        if not running.tried[-1].once_only:
            await self._accounts.release(own)
        return place

    def first_event(self, running: Running, after_s: float) -> None:
        """Called by a Running at its first event."""
        for observer in self._observers:
            observer.first_event(running, after_s)

    async def settle(self, running: Running, how: Ended) -> None:
        """Called by a Running at its end: usage and limits are counted before the caller gets the answer."""
        self._running.pop(running.id, None)
        if not self._running:
            self._idle.set()
        for observer in self._observers:
            observer.ended(running, how)
        tokens = how.tokens
        try:
            if running.held.held or how.answer is not None:
                tokens = await self._accounts.settle(
                    running.held,
                    tokens,
                    counted=how.counted,
                    answer=how.answer,
                    key=running.resolved.request.principal.id,
                    catalyst=Reference.parse(running.catalyst.reference).any_version,
                )
        finally:
            self._usage.used(
                day=datetime.now(UTC).date().isoformat(),
                key=running.resolved.request.principal.id,
                catalyst=running.catalyst.reference,
                failed=not how.outcome.startswith("2"),
                tokens=tokens,
            )

    async def _check(self, resolved: Resolved, catalyst: Catalyst) -> None:
        """The schema is a stranger's. Where a check took long once, the next ones are done off the event loop."""
        digest = str(catalyst.digest)
        if resolved.request.large or digest in self._slow:
            await self._off_loop(resolved, lambda: catalyst.check(resolved.input()))
            return
        began = time.thread_time()
        try:
            catalyst.check(resolved.input())
        finally:
            if time.thread_time() - began > _SLOW_S:
                self._slow.add(digest)

    async def _off_loop(self, resolved: Resolved, work: Callable[[], T]) -> T:
        admitted = resolved.request.admitted
        return await (aside(work) if admitted is None else admitted.off_loop(work))

    async def _reserve(self, resolved: Resolved, of_key: bool, of_budget: bool) -> Reservation:
        """Hold what the request may cost, of its key and of its catalyst's budget."""
        key, limits = resolved.request.principal.key, list[Limit]()
        if of_key and key is not None:
            limits += [one for one in limits_of_key(key) if one.unit == "tokens"]
        if of_budget and self.budgets:
            limits += limits_of_budget(self.budgets, resolved.component.reference.any_version)
        return await self._accounts.reserve(limits, partial(self._estimate, resolved)) if limits else _NOTHING

    async def _estimate(self, resolved: Resolved) -> Estimate:
        return await self._off_loop(resolved, resolved.estimate) if resolved.request.large else resolved.estimate()

    def _note_refused(self, unit: str) -> None:
        for observer in self._observers:
            observer.refused(unit)


class UsageRecorder:
    """Usage by day, key and catalyst, for people to look at: gathered in memory, and written every second. One per
    process, thread-safe. A process that is killed loses up to a second of it. Limits are counted elsewhere, at once."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._lock = threading.Lock()
        self._gathered: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        self._closing = threading.Event()
        self._thread = start(self._write_on, name="host-usage")

    def used(self, *, day: str, key: str, catalyst: str, failed: bool, tokens: Tokens) -> None:
        with self._lock:
            counts = self._gathered[day, key, catalyst]
            for at, more in enumerate((1, int(failed), tokens.input, tokens.output)):
                counts[at] += more

    def close(self) -> None:
        """Write what is gathered; a database that does not answer is not waited for."""
        self._closing.set()
        self._thread.join(_LAST_S)

    def _write_on(self) -> None:
        while not self._closing.wait(_EVERY_S):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            gathered, self._gathered = self._gathered, defaultdict(lambda: [0, 0, 0, 0])
        if not gathered:
            return
        try:
            self._usage.add([Used(*names, *counts) for names, counts in gathered.items()])
        except Exception as error:  # noqa: BLE001 - the thread goes on, or nothing would be written from then on
            _log.warning("the usage cannot be written, and is kept until it can be: %s", error)
            with self._lock:
                for names, counts in gathered.items():
                    self._gathered[names] = [*map(add, self._gathered[names], counts)]
