"""What becomes of a request that fails or comes too often, as its run and its record have it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from host import Breaker, CancelToken, Host, Policy, Requested, Retries, Throttle, errors
from host.capabilities.attempts import Attempts
from host.capabilities.exchange import LiveUpstream
from host.capabilities.message import GuestError
from host.capabilities.upstream import UpstreamRequest
from host.core.leases import LocalLeases
from host.core.limits import CEILING
from host.core.sliding_window import LocalLimiter
from host.egress import AddressPolicy, Egress, EgressError
from host.egress.breaker import Breakers, Pass, Refused
from host.policy.permissions import compute_grant
from host.policy.urls import Target
from host.run import Meters, Run, RunStopped
from host.secrets.redaction import Redactor
from host.secrets.value import Placeholders
from tests.capabilities.test_fault_matrix import answering
from tests.capabilities.test_upstream import Recorded
from tests.conftest import late, with_enough_time
from tests.egress.conftest import Peer
from tests.probing import (
    ORIGIN,
    TOKEN,
    answers,
    asking,
    calls,
    error_type,
    fetched,
    origin_of,
    probe,
    response,
    serving,
)

FETCH = ["fetch.request", asking()]
QUICK = Retries(backoff="1ms")
BUSY = response(b"{}", "429 Too Many Requests", "Retry-After: 0")
BROKEN = response(b"{}", "500 Internal Server Error")
FAILED = {"return": {"status": 503, "error": {"type": "x", "message": "y"}}}


def kinds(result: Any) -> list[str]:
    return [event.kind for event in result.execution.decisions if event.kind.startswith(("http", "breaker"))]


def busy(times: int) -> Callable[[Peer], None]:
    """So many answers that say: later."""
    left = [times]

    def behave(peer: Peer) -> None:
        while peer.request():
            left[0] -= 1
            peer.send(BUSY if left[0] >= 0 else response())

    return behave


def test_each_repeat_is_recorded_before_it_is_sent_with_its_number_and_reason(host: Host) -> None:
    with serving(busy(2)) as server:
        result = probe(host, origin_of(server), retries=QUICK).run(calls(FETCH))
    assert result.data[0]["status"] == 200
    assert kinds(result) == ["http.request", "http.waited", "http.request", "http.waited", "http.request"]
    first, _, second, wait, third = [event for event in result.execution.decisions if event.kind.startswith("http")]
    assert "attempt" not in first.detail
    assert (second.detail["attempt"], third.detail["attempt"]) == (2, 3)
    assert second.decision == "allow"
    assert second.rule == wait.rule == "repeated after status 429"
    assert second.detail["sent_to"] == origin_of(server)
    meters = result.execution.meters
    assert (meters.http_requests, meters.retries) == (3, 2)


def test_a_repeat_that_cannot_be_recorded_is_not_sent() -> None:
    class Full(list[Any]):
        def record(self, event: Any) -> None:
            if event.detail.get("attempt"):
                raise OSError("no space left on device")

    with Host(sink=Full()) as host, serving(busy(9)) as server:
        with pytest.raises(errors.AuditError):
            probe(host, origin_of(server), retries=QUICK).run(calls(FETCH))
        assert len(server.requests) == 1


def test_a_secret_is_in_each_repeat_and_each_use_is_recorded(host: Host) -> None:
    message = asking(headers={"X-Api-Key": "$0"})
    with serving(busy(1)) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN}, retries=QUICK)
        result = one.run(calls(["secrets.get", "TOKEN"], ["fetch.request", message]))
        assert [TOKEN.encode() in request for request in server.requests] == [True, True]
    uses = [event for event in result.execution.decisions if event.kind == "secret.use" and event.detail.get("origin")]
    assert len(uses) == 2


def test_the_last_answer_is_handed_on_and_tells_clients_not_to_try_again(host: Host) -> None:
    """A client's own retries would multiply those of the host."""
    with serving(busy(9)) as server:
        result = probe(host, origin_of(server), retries=QUICK).run(calls(FETCH))
        assert len(server.requests) == 3
    [answer] = result.data
    assert (answer["status"], answer["headers"]["x-should-retry"]) == (429, "false")
    [given_up] = [event for event in result.execution.decisions if event.kind == "http.given_up"]
    assert (given_up.rule, given_up.detail["attempts"]) == ("retries.max is 2", 3)


@pytest.mark.parametrize("policy", [{}, {"retries": 0}, {"retries": False}, {"retries": Retries(max=0)}])
def test_without_retries_which_is_the_default_an_answer_is_as_it_came(host: Host, policy: dict[str, Any]) -> None:
    with serving(busy(9)) as server:
        answer = fetched(probe(host, origin_of(server), **policy))
        assert len(server.requests) == 1
    assert "x-should-retry" not in answer["headers"]


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        pytest.param(["Retry-After: 1000000000"], "longest_wait", id="thirty years"),
        pytest.param(["Retry-After: Fri, 31 Dec 9999 23:59:59 GMT"], "longest_wait", id="the last date there is"),
        pytest.param(["retry-after-ms: 61000"], "longest_wait", id="more than a minute"),
        pytest.param(["Retry-After: 50"], "the run ends", id="more than the run has"),
    ],
)
def test_nobody_makes_a_run_wait_for_long(host: Host, headers: list[str], why: str) -> None:
    """Attack: a Retry-After that holds a sandbox. It is handed on at once."""
    with serving(answering("429 Too Many Requests", *headers)) as server:
        began = time.monotonic()
        result = probe(host, origin_of(server), retries=QUICK, timeout="40s").run(calls(FETCH))
        assert time.monotonic() - began < 35
        assert len(server.requests) == 1
    [answer] = result.data
    assert answer["status"] == 429
    assert "x-should-retry" not in answer["headers"]
    assert why in next(event.rule for event in result.execution.decisions if event.kind == "http.given_up")


@pytest.mark.parametrize("value", ["-5", "NaN", "inf", "1e999", "Fri, 99 Foo 2027 08:00:20 GMT", "x" * 5_000])
def test_a_wait_that_cannot_be_read_is_the_hosts_own(host: Host, value: str) -> None:
    with serving(answering("429 Too Many Requests", f"Retry-After: {value}")) as server:
        fetched(probe(host, origin_of(server), retries=QUICK))
        assert len(server.requests) == 3


def test_a_cancellation_ends_the_wait_for_a_repeat(host: Host) -> None:
    token = CancelToken()
    with serving(answering("429 Too Many Requests", "Retry-After: 50")) as server:
        one = probe(host, origin_of(server), retries=QUICK)
        began = time.monotonic()

        def cancel() -> None:
            server.asked.wait(30)
            token.cancel()

        threading.Thread(target=cancel, daemon=True).start()
        with pytest.raises(errors.Cancelled):
            one.run(calls(FETCH), cancel=token)
        assert time.monotonic() - began < min(40, late(2))


def test_a_guest_cannot_make_the_host_repeat_without_end(host: Host) -> None:
    """Attack: a loop of requests that fail. The budget of a minute ends the repeats, and max_http_requests the loop."""
    with serving(BUSY) as server:
        one = probe(host, origin_of(server), retries=Retries(max=10, backoff="1ms"), max_http_requests=40)
        one.run(calls(FETCH, repeat=60))
        assert len(server.requests) <= 40
        asked = len(server.requests)
        one.run(calls(FETCH, repeat=20))
        assert len(server.requests) - asked <= 20 + 0.2 * 60 + 1, "the budget is the catalyst's, not the run's"


def test_repeats_count_towards_the_requests_of_a_run(host: Host) -> None:
    with serving(BUSY) as server:
        result = probe(host, origin_of(server), retries=QUICK, max_http_requests=2).run(calls(FETCH))
        assert len(server.requests) == 2
    assert result.data[0]["status"] == 429
    assert result.execution.refusals == ()


def test_repeats_count_towards_the_rate(host: Host) -> None:
    from host import RateLimit

    rate = RateLimit(requests=2, window="1h")
    with serving(BUSY) as server:
        result = probe(host, origin_of(server), retries=QUICK, rate_limit=rate).run(calls(FETCH))
        assert len(server.requests) == 2
    assert result.data[0]["status"] == 429


# The breaker.

BREAKER = Breaker(failures=2, pause="5m")


def test_an_origin_that_fails_is_left_alone_and_the_run_says_until_when(host: Host) -> None:
    with serving(BROKEN) as server:
        one = probe(host, origin_of(server), retries=0, breaker=BREAKER)
        first = one.run(calls(FETCH, FETCH))
        with pytest.raises(errors.CircuitOpen) as caught:
            one.run(calls(FETCH, **FAILED))
        assert len(server.requests) == 2
    assert kinds(first)[-1] == "breaker.opened"
    assert 0 < caught.value.retry_after_s <= 300
    assert (caught.value.code, caught.value.blame, caught.value.exit_status) == ("circuit_open", "upstream", 1)
    denied = caught.value.execution.decisions[-2]
    assert (denied.kind, denied.decision, denied.detail["type"]) == ("http.request", "deny", "circuit_open")


def test_a_guest_gets_the_error_and_the_time_and_goes_on(host: Host) -> None:
    with serving(BROKEN) as server:
        *_, last = answers(probe(host, origin_of(server), retries=0, breaker=BREAKER), FETCH, FETCH, FETCH)
    assert last["error"]["type"] == "circuit_open"
    assert 0 < last["error"]["retry_after_s"] <= 300
    assert "api.test:443" in last["error"]["message"]


def test_repeats_end_when_the_circuit_opens(host: Host) -> None:
    with serving(BROKEN) as server:
        result = probe(host, origin_of(server), retries=Retries(max=9, backoff="1ms"), breaker=BREAKER).run(
            calls(FETCH)
        )
        assert len(server.requests) == 2
    assert result.data[0]["status"] == 500


def test_a_probe_closes_the_circuit(host: Host) -> None:
    def behave(peer: Peer) -> None:
        while peer.request():
            peer.send(BROKEN if len(server.requests) <= 2 else response())

    with serving(behave) as server:
        one = probe(host, origin_of(server), retries=0, breaker=Breaker(failures=2, pause="50ms"))
        one.run(calls(FETCH, FETCH))
        threading.Event().wait(0.06)
        result = one.run(calls(FETCH, FETCH))
    assert kinds(result) == ["breaker.probed", "http.request", "breaker.closed", "http.request"]
    assert result.execution.meters.closed_circuits == 1


def test_errors_of_the_request_are_no_failures_of_the_origin(host: Host) -> None:
    for status in ("404 Not Found", "400 Bad Request", "429 Too Many Requests"):
        with serving(response(b"{}", status)) as server:
            fetched(probe(host, origin_of(server), retries=0, breaker=BREAKER), None)
            answers(probe(host, origin_of(server), retries=0, breaker=BREAKER), *[FETCH] * 6)
            assert len(server.requests) == 7


def test_a_caller_with_little_time_does_not_open_the_circuit_for_others(host: Host) -> None:
    """Attack: requests with a timeout that no upstream can keep."""

    def behave(peer: Peer) -> None:
        peer.request()
        peer.hang()

    def attempt(seconds: float) -> None:
        with serving(behave) as server:
            one = probe(host, origin_of(server), retries=0, breaker=Breaker(failures=1))
            for _ in range(2):
                with pytest.raises(errors.UpstreamTimeout):
                    one.run(calls(FETCH, **FAILED), timeout=seconds)
            assert server.connections == 2

    with_enough_time(attempt, 0.3)


def test_an_answer_that_breaks_off_is_a_failure(host: Host) -> None:
    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")

    with serving(behave) as server:
        *_, last = answers(probe(host, origin_of(server), retries=0, breaker=BREAKER), *[FETCH] * 8)
        assert len(server.requests) < 8
    assert error_type({"error": {name: last["error"][name] for name in ("type", "message")}}) == "circuit_open"


# The throttle.


def test_a_request_without_room_waits_for_it_and_the_record_says_so(host: Host) -> None:
    def attempt(seconds: float) -> None:
        with serving(response()) as server:
            one = probe(host, origin_of(server), throttle=Throttle(requests=f"1/{seconds:g}s"))
            result = one.run(calls(FETCH, FETCH))
        assert [answer["status"] for answer in result.data] == [200, 200]
        assert kinds(result) == ["http.request", "http.waited", "http.request"]
        [waited] = [event for event in result.execution.decisions if event.kind == "http.waited"]
        assert waited.rule == f"throttle: 1/{seconds:g}s requests"
        assert 0 < waited.detail["wait_s"] <= seconds
        assert result.execution.meters.waited_s > 0

    with_enough_time(attempt, 0.3)


@pytest.mark.parametrize(
    ("throttle", "timeout"),
    [
        pytest.param(Throttle(requests="1/1h", full="refuse"), "10m", id="it shall not wait"),
        pytest.param(Throttle(requests="1/1h"), "1m", id="the run ends before there is room"),
    ],
)
def test_a_request_that_cannot_wait_is_refused_at_once(host: Host, throttle: Throttle, timeout: str) -> None:
    with serving(response()) as server:
        one = probe(host, origin_of(server), throttle=throttle, timeout=timeout)
        _, last = answers(one, FETCH, FETCH)
        assert len(server.requests) == 1
    assert last["error"]["type"] == "rate_limited"
    assert last["error"]["retry_after_s"] > 3_000


def test_what_an_upstream_says_of_its_limits_is_kept_to(host: Host) -> None:
    said = ("x-ratelimit-remaining-requests: 0", "x-ratelimit-reset-requests: 6m0s")
    with serving(response(b"ok", "200 OK", *said)) as server:
        one = probe(host, origin_of(server), throttle=Throttle(learn=True, full="refuse"))
        _, last = answers(one, FETCH, FETCH)
        assert len(server.requests) == 1
    assert "the upstream's requests" in last["error"]["message"]
    assert f"{ORIGIN}/x" in last["error"]["message"]


# A probe of a circuit that is open, and what ends it before it says anything.

AT = Target.parse(f"{ORIGIN}/v1")


class Sent:
    """An upstream that does what it is told, and its circuit, by a clock that a test moves."""

    def __init__(self, does: Callable[[], Any], audit: Callable[..., None] = lambda *_, **__: None) -> None:
        self.now = 1_000.0
        self.leases = LocalLeases(lambda: self.now)
        policy = Policy(breaker=BREAKER)
        grant = compute_grant(
            reference="c:local.probe", interfaces=(), requested=Requested(), policy=policy, secrets={}, ceiling=CEILING
        )
        self.does = lambda run, request: does()
        self.attempts = Attempts(grant, None, lambda run: True)
        limiter = LocalLimiter(lambda: self.now)
        self.breakers = Breakers("c:local.probe", BREAKER, limiter, self.leases, lambda: self.now)
        self.attempts._breakers = self.breakers
        self.run: Any = SimpleNamespace(
            audit=audit, key="", caller=None, circuit=None, meters=Meters(), upstreams=set()
        )
        for _ in range(2):
            passed = self.breakers.enter(AT.at, "")
            assert isinstance(passed, Pass)
            self.breakers.failed(passed)
        assert isinstance(self.breakers.enter(AT.at, ""), Refused)
        self.now += BREAKER.pause_s + 1

    def send(self) -> Any:
        request: Any = SimpleNamespace(method="POST", headers=(), body=b"", target=AT, destination=AT)
        return self.attempts.send(self.run, request, self.attempts.enter(self.run, "POST", AT, (), 0), self.does)


def raising(error: BaseException) -> Callable[..., Any]:
    def raises(*_: object, **__: object) -> Any:
        raise error

    return raises


@pytest.mark.parametrize(
    "error",
    [GuestError("not_granted", "no such secret"), RunStopped(), errors.AuditError("the disk is full")],
    ids=repr,
)
def test_attack_a_probe_that_is_refused_before_it_is_sent_leaves_its_place_to_another(error: BaseException) -> None:
    """Else a guest whose requests are never sent keeps a circuit open for all."""
    sent = Sent(raising(error))
    with pytest.raises(type(error)):
        sent.send()
    assert isinstance(sent.breakers.enter(AT.at, ""), Pass)


def test_a_probe_that_cannot_be_recorded_leaves_its_place_to_another() -> None:
    sent = Sent(lambda: None, raising(errors.AuditError("the disk is full")))
    with pytest.raises(errors.AuditError):
        sent.send()
    assert isinstance(sent.breakers.enter(AT.at, ""), Pass)


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_is_not_thrown_away_where_the_circuits_cannot_be_told_of_it(
    status: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been paid for, and its client would ask again."""
    answer = SimpleNamespace(status=status, headers=())
    sent = Sent(lambda: answer)
    entered = sent.attempts.enter(sent.run, "POST", AT, (), 0)
    monkeypatch.setattr(sent.leases, "lease_left_s", raising(errors.StateError("the database does not answer")))
    request: Any = SimpleNamespace(method="POST", headers=(), body=b"", target=AT, destination=AT)
    assert sent.attempts.send(sent.run, request, entered, sent.does).outcome is answer
    assert "the database does not answer" in caplog.text


def test_attack_a_request_that_got_no_connection_takes_the_place_of_the_answer_before_it() -> None:
    """And counts as sent: then it goes to no other catalyst either."""
    policy = Policy(allowed_domains=["api.test"], upstreams={ORIGIN: ["http://127.0.0.1:1", "http://127.0.0.1:2"]})
    grant = compute_grant(
        reference="c:x.y:1.0.0", interfaces=[], requested=Requested(), policy=policy, secrets={}, ceiling=CEILING
    )
    with closing(Egress()) as egress:
        client = egress.client(AddressPolicy(mapped=frozenset({"http://127.0.0.1:2"})))
        client.close()

        def by(run: Run, request: UpstreamRequest) -> Any:
            if request.destination.origin.endswith(":1"):
                return Recorded(b"{}", status=429)
            return LiveUpstream(grant, client, {}).send(run, request)

        run = Run(limits=grant.limits, sink=None, redactor=Redactor({}), placeholders=Placeholders())
        attempts, target = Attempts(grant, None, lambda run: True), Target.parse(f"{ORIGIN}/x")
        request = UpstreamRequest("POST", target, target, (), b"{}")
        entered = attempts.enter(run, "POST", target, (), 2)
        sent = attempts.send(run, replace(request, destination=entered.destination), entered, by)
    assert not isinstance(sent.outcome, EgressError)
    assert (sent.outcome.status, run.once_only) == (429, False)
