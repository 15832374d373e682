"""Events, and a run's way into a sink."""

from __future__ import annotations

import json

import pytest

from host.core.audit import Event, NullSink, Sink
from host.core.limits import Limits
from host.errors import AuditError, Refusal
from host.run import Run
from host.secrets.redaction import Redactor
from host.secrets.value import Placeholders
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
