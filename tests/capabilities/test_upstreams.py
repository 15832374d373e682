"""Several upstreams of one origin: which one is asked, when the next one is, and with which secret."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from host import Breaker, CancelToken, Host, Policy, RateLimit, Retries, Secret, Throttle, UpstreamRule, errors
from tests.conftest import slack
from tests.egress.conftest import Peer, Server
from tests.probing import (
    ORIGIN,
    TOKEN,
    answers,
    asking,
    calls,
    error_type,
    fetched,
    guest,
    origin_of,
    probe,
    response,
    serving,
)
from tests.sockets import SocketPeer, echo, opening

FETCH = ["fetch.request", asking()]
POST = ["fetch.request", asking(method="POST", body="{}")]
BROKEN = response(b"{}", "500 Internal Server Error")
BUSY = response(b"{}", "429 Too Many Requests", "Retry-After: 20")
OTHER = "other-Test-0123456789abcdefghijklmnop"
UNREACHABLE = "http://127.0.0.1:1"


def hangs_up(peer: Peer) -> None:
    peer.request()


@contextmanager
def both(first: bytes | Callable[[Peer], None], second: bytes | Callable[[Peer], None]) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving(one)) for one in (first, second)]


def load(host: Host, upstreams: Any, **more: Any) -> Any:
    return probe(
        host, upstreams={ORIGIN: [origin_of(one) if isinstance(one, Server) else one for one in upstreams]}, **more
    )


def asked(servers: list[Server]) -> list[int]:
    return [len(server.requests) for server in servers]


def events(result: Any, *kinds: str) -> list[Any]:
    return [one for one in result.execution.decisions if one.kind in kinds]


def test_the_next_one_serves_what_the_first_does_not_and_the_record_says_why(host: Host) -> None:
    with both(BUSY, response(b"second")) as servers:
        result = load(host, servers).run(calls(POST))
        assert asked(servers) == [1, 1]
    assert result.data[0]["body"] == "second"
    [moved] = events(result, "http.moved")
    first, second = map(origin_of, servers)
    assert (moved.rule, moved.detail["instead_of"], moved.detail["sent_to"]) == ("status 429", first, second)
    before, after = events(result, "http.request")
    assert (before.detail["sent_to"], after.detail["sent_to"]) == (first, second)
    assert (after.decision, after.rule, after.detail["attempt"]) == ("allow", "moved after status 429", 2)
    meters = result.execution.meters
    assert (meters.http_requests, meters.moved, meters.retries) == (2, 1, 0)


def test_each_has_its_turn_once_and_the_first_ones_answer_is_the_last_word(host: Host) -> None:
    with both(BUSY, BROKEN) as servers:
        result = load(host, [*servers, UNREACHABLE]).run(calls(FETCH))
        assert asked(servers) == [1, 1]
    assert (result.data[0]["status"], result.data[0]["headers"]["retry-after"]) == (429, "20")
    assert len(events(result, "http.moved")) == 2


def test_a_mistake_of_the_request_is_one_everywhere(host: Host) -> None:
    with both(response(b"{}", "400 Bad Request"), response()) as servers:
        assert fetched(load(host, servers))["status"] == 400
        assert asked(servers) == [1, 0]


@pytest.mark.parametrize("first", [pytest.param(BROKEN, id="that fails"), pytest.param(hangs_up, id="that hangs up")])
def test_what_may_have_been_done_is_sent_to_no_other_with_a_key_neither(host: Host, first: Any) -> None:
    """An idempotency key is known to the upstream alone that had it."""
    keyed = asking(method="POST", body="{}", headers={"Idempotency-Key": "k"})
    with both(first, response()) as servers:
        answers(load(host, servers), POST, ["fetch.request", keyed])
        assert asked(servers) == [2, 0]


def test_attack_nor_after_a_repeat_that_was_not_processed(host: Host) -> None:
    """The first attempt may have been. The key is good for a repeat there, and nowhere else."""
    keyed = asking(method="POST", body="{}", headers={"Idempotency-Key": "k"})
    said = iter([BROKEN, response(b"{}", "429 Too Many Requests", "Retry-After: 0")])

    def fails(peer: Peer) -> None:
        while peer.request():
            peer.send(next(said))

    with both(fails, response()) as servers:
        one = load(host, servers, retries=Retries(max=1, backoff="1ms"))
        result = one.run(calls(["fetch.request", keyed]))
        assert asked(servers) == [2, 0]
    assert result.data[0]["status"] == 429


def test_repeats_are_made_at_the_last_one_once_each_had_its_turn(host: Host) -> None:
    busy = response(b"{}", "429 Too Many Requests", "Retry-After: 0")
    with both(busy, busy) as servers:
        result = load(host, servers, retries=Retries(max=2, backoff="1ms")).run(calls(FETCH))
        assert asked(servers) == [1, 3]
    assert result.data[0]["headers"]["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "policy", [{"max_http_requests": 1}, {"rate_limit": RateLimit(requests=1, window="1h")}], ids=str
)
def test_moving_on_counts_as_a_request(host: Host, policy: dict[str, Any]) -> None:
    with both(BUSY, response()) as servers:
        result = load(host, servers, **policy).run(calls(FETCH))
        assert asked(servers) == [1, 0]
    assert result.data[0]["status"] == 429
    assert len(events(result, "http.given_up")) == 1
    assert events(result, "http.moved") == []


def test_what_cannot_be_recorded_is_not_sent_on() -> None:
    class Full(list[Any]):
        def record(self, event: Any) -> None:
            if event.kind == "http.moved":
                raise OSError("no space left on device")

    with Host(sink=Full()) as host, both(BUSY, response()) as servers:
        with pytest.raises(errors.AuditError):
            load(host, servers).run(calls(FETCH))
        assert asked(servers) == [1, 0]


class TestPlaces:
    """A catalyst has a bounded number of connections."""

    @pytest.mark.parametrize(("places", "runs"), [(1, 1), (4, 12)])
    def test_attack_runs_that_move_wait_for_the_connections_that_they_hold(
        self, host: Host, places: int, runs: int
    ) -> None:
        with both(BUSY, response(b"second")) as servers, ThreadPoolExecutor(runs) as pool:
            one = load(host, servers, max_upstream_connections=places, timeout=min(15, slack(5)))
            told = list(pool.map(lambda _: fetched(one)["body"], range(runs)))
        assert told == ["second"] * runs

    def test_attack_a_run_that_waits_to_ask_again_holds_one_meanwhile(self, host: Host) -> None:
        said, token = iter([BUSY, response(b"free"), response()]), CancelToken()

        def busy_once(peer: Peer) -> None:
            while peer.request():
                peer.send(next(said))

        with serving(busy_once) as server, ThreadPoolExecutor(1) as pool:
            one = load(host, [server], max_upstream_connections=1, retries=Retries(max=1))
            waits = pool.submit(one.run, calls(FETCH), cancel=token)
            assert server.asked.wait(60)
            other = one.run(calls(FETCH), timeout=min(15, slack(5)))
            token.cancel()
            with pytest.raises(errors.Cancelled):
                waits.result()
        assert other.data[0]["body"] == "free"

    @pytest.mark.parametrize(
        ("length", "why"),
        [pytest.param(70_000, "more than 65536 bytes", id="is large"), pytest.param(9, "within 1 s", id="never comes")],
    )
    def test_an_answer_that_is_put_aside_is_told_though_its_body(self, host: Host, length: int, why: str) -> None:
        begun = response(b"x" * length, "429 Too Many Requests", "Retry-After: 20")

        def hangs(peer: Peer) -> None:
            peer.request()
            peer.send(begun if length > 9 else begun[:-1])
            peer.hang()

        with serving(hangs) as server:
            answer = fetched(load(host, [server, UNREACHABLE]))
        assert (answer["status"], answer["headers"]["retry-after"]) == (429, "20")
        assert "cannot be read: it" in answer["body"]
        assert why in answer["body"]


def test_priority_comes_before_the_order_of_the_list(host: Host) -> None:
    with both(response(), response(b"first")) as servers:
        later, sooner = (
            UpstreamRule(origin=origin_of(one), priority=at) for one, at in zip(servers, (2, 1), strict=True)
        )
        assert fetched(load(host, [later, sooner]))["body"] == "first"


def test_weights_share(host: Host) -> None:
    with both(response(), response()) as servers:
        rules = [UpstreamRule(origin=origin_of(one), weight=at) for one, at in zip(servers, (1, 3), strict=True)]
        answers(load(host, rules), *[FETCH] * 40)
        few, many = asked(servers)
    assert (few + many, 0 < few < many) == (40, True)


def test_attack_a_key_is_sent_again_until_another_upstream_does_the_work_too(host: Host) -> None:
    """By weight, each request of a client would go elsewhere."""
    with both(BROKEN, BROKEN) as servers:
        rules = [UpstreamRule(origin=origin_of(one), weight=at) for one, at in zip(servers, (1, 2), strict=True)]
        one = load(host, rules)
        for key in ("a", "b", "c", "d", "e", "f"):
            before = asked(servers)
            keyed = asking(method="POST", body="{}", headers={"Idempotency-Key": key})
            answers(one, *[["fetch.request", keyed]] * 5)
            assert sorted(now - then for now, then in zip(asked(servers), before, strict=True)) == [0, 5]
        assert all(asked(servers)), "another key may go to the other one"


def test_an_open_circuit_is_passed_over_and_the_record_says_so(host: Host) -> None:
    with both(BROKEN, response()) as servers:
        one = load(host, servers, breaker=Breaker(failures=2, pause="5m"))
        answers(one, FETCH, FETCH)
        result = one.run(calls(FETCH, POST))
        assert asked(servers) == [2, 4]
    assert {event.rule for event in events(result, "http.moved")} == {"breaker: open"}


def test_where_all_circuits_are_open_the_guest_is_told_how_to_change_that(host: Host) -> None:
    with both(BROKEN, BROKEN) as servers:
        one = load(host, servers, breaker=Breaker(failures=1, pause="5m"))
        answers(one, FETCH)
        with pytest.raises(errors.CircuitOpen) as caught:
            one.run(calls(FETCH, **{"return": {"status": 503, "error": {"type": "x", "message": "y"}}}))
        [refused] = answers(one, FETCH)
        assert asked(servers) == [1, 1]
    remedy = "or change breaker in the policy of c:local.probe"
    assert caught.value.hint == remedy
    assert remedy in refused["error"]["message"]
    denied = next(event for event in caught.value.execution.decisions if event.decision == "deny")
    assert denied.detail["remedy"] == remedy


def test_one_that_has_no_room_is_passed_over(host: Host) -> None:
    with both(response(), response()) as servers:
        one = load(host, servers, throttle=Throttle(requests="1/1h"))
        *_, last = answers(one, FETCH, FETCH, FETCH)
        assert asked(servers) == [1, 1]
    assert error_type({"error": {name: last["error"][name] for name in ("type", "message")}}) == "rate_limited"


def test_a_run_goes_on_where_it_made_something(host: Host) -> None:
    """What it made is nowhere else: not even where that one says that it is busy."""
    left = [1]

    def busy_later(peer: Peer) -> None:
        while peer.request():
            left[0] -= 1
            peer.send(response(b"made") if left[0] >= 0 else BUSY)

    with both(busy_later, response()) as servers:
        one = load(host, servers)
        made, again = answers(one, POST, FETCH)
        assert (made["body"], again["status"], asked(servers)) == ("made", 429, [2, 0])
        assert fetched(one)["status"] == 200, "another run has made nothing there"


class TestSecrets:
    def keyed(self, host: Host, rules: list[Any], **secrets: Any) -> Any:
        return load(host, rules, secrets=secrets)

    def test_the_operators_other_secret_takes_its_place_and_shows_as_it(self, host: Host) -> None:
        def echoes(peer: Peer) -> None:
            while request := peer.request():
                peer.send(response(request))

        message = asking(headers={"X-Api-Key": "$0"})
        with both(BUSY, echoes) as servers:
            rules = [servers[0], UpstreamRule(origin=origin_of(servers[1]), secrets={"TOKEN": "SPARE"})]
            one = self.keyed(host, rules, TOKEN=TOKEN, SPARE=OTHER)
            result = one.run(calls(["secrets.get", "TOKEN"], ["fetch.request", message], ["secrets.get", "SPARE"]))
            first, second = (server.requests[0] for server in servers)
        assert (TOKEN.encode() in first, OTHER.encode() in first) == (True, False)
        assert (TOKEN.encode() in second, OTHER.encode() in second) == (False, True)
        placeholder, answer, denied = result.data
        assert OTHER not in str(result.as_dict())
        assert placeholder["ok"] in answer["body"]
        assert "access-denied" in str(denied)
        uses = [one.detail for one in events(result, "secret.use") if "origin" in one.detail]
        assert [one.get("value_of") for one in uses] == [None, "SPARE"]

    def test_one_without_a_value_is_an_error_and_not_the_first_one_sent_there(self, host: Host) -> None:
        rules = [UNREACHABLE, UpstreamRule(origin="https://b.test", secrets={"TOKEN": "SPARE"})]
        with pytest.raises(errors.PolicyError, match="SPARE, in place of TOKEN, has no value"):
            self.keyed(host, rules, TOKEN=TOKEN)

    def test_nor_is_a_slip_in_the_catalysts_own_name(self, host: Host, openai_wasm: bytes) -> None:
        at = "https://api.openai.com"
        rule = UpstreamRule(origin=at, secrets={"OPENAI_API_KY": "SPARE"})
        policy = Policy(allowed_domains=["api.openai.com"], upstreams={at: [rule]})
        with pytest.raises(errors.PolicyError, match="asks for no secret OPENAI_API_KY"):
            host.load(openai_wasm, policy=policy, secrets={"SPARE": Secret(OTHER)})


CONNECT = ["websocket.connect", {"url": "wss://api.test/x"}]


class TestWebSockets:
    @pytest.mark.parametrize(
        "first",
        [
            pytest.param(BROKEN, id="that fails"),
            pytest.param(BUSY, id="that is busy"),
            pytest.param(hangs_up, id="that hangs up"),
        ],
    )
    def test_the_next_one_opens_what_the_first_does_not(self, host: Host, first: Any) -> None:
        with both(first, opening(echo)) as servers:
            opened, _, told = answers(
                load(host, servers), CONNECT, ["websocket.send", "$0.handle", {"text": "a"}],
                ["websocket.receive", "$0.handle", "5000"],
            )  # fmt: skip
            assert asked(servers) == [1, 1]
        assert ("handle" in opened, told) == (True, {"text": "a"})

    def test_an_opening_that_fails_counts_for_the_circuit(self, host: Host) -> None:
        with serving(BROKEN) as server:
            one = probe(host, origin_of(server), breaker=Breaker(failures=2, pause="5m"))
            *_, last = answers(one, CONNECT, CONNECT, CONNECT)
            assert len(server.requests) == 2
        assert last["error"]["type"] == "circuit_open"

    def test_a_connection_that_breaks_counts_and_one_that_opens_closes_it(self, host: Host) -> None:
        def breaks(socket: SocketPeer) -> None:
            socket.peer.send(b"\xff\xff")

        receive = ["websocket.receive", "$0.handle", "5000"]
        with serving(opening(breaks)) as server:
            one = probe(host, origin_of(server), breaker=Breaker(failures=1, share="1%", pause="5m"))
            answers(one, CONNECT, receive)
            [refused] = answers(one, CONNECT)
            assert len(server.requests) == 1
        assert refused["error"]["type"] == "circuit_open"

    def test_the_throttle_has_room_for_it_or_not(self, host: Host) -> None:
        with serving(opening(echo)) as server:
            one = probe(host, origin_of(server), throttle=Throttle(requests="1/1h", full="refuse"))
            _, refused = answers(one, CONNECT, CONNECT)
            assert len(server.requests) == 1
        assert refused["error"]["type"] == "rate_limited"


def test_a_wait_that_the_guest_asks_for_comes_after_the_decision_and_is_on_record(host: Host) -> None:
    with serving(response()) as server:
        one = probe(host, origin_of(server))
        denied = one.run(calls(["fetch.request", asking("https://other.test/", after_ms=600_000)]))
        assert denied.data[0]["error"]["type"] == "domain_blocked"
        result = one.run(calls(["fetch.request", asking(after_ms=20)]))
    [waited] = events(result, "http.waited")
    assert (waited.rule, waited.detail["wait_s"]) == ("the catalyst asked for it", 0.02)
    assert result.execution.meters.waited_s == 0.02


def test_the_probe_takes_a_list_by_its_policy_in_a_document(host: Host) -> None:
    with both(BUSY, response(b"second")) as servers:
        first, second = map(origin_of, servers)
        listed = [first, {"origin": second, "priority": 2}]
        policy = Policy.from_document({"allowed_domains": ["api.test"], "upstreams": {ORIGIN: listed}})
        one = host.load(guest("probe"), policy=policy, reference="c:local.probe")
        assert fetched(one)["body"] == "second"
