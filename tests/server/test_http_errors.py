"""Every error of the host has an HTTP status, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from host import errors
from host.errors import Refusal
from host.server.http_errors import headers_of, status_of
from host.server.openai.gateway import of_host
from tests.openai.test_answers import result

MORE: dict[str, dict[str, Any]] = {
    "CircuitOpen": {"retry_after_s": 1.2},
    "LimitExceeded": {"unit": "tokens", "retry_after_s": 1.2},
    "GuestException": {"exception": "ValueError", "traceback": "/home/somebody/app.py"},
    "ContractError": {"subject": "x"},
    "VerificationFailed": {"step": 1},
    "AuditBroken": {"seq": 1},
}


def every(kind: type[errors.HostError] = errors.HostError) -> Iterator[errors.HostError]:
    if kind is errors.Denied:
        yield errors.Denied([Refusal("domain_blocked", "GET https://x", "not granted", "add it")])
    elif kind is errors.OperationFailed:
        yield errors.OperationFailed(result(status=418, error={"message": "tea"}))
    else:
        yield kind("it went wrong", **MORE.get(kind.__name__, {}))
    for child in kind.__subclasses__():
        yield from every(child)


@pytest.mark.parametrize("error", list(every()), ids=lambda one: type(one).__name__)
def test_every_error_has_a_status_that_says_whose_mistake_it_is(error: errors.HostError) -> None:
    status = status_of(error)
    blamed = {"caller": range(400, 500), "guest": range(500, 600), "host": range(500, 600)}
    assert status in blamed.get(error.blame, range(400, 600))


@pytest.mark.parametrize("error", list(every()), ids=lambda one: type(one).__name__)
def test_every_error_has_openais_shape_and_tells_nothing_of_the_inside(error: errors.HostError) -> None:
    _, body, _ = of_host(error)
    assert body["error"].keys() >= {"message", "type", "param", "code"}
    assert "somebody" not in str(body)
    if error.blame in ("guest", "host"):
        assert "it went wrong" not in str(body)


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        pytest.param(errors.LimitExceeded("x", unit="tokens", retry_after_s=1.2), 429, {"retry-after": "2"}, id="when to try again, rounded up"),
        pytest.param(errors.LimitExceeded("x", unit="tokens", retry_after_s=0), 429, {"retry-after": "1"}, id="and never at once"),
        pytest.param(errors.CircuitOpen("x", retry_after_s=11.2), 503, {"retry-after": "12"}, id="an upstream that fails"),
        pytest.param(errors.Busy("x"), 503, {"retry-after": "1"}, id="busy"),
        pytest.param(errors.Unauthenticated("x"), 401, {"www-authenticate": 'Bearer realm="catalyst-host"'}, id="how to say who one is"),
        pytest.param(errors.Denied([Refusal("rate_limited", "x", "y")]), 429, {"retry-after": "1"}, id="a policy's rate"),
        pytest.param(errors.DeadlineExceeded("x"), 504, {}, id="too late"),
        pytest.param(errors.TooLarge("x"), 413, {}, id="too large"),
        pytest.param(errors.UnsupportedMedia("x"), 415, {}, id="a coding that is not read"),
        pytest.param(errors.PolicyError("x"), 503, {}, id="the operator's policy is no mistake of the caller's"),
    ],
)  # fmt: skip
def test_a_status_has_what_goes_with_it(error: errors.HostError, status: int, headers: dict[str, str]) -> None:
    assert (status_of(error), dict(headers_of(error))) == (status, headers)


def test_an_upstreams_error_goes_on_with_its_headers() -> None:
    said = {"retry-after": "7", "x-request-id": "u", "set-cookie": "a=b", "content-length": "9", "location": "/"}
    failed = result(status=429, error={"message": "slow down", "type": "requests"}, headers=said)
    status, body, headers = of_host(errors.OperationFailed(failed))
    assert (status, headers) == (429, {"retry-after": "7", "x-request-id": "u", "x-upstream-request-id": "u"})
    assert body == {"error": {"message": "slow down", "type": "requests", "param": None, "code": None}}
