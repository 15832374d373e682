"""What becomes of a request that fails, or that comes too often: repeated, refused or held back, as the policy says.

enter    the circuit of its origin is closed, and there is room for it         host.egress.breaker, .throttle
send     … and again, while a repeat may fare better and does no work twice    host.egress.retry

Each wait, repeat and change of a circuit is recorded before it has an effect. A repeat is a request like any other: it
counts towards `max_http_requests` and `rate_limit`, and passes the circuit. Where that has no room for it, it is not
sent, and the run gets what came of the last one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from host.capabilities.message import GuestError, subject
from host.capabilities.upstream import RawAnswer, Upstream, UpstreamRequest
from host.core.leases import Leases, LocalLeases
from host.core.quantities import as_duration
from host.core.repeating import cause_of_status, may_move, was_not_processed
from host.core.sliding_window import LocalLimiter, RequestLimiter, TokenLimiter
from host.egress import EgressError, retry
from host.egress.breaker import Breakers, Pass, Refused
from host.egress.throttle import Throttles
from host.errors import AuditError, CircuitOpen, Refusal, StateError
from host.policy.permissions import Grant
from host.policy.reliability import Retries
from host.policy.urls import Target
from host.run import Run

_log = logging.getLogger(__name__)

_ERRORS: Final = 400
_FAULTS: Final = 500  # and above: statuses of errors of the upstream itself


@dataclass(frozen=True, slots=True)
class _Again:
    """A repeat is to be made after `wait_s` seconds, because of `after`."""

    after: str
    wait_s: float


class Attempts:
    """Of one catalyst. `count` counts one more request of a run, and returns whether there was room for it. Without
    `guarded`, requests need not `enter`, and nothing has to be told how they fared. `repeats`: it counts in `begun`."""

    def __init__(
        self, grant: Grant, upstream: Upstream, limiter: RequestLimiter | None, count: Callable[[Run], bool]
    ) -> None:
        self._grant, self._upstream, self._count = grant, upstream, count
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
        self.guarded = self._breakers is not None or self._throttles is not None

    def enter(self, run: Run, method: str, target: Target, destination: Target, size: int) -> Pass | None:
        """Before a request is counted and recorded: waits for room, and lets it through. Raises GuestError
        (circuit_open, rate_limited), RunStopped where the run ends meanwhile."""
        passed = None
        if self._breakers is not None:
            entered = self._breakers.enter(destination.at, key_of(run))
            if isinstance(entered, Refused):
                raise self._refused(run, method, target, entered)
            passed = entered
        try:
            if passed is not None and passed.probing:
                run.audit("breaker.probed", detail={"origin": destination.origin})
            if self._throttles is not None:
                self._wait_for_room(run, method, target, destination, size)
        except BaseException:
            self.leave(passed)
            raise
        return passed

    def leave(self, passed: Pass | None) -> None:
        """The request that was let through is not sent."""
        if passed is not None and self._breakers is not None:
            self._breakers.leave(passed)

    def send(
        self, run: Run, request: UpstreamRequest, passed: Pass | None, first: RawAnswer | EgressError | None = None
    ) -> RawAnswer:
        """Send `request`, and again as the policy says. `first` is what came of it, if it was sent already. Returns the
        last answer. Raises EgressError, GuestError."""
        number, outcome = 1, self._once(run, request, passed) if first is None else first
        while True:
            try:
                passed, again = self._next(run, request, passed, outcome, number)
            except BaseException:
                _close(outcome)
                raise
            if not again:
                break
            _close(outcome)
            number, outcome = number + 1, self._once(run, request, passed)
        if isinstance(outcome, EgressError):
            raise outcome
        return outcome

    def _next(
        self, run: Run, request: UpstreamRequest, passed: Pass | None, outcome: RawAnswer | EgressError, number: int
    ) -> tuple[Pass | None, bool]:
        """Note the `outcome` of attempt `number`, and wait for another one, if there is to be one. Raises RunStopped
        where the run ends meanwhile."""
        try:
            self._note(run, request, passed, outcome)
        except AuditError:
            raise
        except StateError as error:  # an answer that came is not thrown away because it cannot be counted
            _log.warning("an outcome at %s is not counted for the others: %s", request.destination.origin, error)
        if (again := self._again(run, request, outcome, number)) is None:
            return None, False
        try:
            return self._passed_again(run, request, again, number + 1), True
        except GuestError as no_room:
            self._given_up(run, request, again.after, number, no_room.message)
            run.circuit = None
            return None, False

    def watching(
        self, run: Run, passed: Pass, failed: Callable[[EgressError], GuestError]
    ) -> Callable[[EgressError], GuestError]:
        """`failed`, which makes what a guest gets of an error: for those in which an answer ends that had begun."""

        def broke(error: EgressError) -> GuestError:
            if _counts(run, self._grant, error):
                self._failed(run, replace(passed, probing=()))
            return failed(error)

        return broke

    def _once(self, run: Run, request: UpstreamRequest, passed: Pass | None) -> RawAnswer | EgressError:
        try:
            return self._upstream.send(run, request)
        except EgressError as error:
            return error
        except BaseException:  # refused before it was sent, or the run has ended
            self.leave(passed)
            raise

    def _again(
        self, run: Run, request: UpstreamRequest, outcome: RawAnswer | EgressError, number: int
    ) -> _Again | None:
        """Whether `request`, sent so often, is to be repeated because of its `outcome`. Its budget is taken then."""
        retries, asked = self._retries, None
        if retries is None:
            return None
        if isinstance(outcome, EgressError):
            if not retry.failure_may_pass(request.method, request.headers, outcome):
                return None
            after = outcome.message
        else:
            if outcome.status < _ERRORS:
                return None
            if not retry.answer_may_change(request.method, request.headers, outcome.status, outcome.headers):
                return None
            after, asked = f"status {outcome.status}", retry.asked_wait_s(outcome.headers)
        if number > retries.max:
            if not isinstance(outcome, EgressError):
                _stop_asking(outcome)
            self._given_up(run, request, after, number, f"retries.max is {retries.max}")
            return None
        return self._affordable(run, request, retries, _Again(after, retry.wait_s(retries, number, asked)), number)

    def _affordable(
        self, run: Run, request: UpstreamRequest, retries: Retries, again: _Again, number: int
    ) -> _Again | None:
        why = ""
        if run.remaining() <= 0:
            return None
        if again.wait_s > retries.longest_wait_s:
            why = f"it asks to wait {again.wait_s:.0f} s, over retries.longest_wait"
        elif again.wait_s >= run.remaining():
            why = f"the run ends before a wait of {again.wait_s:.1f} s is over"
        elif not self._budget.take(key_of(run)):
            why = f"retries.budget is used up ({retries.budget} of the requests in a minute)"
        if why:
            self._given_up(run, request, again.after, number, why)
            return None
        return again

    def _passed_again(self, run: Run, request: UpstreamRequest, again: _Again, number: int) -> Pass | None:
        """Wait, and let attempt `number` through. Raises GuestError where there is no room for it, RunStopped."""
        self._wait(run, request.method, request.target, again.wait_s, f"repeated after {again.after}")
        passed = self.enter(run, request.method, request.target, request.destination, len(request.body))
        if not self._count(run):
            self.leave(passed)
            raise GuestError("rate_limited", "max_http_requests or rate_limit has no room for it")
        detail: dict[str, Any] = {"method": request.method, "url": request.target.shown, "attempt": number}
        if request.destination is not request.target:
            detail["sent_to"] = request.destination.origin
        try:
            run.audit("http.request", "allow", f"repeated after {again.after}", detail)
        except BaseException:
            self.leave(passed)
            raise
        run.meters.retries += 1
        return passed

    def _given_up(self, run: Run, request: UpstreamRequest, after: str, attempts: int, why: str) -> None:
        detail = {"method": request.method, "url": request.target.shown, "after": after, "attempts": attempts}
        run.audit("http.given_up", rule=why, detail=detail)

    def _note(self, run: Run, request: UpstreamRequest, passed: Pass | None, outcome: RawAnswer | EgressError) -> None:
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
        run.circuit = CircuitOpen(words, retry_after_s=wait)
        run.audit("http.request", "deny", "breaker: open", {"type": "circuit_open", "subject": subject(method, target)})
        return GuestError("circuit_open", words, retry_after_s=wait)

    def _wait_for_room(self, run: Run, method: str, target: Target, destination: Target, size: int) -> None:
        """Raises GuestError (rate_limited), RunStopped."""
        assert self._throttles is not None
        assert self._grant.throttle is not None
        while (full := self._throttles.take(destination.at, size)) is not None:
            if self._grant.throttle.full == "refuse" or full.wait_s >= run.remaining() > 0:
                rule = f"throttle: {full.limit} has no room for {full.wait_s:.1f} s"
                remedy = f"or raise throttle in the policy of {self._grant.reference}"
                raise GuestError.refused(
                    Refusal("rate_limited", subject(method, target), rule, remedy), retry_after_s=full.wait_s
                )
            self._wait(run, method, target, full.wait_s, f"throttle: {full.limit}")

    def _wait(self, run: Run, method: str, target: Target, seconds: float, why: str) -> None:
        """Raises RunStopped where the run ends meanwhile."""
        detail = {"method": method, "url": target.shown, "wait_s": round(seconds, 3)}
        run.audit("http.waited", rule=why, detail=detail)
        run.meters.waited_s += seconds
        run.meters.upstream_time_s += seconds
        run.wait(seconds)


def _close(outcome: RawAnswer | EgressError) -> None:
    if not isinstance(outcome, EgressError):
        outcome.close()


def key_of(run: Run) -> str:
    """The API key that a run is for; "" for none."""
    return str(run.caller.get("key") or "") if run.caller else ""


def note_status(run: Run, request: UpstreamRequest, raw: RawAnswer) -> None:
    """Keep what an error's status says: who failed, and whether the request may be sent to another."""
    run.unserved = cause_of_status(raw.status)
    if not (was_not_processed(raw.status, raw.headers) or may_move(request.method)):
        run.once_only = True


def _counts(run: Run, grant: Grant, error: EgressError) -> bool:
    """Whether an error is a failure of the origin. A time that a caller chose says nothing about it: with a short one,
    a caller would open the circuit for others."""
    if not error.of_upstream:
        return False
    chosen = (run.limits.timeout_s, run.limits.stream_timeout_s)
    of_policy = (grant.limits.timeout_s, grant.limits.stream_timeout_s)
    return error.kind != "timeout" or bool(error.limit) or chosen == of_policy


def _stop_asking(answer: RawAnswer) -> None:
    """Say that another attempt is of no use: it has been repeated here, and a client's own repeats would multiply."""
    others = [(name, value) for name, value in answer.headers if name != "x-should-retry"]
    answer.headers = (*others, ("x-should-retry", "false"))
