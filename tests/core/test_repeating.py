"""What may be sent a second time: tables whose rows are sentences."""

from __future__ import annotations

import pytest

from host.core.repeating import CAUSES, Cause, cause_of_kind, cause_of_status, may_repeat, was_not_processed
from host.service.batches.lines import idempotency_key


@pytest.mark.parametrize(
    ("method", "headers", "repeated"),
    [
        pytest.param("GET", [], True, id="what only reads"),
        pytest.param("DELETE", [], True, id="what deletes: the second time there is nothing left"),
        pytest.param("POST", [], False, id="not what may be paid for twice"),
        pytest.param("PATCH", [], False, id="not what may add to a change"),
        pytest.param("POST", [("Idempotency-Key", "k")], True, id="what the upstream knows again by its key"),
        pytest.param("POST", [("X-Client-Request-Id", "k")], False, id="not by an id that is for logs"),
    ],
)
def test_a_request_may_be_repeated(method: str, headers: list[tuple[str, str]], repeated: bool) -> None:
    assert may_repeat(method, headers) is repeated


@pytest.mark.parametrize(
    ("status", "headers", "not_processed"),
    [
        pytest.param(429, {}, True, id="too many requests"),
        pytest.param(425, {}, True, id="too early"),
        pytest.param(408, {}, True, id="the request did not arrive in time"),
        pytest.param(500, {}, False, id="an error may come after the work"),
        pytest.param(503, {}, False, id="unavailable, which may be said by a proxy after the work"),
        pytest.param(503, {"retry-after": "1"}, True, id="unavailable, with the time when it is not"),
        pytest.param(500, {"x-should-retry": "true"}, True, id="the upstream says to retry"),
        pytest.param(429, {"x-should-retry": "false"}, True, id="too many requests, and not to be asked again here"),
        pytest.param(409, {}, False, id="a mistake of the caller"),
    ],
)
def test_an_answer_says_that_nothing_was_done(status: int, headers: dict[str, str], not_processed: bool) -> None:
    assert was_not_processed(status, headers.items()) is not_processed


@pytest.mark.parametrize(
    ("status", "cause"), [(200, None), (400, None), (401, None), (404, None), (408, "timeout"), (429, "429"),
                          (500, "5xx"), (529, "5xx")],
)  # fmt: skip
def test_a_status_is_the_upstreams_fault_or_not(status: int, cause: Cause | None) -> None:
    assert cause_of_status(status) == cause


def test_of_failures_without_an_answer_only_those_of_the_network_count() -> None:
    kinds = ("http_error", "dns_error", "timeout", "circuit_open", "private_ip_blocked", "response_too_large")
    found = [cause_of_kind(kind) for kind in (*kinds, "cancelled")]
    assert found == ["network", "network", "timeout", "circuit_open", None, None, None]
    assert {*found} - {None} < {*CAUSES}


def test_a_key_that_the_host_made_itself_makes_no_request_safer_to_repeat() -> None:
    """The upstreams of its batches may not know such keys: they would do, and bill, the work twice."""
    key = idempotency_key("0123", 4)
    assert not may_repeat("POST", [("Idempotency-Key", key)])
    assert may_repeat("POST", [("Idempotency-Key", "the-caller's-own")])
    assert may_repeat("GET", [("Idempotency-Key", key)])
