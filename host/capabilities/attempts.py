"""What becomes of a request that fails, or that comes too often: sent elsewhere, repeated, refused or held back, as the
policy says.

enter    chooses the upstream: its circuit is closed, and it has room           host.egress.breaker, .throttle
send     … and to the next one, where this one does not serve it
         … and again, while a repeat may fare better and does no work twice    host.egress.retry

Each wait, move, repeat and change of a circuit is recorded before it has an effect. A request that is sent once more is
a request like any other: it counts towards `max_http_requests` and `rate_limit`, and passes circuits and throttle.
Where these have no room for it, it is not sent, and the run gets what came before.

Where an origin has several upstreams, each is asked once, without a wait; then the last one is asked again, as
`retries` says. It goes to no other from where its work may have been done (`host.core.repeating`): an idempotency key
is known to the upstream alone that had it. Where all fail, the run gets what the first one said, or what the last one
said that may have done the work. A run that was served something that may make an object goes on where it was made.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from host.capabilities.message import GuestError, subject
from host.capabilities.upstream import KeptAnswer, NotAsked, RawAnswer, RawSocket, UpstreamRequest
from host.core.leases import Leases, LocalLeases
from host.core.preference import in_order
from host.core.quantities import as_duration
from host.core.repeating import IDEMPOTENT, Cause, cause_of_kind, cause_of_status, known_by, may_move, was_not_processed
from host.core.sliding_window import LocalLimiter, RequestLimiter, TokenLimiter
from host.egress import EgressError, retry
from host.egress.breaker import Breakers, Pass, Refused
from host.egress.headers import Fields
from host.egress.throttle import Full, Throttles
from host.errors import AuditError, CircuitOpen, Refusal, StateError
from host.policy.permissions import Grant
from host.policy.reliability import Retries
from host.policy.urls import Target
from host.run import Run

A = TypeVar("A", bound=RawAnswer | RawSocket)

_OPENED: Final = 101  # a WebSocket
_ERRORS: Final = 400
_FAULTS: Final = 500  # and above: statuses of errors of the upstream itself


@dataclass(frozen=True, slots=True)
class Entered:
    """A request may be sent to `destination` now; `passed` is for its circuits. `others` may be asked after it;
    `passed_over` were not asked, or not any more, each with the reason."""

    destination: Target
    passed: Pass | None = None
    others: tuple[Target, ...] = ()
    passed_over: tuple[tuple[Target, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Sent(Generic[A]):
    """What came of a request, where it was sent last."""

    request: UpstreamRequest
    passed: Pass | None
    outcome: A | RawAnswer | EgressError

    def close(self) -> None:
        if not isinstance(self.outcome, EgressError):
            self.outcome.close()


@dataclass(slots=True)
class _Sending(Generic[A]):
    """A request under way: what came of its latest attempt, and before that, of the first upstream that did not serve
    it. `once_only`: its work may have been done. `served`: the outcome is no upstream's fault."""

    run: Run
    latest: Sent[A]
    others: tuple[Target, ...]
    first: Sent[A] | None = None
    once_only: bool = False
    served: bool = False
    attempts: int = 1
    repeats: int = 0

    @property
    def request(self) -> UpstreamRequest:
        return self.latest.request

    def close(self) -> None:
        self.latest.close()
        if self.first is not None:
            self.first.close()

    def put_aside(self) -> None:
        """Let go of the connection of what came so far, before the request waits or is sent once more: runs that hold
        one each, and wait for another, would wait for each other."""
        outcome = self.latest.outcome
        if not isinstance(outcome, EgressError | KeptAnswer | RawSocket):
            self.latest = replace(self.latest, outcome=KeptAnswer(self.run, outcome))

    def result(self) -> Sent[A]:
        """What the run gets; the other one is closed."""
        if self.first is None:
            return self.latest
        told, other = (self.latest, self.first) if self.once_only or self.served else (self.first, self.latest)
        other.close()
        return told


class Attempts:
    """Of one catalyst. `count` counts one more request of a run, and returns whether there was room for it. Without
    `guarded`, each request enters at once, and nothing is told how it fared. `repeats`: it counts in `begun`."""

    def __init__(self, grant: Grant, limiter: RequestLimiter | None, count: Callable[[Run], bool]) -> None:
        self._grant, self._count = grant, count
        self._retries = grant.retries
        self.repeats = grant.retries is not None
        self._budget = retry.RetryBudget(0.0 if grant.retries is None else grant.retries.share)
        self.begun = self._budget.begun  # every first attempt, with the API key that it is for
        self._breakers: Breakers | None = None
        self._throttles: Throttles | None = None
        counting = LocalLimiter() if limiter is None else limiter
        if grant.breaker is not None:
            leases = limiter if isinstance(limiter, Leases) else LocalLeases()
            self._breakers = Breakers(grant.reference, grant.breaker, counting, leases)
        if grant.throttle is not None:
            tokens = counting if isinstance(counting, TokenLimiter) else LocalLimiter()
            self._throttles = Throttles(grant.reference, grant.throttle, tokens)
        self.guarded = bool(self._breakers or self._throttles or grant.several_upstreams)

    def enter(self, run: Run, method: str, target: Target, headers: Fields, size: int) -> Entered:
        """Before a request is counted and recorded: finds the first upstream that may be asked, and waits for room
        where none has some. `size` is that of its body in bytes. Raises GuestError (circuit_open, rate_limited),
        RunStopped where the run ends meanwhile."""
        if not self.guarded:
            return Entered(self._grant.destination(target))
        return self._entered(run, method, target, size, self._upstreams_of(run, target, headers), [])

    def _upstreams_of(self, run: Run, target: Target, headers: Fields) -> tuple[Target, ...]:
        """Where a request may go, in the order in which it is tried. With an idempotency key that is always the same
        for those of one API key: a client's own repeat comes to the upstream that knows the key."""
        places = self._grant.upstreams.get(target.at, ())
        if len(places) < 2:
            return (self._grant.destination(target),)
        if run.upstreams and (kept := [one for one in places if str(one.origin) in run.upstreams]):
            places = tuple(kept)
        known = known_by(headers)
        draw = random.Random(f"{run.key} {known}").random if known else random.random  # noqa: S311 - it shares work
        return tuple([target.rebased(one.origin) for one in in_order(places, draw)])

    def _entered(
        self,
        run: Run,
        method: str,
        target: Target,
        size: int,
        upstreams: Sequence[Target],
        before: Sequence[tuple[Target, str]],
    ) -> Entered:
        """`before` are upstreams that the request does not go to, or not any more, each with the reason."""
        while True:
            refused, full = list[Refused](), list[Full]()
            passed_over = list(before)
            for number, one in enumerate(upstreams, 1):
                found = self._let_in(run, one, size)
                if isinstance(found, Refused):
                    refused.append(found)
                    passed_over.append((one, "breaker: open"))
                elif isinstance(found, Full):
                    full.append(found)
                    passed_over.append((one, f"throttle: {found.limit}"))
                else:
                    return Entered(one, found, tuple(upstreams[number:]), tuple(passed_over))
            if not full:
                soonest = min(refused, key=lambda one: one.retry_after_s)
                raise self._refused(run, method, target, soonest)
            self._wait_for_room(run, method, target, min(full, key=lambda one: one.wait_s))

    def _let_in(self, run: Run, upstream: Target, size: int) -> Pass | Refused | Full | None:
        passed = None
        if self._breakers is not None:
            entered = self._breakers.enter(upstream.at, run.key)
            if isinstance(entered, Refused):
                return entered
            passed = entered
        try:
            full = None if self._throttles is None else self._throttles.take(upstream.at, size)
            if full is not None:
                self.leave(passed)
                return full
            if passed is not None and passed.probing:
                run.audit("breaker.probed", detail={"origin": upstream.origin})
        except BaseException:
            self.leave(passed)
            raise
        return passed

    def record_moves(self, run: Run, method: str, target: Target, entered: Entered) -> None:
        """Why the request goes to none of those that come before. Before it is recorded as one."""
        for one, why in entered.passed_over:
            detail = {"method": method, "url": target.shown, "instead_of": one.origin}
            run.audit("http.moved", rule=why, detail={**detail, "sent_to": entered.destination.origin})
            run.meters.moved += 1

    def leave(self, passed: Pass | None) -> None:
        """The request that was let through is not sent."""
        if passed is not None and self._breakers is not None:
            self._breakers.leave(passed)

    def send(
        self, run: Run, request: UpstreamRequest, entered: Entered, by: Callable[[Run, UpstreamRequest], A]
    ) -> Sent[A]:
        """Send `request`, and elsewhere or again as the policy says, each time `by` that function. Returns what the run
        gets. Raises GuestError, RunStopped."""
        outcome = self._once(run, request, entered.passed, by)
        if not self.guarded and not isinstance(outcome, EgressError) and outcome.status < _ERRORS:
            return Sent(request, None, outcome)
        sending = _Sending(run, Sent(request, entered.passed, outcome), entered.others)
        try:
            while (next_ := self._next(sending)) is not None:
                sending.attempts += 1
                request = replace(sending.request, destination=next_.destination)
                sending.latest = Sent(request, next_.passed, self._once(run, request, next_.passed, by))
        except BaseException:
            sending.close()
            raise
        return sending.result()

    def _once(
        self, run: Run, request: UpstreamRequest, passed: Pass | None, by: Callable[[Run, UpstreamRequest], A]
    ) -> A | EgressError:
        try:
            return by(run, request)
        except EgressError as error:
            return error
        except BaseException:  # refused before it was sent, or the run has ended
            self.leave(passed)
            raise

    def _next(self, sending: _Sending[A]) -> Entered | None:
        """Note the latest outcome. Returns where the request goes once more, with its circuits passed, counted and
        recorded; None where the run is to get what there is. Raises RunStopped where the run ends meanwhile."""
        run, request, outcome = sending.run, sending.request, sending.latest.outcome
        if sending.first is not None and isinstance(sending.first.outcome, NotAsked):
            sending.first = None  # it said nothing
        try:
            self._note(run, request, sending.latest.passed, outcome)
        except AuditError:
            raise
        except StateError as error:  # an answer that came is not thrown away because it cannot be counted
            import logging  # noqa: PLC0415 - for this alone

            at = request.destination.origin
            logging.getLogger(__name__).warning("an outcome at %s is not counted for the others: %s", at, error)
        if not isinstance(outcome, EgressError) and outcome.status < _ERRORS:
            self._note_served(run, request, outcome.status)
            sending.served = True
            return None
        if _may_be_done(request, outcome):
            run.once_only = sending.once_only = True
        cause, after = _why(request, outcome)
        sending.served = cause is None and (not isinstance(outcome, EgressError) or outcome.sent)
        if cause is not None and sending.others and not sending.once_only and run.remaining() > 0:
            sending.put_aside()
            if (entered := self._elsewhere(sending, after)) is not None:
                sending.first = sending.first or sending.latest
                sending.others = entered.others
                return entered
            sending.others = ()
        if (wait_s := self._again(sending, after)) is None:
            return None
        sending.put_aside()
        if (entered := self._passed_again(sending, after, wait_s)) is not None:
            sending.repeats += 1
        return entered

    def _note_served(self, run: Run, request: UpstreamRequest, status: int) -> None:
        """What was made, a session too, is at one of several upstreams: the run goes on there."""
        makes = request.method not in IDEMPOTENT or status == _OPENED
        if makes and len(self._grant.upstreams.get(request.target.at, ())) > 1:
            run.upstreams.add(request.destination.origin)

    def _elsewhere(self, sending: _Sending[A], after: str) -> Entered | None:
        """Let the request through to the next upstream that may be asked, because of `after`; None where none may."""
        run, request = sending.run, sending.request
        before = [(request.destination, after)]
        try:
            entered = self._entered(run, request.method, request.target, len(request.body), sending.others, before)
            self._send_once_more(sending, entered, f"moved after {after}")
        except GuestError as no_room:
            self._given_up(sending, after, no_room.message)
            return None
        return entered

    def _passed_again(self, sending: _Sending[A], after: str, wait_s: float) -> Entered | None:
        """Wait, and let the request through to the same upstream; None where there is no room for it."""
        run, request = sending.run, sending.request
        why = f"repeated after {after}"
        try:
            self.wait(run, request.method, request.target, wait_s, why)
            entered = self._entered(run, request.method, request.target, len(request.body), (request.destination,), ())
            self._send_once_more(sending, entered, why)
        except GuestError as no_room:
            self._given_up(sending, after, no_room.message)
            return None
        run.meters.retries += 1
        return entered

    def _send_once_more(self, sending: _Sending[A], entered: Entered, why: str) -> None:
        """Count and record it. Raises GuestError where it may not be sent."""
        run, request = sending.run, sending.request
        if not self._count(run):
            self.leave(entered.passed)
            raise GuestError("rate_limited", "max_http_requests or rate_limit has no room for it")
        try:
            self.record_moves(run, request.method, request.target, entered)
            detail: dict[str, Any] = {
                "method": request.method,
                "url": request.target.shown,
                "attempt": sending.attempts + 1,
            }
            if entered.destination is not request.target:
                detail["sent_to"] = entered.destination.origin
            run.audit("http.request", "allow", why, detail)
        except BaseException:
            self.leave(entered.passed)
            raise

    def watching(
        self, run: Run, passed: Pass, failed: Callable[[EgressError], GuestError]
    ) -> Callable[[EgressError], GuestError]:
        """`failed`, which makes what a guest gets of an error: for those in which an answer ends that had begun."""

        def broke(error: EgressError) -> GuestError:
            if _counts(run, self._grant, error):
                self._failed(run, replace(passed, probing=()))
            return failed(error)

        return broke

    def _again(self, sending: _Sending[A], after: str) -> float | None:
        """The seconds to wait before the request is repeated at its upstream, because of `after`; None where it is not.
        The budget is taken then."""
        retries, asked, outcome = self._retries, None, sending.latest.outcome
        request, number = sending.request, sending.repeats + 1
        if retries is None:
            return None
        if isinstance(outcome, EgressError):
            if not retry.failure_may_pass(request.method, request.headers, outcome):
                return None
        else:
            if not retry.answer_may_change(request.method, request.headers, outcome.status, outcome.headers):
                return None
            asked = retry.asked_wait_s(outcome.headers)
        if number > retries.max:
            for one in (sending.first, sending.latest):
                if one is not None and not isinstance(one.outcome, EgressError):
                    _stop_asking(one.outcome)
            self._given_up(sending, after, f"retries.max is {retries.max}")
            return None
        wait_s = retry.wait_s(retries, number, asked)
        return wait_s if self._affordable(sending, retries, after, wait_s) else None

    def _affordable(self, sending: _Sending[A], retries: Retries, after: str, wait_s: float) -> bool:
        run, why = sending.run, ""
        if run.remaining() <= 0:
            return False
        if wait_s > retries.longest_wait_s:
            why = f"it asks to wait {wait_s:.0f} s, over retries.longest_wait"
        elif wait_s >= run.remaining():
            why = f"the run ends before a wait of {wait_s:.1f} s is over"
        elif not self._budget.take(run.key):
            why = f"retries.budget is used up ({retries.budget} of the requests in a minute)"
        if why:
            self._given_up(sending, after, why)
        return not why

    def _given_up(self, sending: _Sending[A], after: str, why: str) -> None:
        request, run = sending.request, sending.run
        detail = {"method": request.method, "url": request.target.shown, "after": after, "attempts": sending.attempts}
        run.audit("http.given_up", rule=why, detail=detail)
        run.unsent = None

    def _note(self, run: Run, request: UpstreamRequest, passed: Pass | None, outcome: A | EgressError) -> None:
        """For the circuits and the limits that are learned."""
        if not isinstance(outcome, EgressError):
            if self._throttles is not None:
                self._throttles.learn(request.destination.at, outcome.status, outcome.headers)
            if passed is not None and self._breakers is not None:
                if outcome.status >= _FAULTS:
                    self._failed(run, passed)
                elif self._breakers.went_well(passed):
                    run.meters.closed_circuits += 1
                    run.audit("breaker.closed", detail={"origin": str(passed.origin)})
        elif passed is not None:
            if _counts(run, self._grant, outcome):
                self._failed(run, passed)
            else:
                self.leave(passed)

    def _failed(self, run: Run, passed: Pass) -> None:
        if self._breakers is not None and self._breakers.failed(passed):
            assert self._grant.breaker is not None
            run.meters.opened_circuits += 1
            pause = as_duration(self._grant.breaker.pause_s)
            run.audit("breaker.opened", detail={"origin": str(passed.origin), "pause": pause})

    def _refused(self, run: Run, method: str, target: Target, refused: Refused) -> GuestError:
        """For a request that an open circuit stops."""
        wait = max(refused.retry_after_s, 0.001)
        words = f"{target.at.endpoint} failed too often, and is not asked again for {wait:.1f} s"
        remedy = f"or change breaker in the policy of {self._grant.reference}"
        run.unsent = CircuitOpen(words, retry_after_s=wait, hint=remedy)
        detail = {"type": "circuit_open", "subject": subject(method, target), "remedy": remedy}
        run.audit("http.request", "deny", "breaker: open", detail)
        return GuestError("circuit_open", f"{words} ({remedy})", retry_after_s=wait)

    def _wait_for_room(self, run: Run, method: str, target: Target, full: Full) -> None:
        """Raises GuestError (rate_limited), RunStopped."""
        assert self._grant.throttle is not None
        if self._grant.throttle.full == "refuse" or full.wait_s >= run.remaining() > 0:
            rule = f"throttle: {full.limit} has no room for {full.wait_s:.1f} s"
            remedy = f"or raise throttle in the policy of {self._grant.reference}"
            refusal = Refusal("rate_limited", subject(method, target), rule, remedy)
            raise GuestError.refused(refusal, retry_after_s=full.wait_s)
        self.wait(run, method, target, full.wait_s, f"throttle: {full.limit}")

    def wait(self, run: Run, method: str, target: Target, seconds: float, why: str) -> None:
        """Before a request is sent. Raises RunStopped where the run ends meanwhile."""
        detail = {"method": method, "url": target.shown, "wait_s": round(seconds, 3)}
        run.audit("http.waited", rule=why, detail=detail)
        run.meters.waited_s += seconds
        run.meters.upstream_time_s += seconds
        run.wait(seconds)


def _why(request: UpstreamRequest, outcome: RawAnswer | RawSocket | EgressError) -> tuple[Cause | None, str]:
    """Why the upstream did not serve the request, None where that is not its doing; and in words that name the host
    that the guest asked for."""
    if isinstance(outcome, EgressError):
        cause = cause_of_kind(outcome.kind) if outcome.of_upstream or isinstance(outcome, NotAsked) else None
        return cause, outcome.naming(request.target.at.endpoint)
    return cause_of_status(outcome.status), f"status {outcome.status}"


def _may_be_done(request: UpstreamRequest, outcome: RawAnswer | RawSocket | EgressError) -> bool:
    """Whether the upstream that failed may have done what may not be done twice."""
    if may_move(request.method):
        return False
    if isinstance(outcome, EgressError):
        return outcome.sent
    return not was_not_processed(outcome.status, outcome.headers)


def _counts(run: Run, grant: Grant, error: EgressError) -> bool:
    """Whether an error is a failure of the origin. A time that a caller chose says nothing about it: with a short one,
    a caller would open the circuit for others."""
    if not error.of_upstream:
        return False
    chosen = (run.limits.timeout_s, run.limits.stream_timeout_s)
    of_policy = (grant.limits.timeout_s, grant.limits.stream_timeout_s)
    return error.kind != "timeout" or bool(error.limit) or chosen == of_policy


def _stop_asking(answer: RawAnswer | RawSocket) -> None:
    """Say that another attempt is of no use: it has been repeated here, and a client's own repeats would multiply."""
    others = [(name, value) for name, value in answer.headers if name != "x-should-retry"]
    answer.headers = (*others, ("x-should-retry", "false"))
