"""`catalyst:host/output`: events to the caller, while the run goes on."""

from __future__ import annotations

import pytest

from host import Host, errors
from tests.probing import TOKEN, answers, calls, probe


def test_with_a_listener_an_event_is_delivered_and_the_guest_is_told_so(host: Host) -> None:
    stream = probe(host).stream(calls(["output.emit", '{"n": 1}'], ["output.emit", "[2]"]))
    assert list(stream) == [{"n": 1}, [2]]
    assert stream.result.data == [True, True]


def test_without_a_listener_the_guest_is_told_that_nobody_listens(host: Host) -> None:
    assert answers(probe(host), ["output.emit", "{}"]) == [False]


def test_an_event_is_out_while_the_guest_still_runs(host: Host) -> None:
    with probe(host).stream(calls(["output.emit", '"first"'], spin=True)) as stream:
        assert next(stream) == "first"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("not JSON", {"raw": "not JSON"}, id="no JSON"),
        pytest.param("", {"raw": ""}, id="an empty text"),
        pytest.param("NaN", {"raw": "NaN"}, id="NaN"),
        pytest.param("1e999", {"raw": "1e999"}, id="an infinite number"),
        pytest.param("[" * 100_000, {"raw": "[" * 100_000}, id="deep nesting"),
        pytest.param("9" * 5000, {"raw": "9" * 5000}, id="a huge integer"),
        pytest.param(r'"\ud800"', "\ufffd", id="a lone surrogate"),
    ],
)
def test_an_event_that_is_no_json_comes_as_raw_text(host: Host, text: str, shown: object) -> None:
    assert list(probe(host).stream(calls(["output.emit", text]))) == [shown]


def test_what_a_guest_emits_counts_towards_its_output(host: Host) -> None:
    stream = probe(host, max_output_size=1000).stream(calls(["output.emit", "1" * 400], repeat=3))
    with pytest.raises(errors.OutputTooLarge) as ended:
        list(stream)
    assert "max_output_size" in str(ended.value)


def test_what_a_guest_emits_and_what_it_returns_are_measured_apart(host: Host) -> None:
    stream = probe(host, max_output_size=1000).stream(
        {"calls": [["output.emit", '"' + "1" * 900 + '"']], "raw": '"' + "2" * 900 + '"'}
    )
    assert len(list(stream)) == 1
    assert stream.result.ok


def test_a_returned_text_over_the_limit_ends_the_run(host: Host) -> None:
    with pytest.raises(errors.OutputTooLarge):
        probe(host, max_output_size=1000).run({"calls": [], "raw": "x" * 1001})


def test_events_are_metered(host: Host) -> None:
    stream = probe(host).stream(calls(["output.emit", '"é"'], repeat=3))
    assert list(stream) == ["é"] * 3
    meters = stream.result.execution.meters
    assert (meters.events, meters.emitted_bytes) == (3, 12)


def test_an_event_with_a_secret_in_it_shows_the_placeholder(host: Host) -> None:
    stream = probe(host, secrets={"TOKEN": TOKEN}).stream(calls(["output.emit", f'{{"key": "{TOKEN}"}}']))
    [shown] = list(stream)
    assert shown["key"].startswith("host-secret-")
