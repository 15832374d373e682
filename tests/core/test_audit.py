"""Events, and a run's way into a sink."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from host.core.audit import Both, Event, NullSink, Sink
from host.core.limits import Limits
from host.errors import AuditError, Refusal
from host.run import Run
from host.secrets.redaction import Redactor
from host.secrets.value import Placeholders, SecretValue
from tests.probing import Kept


def recorded(sink: Sink, event: Event) -> None:
    """Hand `event` to `sink`, as a run does."""
    Run(limits=Limits(), sink=sink, redactor=Redactor({}), placeholders=Placeholders()).audit(event.kind)


def test_a_recorded_event_reaches_the_sink() -> None:
    kept = Kept()
    recorded(kept, Event("log", "run_1"))
    assert [event.kind for event in kept] == ["log"]


def test_a_sink_that_keeps_nothing_takes_everything() -> None:
    recorded(NullSink(), Event("log", "run_1"))


@pytest.mark.parametrize("failure", [OSError("disk full"), ValueError(), KeyError("x"), RuntimeError()])
def test_whatever_a_sink_raises_is_an_audit_error_that_tells_its_type_alone(failure: Exception) -> None:
    class Failing:
        def record(self, event: Event) -> None:
            raise failure

    with pytest.raises(AuditError) as error:
        recorded(Failing(), Event("log", "run_1"))
    assert type(failure).__name__ in str(error.value)
    assert "disk full" not in str(error.value)
    assert error.value.__cause__ is failure


def test_an_audit_error_of_the_sink_stays_what_it_is() -> None:
    own = AuditError("the chain is broken")

    class Failing:
        def record(self, event: Event) -> None:
            raise own

    with pytest.raises(AuditError) as error:
        recorded(Failing(), Event("log", "run_1"))
    assert error.value is own


def test_an_interruption_passes_through_a_sink() -> None:
    class Interrupted:
        def record(self, event: Event) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recorded(Interrupted(), Event("log", "run_1"))


def test_an_event_is_plain_json() -> None:
    event = Event("http.request", "run_1", "allow", "a rule", {"url": "https://a.test/"}, at=5.0)
    assert json.loads(json.dumps(event.as_dict())) == {
        "kind": "http.request",
        "run": "run_1",
        "decision": "allow",
        "rule": "a rule",
        "detail": {"url": "https://a.test/"},
        "at": 5.0,
    }


def test_a_refusal_says_what_which_rule_and_what_would_allow_it() -> None:
    assert str(Refusal("domain_blocked", "GET https://a.test/", "not granted", "add it")) == (
        "GET https://a.test/: not granted (add it)"
    )
    assert str(Refusal("secret_denied", "secret K", "not granted")) == "secret K: not granted"


def test_of_two_sinks_each_gets_several_events_in_the_way_that_it_takes_them() -> None:
    class Together(Kept):
        def record_all(self, events: Sequence[Event]) -> None:
            self.append(Event("log", f"{len(events)} at once"))

    one, two = Kept(), Together()
    Both(one, two).record_all([Event("log", "run_1"), Event("log", "run_2")])
    assert [event.run for event in one] == ["run_1", "run_2"]
    assert [event.run for event in two] == ["2 at once"]


def test_a_record_that_is_held_is_written_with_the_next_one_in_order() -> None:
    batches: list[list[tuple[str, str]]] = []

    class Together(Kept):
        def record_all(self, events: Sequence[Event]) -> None:
            batches.append([(event.kind, event.rule) for event in events])

    secret = Redactor({"S": SecretValue("sk-0123456789abcdefghij")})
    run = Run(limits=Limits(), sink=Together(), redactor=secret, placeholders=Placeholders())
    run.audit("http.request", "allow", "sk-0123456789abcdefghij", held=True)
    assert batches == []
    run.audit("secret.use", "allow")
    run.settle()
    assert batches == [[("http.request", "S"), ("secret.use", "")]]
    assert [event.kind for event in run.events] == ["http.request", "secret.use"]


def test_a_sink_that_takes_one_at_a_time_has_nothing_held_back() -> None:
    kept = Kept()
    run = Run(limits=Limits(), sink=kept, redactor=Redactor({}), placeholders=Placeholders())
    run.audit("http.request", "allow", held=True)
    assert [event.kind for event in kept] == ["http.request"]
