"""A guest cannot fill the audit log: what it can cause has a bounded number of records, and the rest is counted."""

from __future__ import annotations

from typing import Any

import pytest

from host import Host, errors
from host.core.audit import Event
from host.run import MAX_DENIALS, MAX_EVENTS
from tests.probing import ORIGIN, asking, calls, error_type, fetched, origin_of, probe, response, serving
from tests.sandbox.test_arguments import FETCH, GET, begun

BLOCKED = asking("https://elsewhere.test/")


def denials(events: list[Event] | tuple[Event, ...]) -> list[Event]:
    return [event for event in events if event.decision == "deny"]


def kept(host: Host, call: list[Any], times: int, **options: Any) -> Any:
    """The record of a run that makes one call so many times."""
    return probe(host, **options).run(calls(call, repeat=times)).execution


@pytest.mark.parametrize(
    ("call", "counted"),
    [
        pytest.param(["fetch.request", BLOCKED], "http.request domain_blocked", id="a domain"),
        pytest.param(["streaming.request", BLOCKED], "http.request domain_blocked", id="a streamed domain"),
        pytest.param(["fetch.request", asking(method="PATCH")], "http.request method_blocked", id="a method"),
        pytest.param(["secrets.get", "not a name"], "secret.use", id="what is no name of a secret"),
    ],
)
def test_a_guest_that_is_refused_a_thousand_times_has_a_hundred_records_and_one_that_counts(
    host: Host, call: list[Any], counted: str
) -> None:
    *each, last = denials(kept(host, call, 1_000, allowed_methods=["GET"]).decisions)
    assert [event.kind for event in each] == [counted.split(maxsplit=1)[0]] * MAX_DENIALS
    assert (last.kind, last.detail) == ("run.refused", {counted: 1_000 - MAX_DENIALS})
    assert last.rule == f"{1_000 - MAX_DENIALS} more denials"


def test_what_is_counted_is_counted_by_kind(host: Host) -> None:
    listed: list[Any] = [["secrets.get", f"NAME_{n}"] for n in range(MAX_DENIALS + 7)]
    listed += [["fetch.request", BLOCKED]] * 5 + [["fetch.request", asking(method="PUT")]] * 3
    found = probe(host, allowed_methods=["GET"]).run(calls(*listed)).execution
    assert denials(found.decisions)[-1].detail == {
        "secret.use secret_denied": 7,
        "http.request domain_blocked": 5,
        "http.request method_blocked": 3,
    }
    assert [event.kind for event in found.decisions[-2:]] == ["run.refused", "run.ended"]


def test_a_run_with_a_hundred_denials_has_a_record_of_each_and_none_that_counts(host: Host) -> None:
    found = denials(kept(host, ["fetch.request", BLOCKED], MAX_DENIALS).decisions)
    assert [event.kind for event in found] == ["http.request"] * MAX_DENIALS


def test_what_is_allowed_is_recorded_after_any_number_of_denials(host: Host) -> None:
    with serving(response()) as server:
        listed: list[Any] = [["secrets.get", f"OTHER_{n}"] for n in range(MAX_EVENTS + 50)]
        listed += [["secrets.get", "TOKEN"], ["secrets.get", "TOKEN"], ["fetch.request", asking()]]
        one = probe(host, origin_of(server), secrets={"TOKEN": "tok-0123456789abcdefghij"})
        events = one.run(calls(*listed)).execution.decisions
    assert [(event.kind, event.decision) for event in events if event.decision == "allow"] == [
        ("secret.use", "allow"),
        ("http.request", "allow"),
    ]


def test_a_run_that_traps_after_its_denials_has_their_number_on_record_too(host: Host) -> None:
    with pytest.raises(errors.Denied) as ended:
        probe(host).run(calls(["fetch.request", BLOCKED], repeat=150, **{"return": 5}))
    assert ended.value.execution is not None
    assert ended.value.execution.decisions[-2].detail == {"http.request domain_blocked": 50}


def test_the_callers_refusals_stay_as_they_are(host: Host) -> None:
    listed: list[Any] = [["fetch.request", asking(f"https://h{n}.test/")] for n in range(150)]
    found = probe(host).run(calls(*listed)).execution
    assert [refusal.subject for refusal in found.refusals] == [f"GET https://h{n}.test/" for n in range(150)]


@pytest.mark.parametrize(
    "blocked",
    [
        pytest.param(["fetch.request", BLOCKED], id="a domain"),
        pytest.param(["streaming.request", BLOCKED], id="a streamed domain"),
        pytest.param(["fetch.request", asking(method="DELETE")], id="a method"),
        pytest.param(["fetch.request", asking(method="POST", body="x" * 11)], id="a size"),
        pytest.param(["fetch.request", asking(body="x" * 200_000)], id="a message that is too long"),
    ],
)
def test_a_blocked_request_counts_towards_those_that_a_run_may_make(host: Host, blocked: list[Any]) -> None:
    options = {"max_http_requests": 2, "max_request_size": 10, "allowed_methods": ["GET", "POST"]}
    with serving(response()) as server:
        one = probe(host, origin_of(server), **options)
        *_, allowed, refused = one.run(calls(blocked, ["fetch.request", asking()], ["fetch.request", asking()])).data
        assert allowed["status"] == 200
        assert error_type(refused) == "rate_limited"
        assert len(server.requests) == 1
        assert fetched(one)["status"] == 200, "the next run begins anew"


def test_a_stream_that_is_one_too_many_counts_too(host: Host) -> None:
    with serving(response()) as server:
        one = probe(host, origin_of(server), max_http_requests=3, max_streams=1)
        opened = [["streaming.request", asking()]]
        *_, last = one.run(calls(*opened * 3, ["streaming.close", "$0.handle"], *opened)).data
        assert error_type(last) == "rate_limited"


def test_twenty_thousand_denials_take_no_longer_than_the_calls(host: Host) -> None:
    catalyst, run = begun(host, FETCH, times=20_000)
    catalyst._instances.run('{"method":"GET","url":"https://elsewhere.test/"}', run)
    assert len(run.events) == MAX_DENIALS
    assert run.blocked_requests == 20_000


def test_any_number_of_names_is_not_remembered(host: Host) -> None:
    _, run = begun(host, GET)
    for n in range(5 * MAX_EVENTS):
        run.first_use(f"NAME_{n}")
    assert len(run._used) <= MAX_EVENTS


def test_denials_of_one_run_do_not_count_for_the_next(host: Host) -> None:
    one = probe(host)
    for _ in range(2):
        found = one.run(calls(["fetch.request", asking(f"{ORIGIN.replace('api', 'www')}/")], repeat=60)).execution
        assert len(denials(found.decisions)) == 60
