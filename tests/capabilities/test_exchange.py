"""What becomes of a request on its way out: recorded, given its secrets, sent where the operator says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from host import Breaker, Event, Host, Retries, Secret, Throttle, errors
from host.policy.document import PLACES
from tests.probing import (
    ORIGIN,
    TOKEN,
    Kept,
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

GET = ["secrets.get", "TOKEN"]


def sent(host: Host, message: dict[str, Any], secret: Secret, **policy: Any) -> bytes:
    """The request that a server got for `message`, in which `$0` stands for what the guest got as TOKEN."""
    with serving(response()) as server:
        catalyst = probe(host, origin_of(server), secrets={"TOKEN": secret}, **policy)
        _, answer = answers(catalyst, GET, ["fetch.request", message])
        assert "error" not in answer, answer
        [request] = server.requests
    return request


@pytest.mark.parametrize("value", ["Bearer $0", "$0", "Token token=$0"])
def test_a_placeholder_in_a_header_becomes_the_secret(host: Host, value: str) -> None:
    request = sent(host, asking(headers={"X-Auth-Token": value}), Secret(TOKEN))
    assert value.replace("$0", TOKEN).encode() in request
    assert b"host-secret-" not in request


ODD = 'a/b?c&d=e f%g"h'


@pytest.mark.parametrize(
    ("place", "message", "expected"),
    [
        pytest.param("url", asking(f"{ORIGIN}/x?key=$0"), b"?key=a%2Fb%3Fc%26d%3De%20f%25g%22h ", id="in the query"),
        pytest.param("url", asking(f"{ORIGIN}/$0/x"), b"/a%2Fb%3Fc%26d%3De%20f%25g%22h/x ", id="in the path"),
        pytest.param(
            "body", asking(method="POST", body="key=$0"), b"\r\n\r\nkey=" + ODD.encode(), id="in a plain body"
        ),
        pytest.param(
            "body",
            asking(method="POST", body='{"k": "$0"}', headers={"Content-Type": "application/json"}),
            json.dumps({"k": ODD}).encode(),
            id="in a JSON body",
        ),
        pytest.param(
            "body",
            asking(method="POST", body="k=$0", headers={"content-type": "application/x-www-form-urlencoded"}),
            b"k=a%2Fb%3Fc%26d%3De+f%25g%22h",
            id="in a form",
        ),
    ],
)
def test_where_the_grant_says_so_a_secret_goes_into_url_or_body(
    host: Host, place: Any, message: dict[str, Any], expected: bytes
) -> None:
    assert expected in sent(host, message, Secret(ODD, places=[place]))
    elsewhere = sent(host, message, Secret(ODD))
    assert expected not in elsewhere
    assert b"host-secret-" in elsewhere


@pytest.mark.parametrize("place", ["header", "url", "body"])
def test_a_secret_goes_into_no_other_place_than_its_own(host: Host, place: Any) -> None:
    """Also where another secret may go everywhere."""
    message = asking(f"{ORIGIN}/url=$0", "POST", headers={"X-Api-Key": "header=$0"}, body="body=$0")
    with serving(response()) as server:
        given = {"TOKEN": Secret(TOKEN, places=[place]), "OTHER": Secret("other-0123456789", places=PLACES)}
        answers(probe(host, origin_of(server), secrets=given), GET, ["fetch.request", message])
        request = server.requests[0].decode()
    assert {where for where in PLACES if f"{where}={TOKEN}" in request} == {place}
    assert request.count("=host-secret-") == 2


def test_a_secret_that_makes_the_url_too_long_is_an_error_and_sends_nothing(host: Host) -> None:
    with serving(response()) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": Secret("x" * 9000, places=["url"])})
        _, answer = answers(one, GET, ["fetch.request", asking(f"{ORIGIN}/?k=$0")])
        assert error_type(answer) == "http_error"
        assert server.requests == []


def test_a_secret_bound_to_one_domain_stays_a_placeholder_for_another(host: Host) -> None:
    domains = ["api.test", "other.test"]
    with serving(response()) as server:
        one = probe(
            host,
            secrets={"TOKEN": Secret(TOKEN, domains=["api.test"])},
            allowed_domains=domains,
            upstreams={ORIGIN: origin_of(server), "https://other.test": origin_of(server)},
        )
        result = one.run(
            calls(
                GET,
                ["fetch.request", asking(headers={"X-Api-Key": "$0"})],
                ["fetch.request", asking("https://other.test/", headers={"X-Api-Key": "$0"})],
            )
        )
        bound, other = server.requests
    assert TOKEN.encode() in bound
    assert TOKEN.encode() not in other
    assert b"host-secret-" in other
    [refusal] = result.execution.refusals
    assert (refusal.kind, refusal.subject) == ("secret_denied", "secret TOKEN")
    assert "https://other.test" in refusal.rule


@pytest.mark.parametrize(
    ("message", "place"),
    [
        pytest.param(asking(f"{ORIGIN}/?k=$0"), "url", id="in the URL"),
        pytest.param(asking(method="POST", body="k=$0"), "body", id="in the body"),
        pytest.param(asking(headers={"X-Other": "k=$0"}), "header:x-other", id="in another header"),
    ],
)
def test_a_secret_where_it_is_not_bound_to_is_a_refusal_that_names_the_place(
    host: Host, message: Any, place: str
) -> None:
    with serving(response()) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN})
        result = one.run(calls(GET, ["fetch.request", message]))
    [refusal] = result.execution.refusals
    assert refusal.kind == "secret_denied"
    assert f'in = ["header", "{place}"]' in refusal.remedy


def test_a_secret_does_not_travel_over_plain_http(host: Host) -> None:
    with serving(response()) as server:
        plain = origin_of(server)
        one = probe(host, secrets={"TOKEN": TOKEN}, allowed_domains=[plain], allowed_private=["127.0.0.1"])
        answers(one, GET, ["fetch.request", asking(server.url(), headers={"X-Api-Key": "$0"})])
        assert TOKEN.encode() not in server.requests[0]


def test_a_secret_travels_over_plain_http_to_an_origin_that_the_operator_mapped(host: Host) -> None:
    assert TOKEN.encode() in sent(host, asking(headers={"X-Api-Key": "$0"}), Secret(TOKEN))


def test_any_domain_is_no_domain_for_a_secret_that_names_none(host: Host) -> None:
    policy = {"allowed_domains": ["unsafe_any_domain"]}
    assert TOKEN.encode() not in sent(host, asking(headers={"X-Api-Key": "$0"}), Secret(TOKEN), **policy)
    named = Secret(TOKEN, domains=["unsafe_any_domain"])
    assert TOKEN.encode() in sent(host, asking(headers={"X-Api-Key": "$0"}), named, **policy)


def test_a_placeholder_that_a_guest_made_up_stays_as_it_is(host: Host) -> None:
    forged = "host-secret-" + "0" * 32
    assert forged.encode() in sent(host, asking(headers={"X-Api-Key": forged}), Secret(TOKEN))


def test_a_mapped_origin_gets_the_request_under_its_own_name(host: Host) -> None:
    with serving(response()) as server:
        result = probe(host, origin_of(server)).run(calls(["fetch.request", asking(f"{ORIGIN}/path?q=1")]))
        assert server.requests[0].startswith(b"GET /path?q=1 ")
    [recorded] = [event for event in result.execution.decisions if event.kind == "http.request"]
    assert recorded.detail["url"] == f"{ORIGIN}/path"
    assert recorded.detail["sent_to"] == origin_of(server)


def test_the_target_of_a_mapping_is_not_thereby_granted(host: Host) -> None:
    with serving(response()) as server:
        assert error_type(fetched(probe(host, origin_of(server)), url=server.url())) == "domain_blocked"
        assert server.connections == 0


# The record.


GUARDS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "breaker": {"breaker": Breaker()},
    "throttle": {"throttle": Throttle(requests="9/1m")},
    "retries": {"retries": Retries()},
}


class Failing(Kept):
    """Fails at the first event of a kind, like a disk that is full."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def record(self, event: Event) -> None:
        if event.kind == self.kind:
            raise OSError("no space left on device")
        super().record(event)


def test_an_allowed_request_is_recorded_before_it_is_sent() -> None:
    recorded_before: list[int] = []

    class Watching(Kept):
        def record(self, event: Event) -> None:
            super().record(event)
            if event.kind == "http.request":
                recorded_before.append(len(server.requests))

    with Host(sink=Watching()) as host, serving(response()) as server:
        fetched(probe(host, origin_of(server)))
    assert recorded_before == [0]


def test_when_a_request_cannot_be_recorded_nothing_is_sent() -> None:
    with Host(sink=Failing("http.request")) as host, serving(response()) as server:
        with pytest.raises(errors.AuditError):
            fetched(probe(host, origin_of(server)))
        assert server.connections == 0


def test_when_the_use_of_a_secret_cannot_be_recorded_nothing_is_sent() -> None:
    with Host(sink=Failing("secret.use")) as host, serving(response()) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN})
        with pytest.raises(errors.AuditError):
            answers(one, GET, ["fetch.request", asking(headers={"X-Api-Key": "$0"})])
        assert server.connections == 0


class Together(Kept):
    """Takes several events at once, and notes how many: none with the `failing` one among them."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.batches: list[list[str]] = []

    def record_all(self, events: Sequence[Event]) -> None:
        if any(event.kind == self.failing for event in events):
            raise OSError("no space left on device")
        self.batches.append([event.kind for event in events])
        self += events


@pytest.mark.parametrize("guard", GUARDS)
def test_a_request_and_the_secrets_in_it_are_recorded_at_once_before_it_is_sent(guard: str) -> None:
    connections: list[int] = []

    class Watching(Together):
        def record_all(self, events: Sequence[Event]) -> None:
            super().record_all(events)
            if any(event.kind == "http.request" for event in events):
                connections.append(server.connections)

    kept = Watching()
    with Host(sink=kept) as host, serving(response()) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN}, **GUARDS[guard])
        answers(one, GET, ["fetch.request", asking(headers={"X-Api-Key": "$0"})])
    assert kept.batches == [["run.started"], ["secret.use", "http.request", "secret.use"], ["run.ended"]]
    assert connections == [0]
    assert [event.at for event in kept] == sorted(event.at for event in kept)


def test_a_placeholder_is_recorded_before_anything_leaves_the_run() -> None:
    """It does nothing within a sandbox, which ends with the process: what it may be put into is what counts."""
    kept, seen = Together(), list[list[list[str]]]()
    with Host(sink=kept) as host:
        one = probe(host, secrets={"TOKEN": TOKEN})
        with one.stream(calls(GET, ["output.emit", '{"n":1}'])) as events:
            for _ in events:
                seen.append([*kept.batches])
    assert [batches[:2] for batches in seen] == [[["run.started"], ["secret.use"]]]


def test_a_secret_is_recorded_before_it_is_revealed() -> None:
    kept = Together()
    with Host(sink=kept) as host:
        probe(host, secrets={"TOKEN": Secret(TOKEN, reveal=True)}).run(calls(GET, GET))
    assert kept.batches == [["run.started"], ["secret.reveal"], ["run.ended"]]


def test_a_placeholder_without_a_request_is_recorded_by_the_end_of_the_run() -> None:
    kept = Together()
    with Host(sink=kept) as host:
        probe(host, secrets={"TOKEN": TOKEN}).run(calls(GET))
    assert kept.batches == [["run.started"], ["secret.use", "run.ended"]]


@pytest.mark.parametrize("guard", GUARDS)
def test_a_request_without_a_secret_is_recorded_before_it_is_sent(guard: str) -> None:
    connections: list[int] = []

    class Watching(Together):
        def record_all(self, events: Sequence[Event]) -> None:
            connections.extend(server.connections for event in events if event.kind == "http.request")

    with Host(sink=Watching()) as host, serving(response()) as server:
        fetched(probe(host, origin_of(server), **GUARDS[guard]))
    assert connections == [0]


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize(
    "call", [["fetch.request", asking()], ["websocket.connect", {"url": "wss://api.test/x"}]], ids=["fetch", "connect"]
)
def test_when_a_record_that_was_held_cannot_be_written_nothing_is_sent(guard: str, call: list[Any]) -> None:
    with Host(sink=Together(failing="http.request")) as host, serving(response()) as server:
        with pytest.raises(errors.AuditError):
            answers(probe(host, origin_of(server), **GUARDS[guard]), call)
        assert server.connections == 0


@pytest.mark.parametrize("kind", ["http.request", "secret.use"])
def test_when_one_of_several_records_cannot_be_written_nothing_is_sent(kind: str) -> None:
    with Host(sink=Together(failing=kind)) as host, serving(response()) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN})
        with pytest.raises(errors.AuditError):
            answers(one, GET, ["fetch.request", asking(headers={"X-Api-Key": "$0"})])
        assert server.connections == 0


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        pytest.param(asking(method="DELETE"), "method_blocked", id="a method"),
        pytest.param(asking("https://other.test/"), "domain_blocked", id="a domain"),
        pytest.param(asking(method="POST", body="x" * 11), "request_too_large", id="a size"),
    ],
)
def test_a_refused_request_is_recorded_with_its_rule(message: Any, kind: str) -> None:
    kept = Kept()
    with Host(sink=kept) as host:
        one = probe(host, allowed_methods=["GET", "POST"], max_request_size=10)
        result = one.run(calls(["fetch.request", message]))
    [recorded] = [event for event in kept if event.kind == "http.request"]
    assert recorded.decision == "deny"
    assert recorded.detail["type"] == kind
    [refusal] = result.execution.refusals
    assert recorded.rule == refusal.rule


def test_a_revealed_secret_in_a_url_is_not_recorded() -> None:
    """A guest that was shown a secret can put it anywhere, and what is recorded is not it."""
    kept = Kept()
    lower = TOKEN.lower()
    with Host(sink=kept) as host, serving(response()) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": Secret(lower, reveal=True)})
        result = one.run(
            calls(
                GET,
                ["fetch.request", asking(f"{ORIGIN}/$0")],
                ["fetch.request", asking("https://$0-x.test/$0")],
                ["fetch.request", asking("https://other.test/$0", "DELETE")],
            )
        )
        assert lower.encode() in server.requests[0]
    assert len(result.execution.refusals) == 2
    assert lower not in repr(kept)
    assert lower not in repr(result)


def test_meters_count_what_went_and_what_came(host: Host) -> None:
    with serving(response(b"12345")) as server:
        result = probe(host, origin_of(server)).run(
            calls(["fetch.request", asking(method="POST", body="abc")], ["fetch.request", asking()])
        )
    meters = result.execution.meters
    assert (meters.http_requests, meters.sent_bytes, meters.received_bytes) == (2, 3, 10)
    assert meters.host_calls == 2
    assert meters.upstream_time_s > 0
