"""The seam to an upstream: what crosses it, and that every answer is redacted and metered, whoever gave it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from host import Policy
from host.capabilities import configure
from host.capabilities.upstream import RawAnswer, Upstream, UpstreamRequest
from host.core.limits import CEILING
from host.core.names import SecretName
from host.core.wit import FETCH, SECRETS, STREAMING
from host.egress import Deadline, EgressError
from host.policy.permissions import Grant, Requested, compute_grant
from host.run import Run
from host.secrets.redaction import Redactor
from host.secrets.value import Placeholders, SecretValue, new_placeholder
from tests.probing import TOKEN, Kept, asking, error_type

NAME = SecretName.parse("TOKEN")
FETCHED = (FETCH, "request")


class Recorded:
    """An answer from nowhere: these pieces, and then, where there is one, `failure`."""

    def __init__(self, *pieces: bytes, status: int = 200, failure: EgressError | None = None, **headers: str) -> None:
        self.status = status
        self.headers = tuple(headers.items())
        self.closed = False
        self._pieces: Iterator[bytes] = iter(pieces)
        self._failure = failure

    def read(self, clock: Deadline, max_bytes: int = 0) -> bytes:
        if piece := next(self._pieces, b""):
            return piece
        if self._failure is not None:
            raise self._failure
        return b""

    def close(self) -> None:
        self.closed = True


class Replaying:
    """An upstream that keeps each request and gives the same answer to all of them."""

    def __init__(self, answer: Recorded | EgressError) -> None:
        self.requests: list[UpstreamRequest] = []
        self.answer = answer

    def send(self, run: Run, request: UpstreamRequest) -> RawAnswer:
        self.requests.append(request)
        if isinstance(self.answer, EgressError):
            raise self.answer
        return self.answer


class Calling:
    """A run of a catalyst that may reach api.test with one secret, without a sandbox: `call` is the guest's part."""

    def __init__(self, upstream: Upstream, *, listener: Callable[[str], bool] | None = None) -> None:
        grant: Grant = compute_grant(
            reference="c:local.probe",
            interfaces=(FETCH, STREAMING, SECRETS),
            requested=Requested(),
            policy=Policy(allowed_domains=["api.test"]),
            secrets={NAME: None},
            ceiling=CEILING,
        )
        values = {NAME: SecretValue(TOKEN)}
        self._functions = configure(
            grant, upstream=upstream, sockets=lambda: pytest.fail("it opens none"), secrets=values, config={}
        )
        placeholders = Placeholders()
        placeholders.bind("TOKEN", new_placeholder())
        redactor = Redactor({placeholders.by_name["TOKEN"]: values[NAME]})
        self.kept = Kept()
        self.run = Run(
            limits=grant.limits, sink=self.kept, redactor=redactor, placeholders=placeholders, listener=listener
        )

    @property
    def placeholder(self) -> str:
        return self.run.placeholders.by_name["TOKEN"]

    def call(self, function: tuple[str, str], argument: Any) -> Any:
        text = argument if isinstance(argument, str) else json.dumps(argument)
        interface, name = function
        return json.loads(self._functions[interface][name](self.run, text))


@pytest.mark.parametrize("function", [FETCHED, (STREAMING, "request")], ids=["fetch", "streaming"])
def test_what_crosses_the_seam_holds_placeholders_and_no_secret(function: tuple[str, str]) -> None:
    upstream = Replaying(Recorded(b"ok"))
    one = Calling(upstream)
    headers = {"Authorization": f"Bearer {one.placeholder}"}
    one.call(function, asking(method="POST", headers=headers, body=one.placeholder))
    [request] = upstream.requests
    assert dict(request.headers) == headers
    assert request.body == one.placeholder.encode()
    assert TOKEN not in repr((request.headers, request.body, request.destination))


def test_an_answer_from_any_upstream_is_redacted_and_metered() -> None:
    answer = Recorded(b"say tok-Test-01234", TOKEN[14:].encode() + b" again", **{"x-echo": TOKEN})
    one = Calling(Replaying(answer))
    fetched = one.call(FETCHED, asking())
    assert fetched["headers"] == {"x-echo": one.placeholder}
    assert fetched["body"] == f"say {one.placeholder} again"
    meters = one.run.meters
    assert (meters.http_requests, meters.received_bytes) == (1, len(f"say {TOKEN} again"))
    assert meters.upstream_time_s > 0
    assert answer.closed


def test_so_is_one_that_is_read_piece_by_piece() -> None:
    one = Calling(Replaying(Recorded(b"say tok-Test-01234", TOKEN[14:].encode(), b" aga", b"in")))
    handle = one.call((STREAMING, "request"), asking())["handle"]
    read = ""
    while not (piece := one.call((STREAMING, "read"), handle))["done"]:
        read += piece["data"]
    assert read == f"say {one.placeholder} again"
    assert one.run.meters.received_bytes == len(f"say {TOKEN} again")


def test_and_one_that_is_relayed() -> None:
    events: list[str] = []

    def listen(event: str) -> bool:
        events.append(event)
        return True

    one = Calling(Replaying(Recorded(b"data: " + TOKEN.encode() + b"\n\n")), listener=listen)
    handle = one.call((STREAMING, "request"), asking(relay=True))["handle"]
    assert one.call((STREAMING, "read"), handle)["events"] == 1
    assert events == [one.placeholder]


@pytest.mark.parametrize(
    ("error", "kind", "refusals"),
    [
        pytest.param(EgressError("response_too_large", "too large"), "response_too_large", 1, id="over a limit"),
        pytest.param(EgressError("private_ip_blocked", "private"), "private_ip_blocked", 1, id="to a private address"),
        pytest.param(EgressError("cancelled", "cancelled"), "timeout", 0, id="cancelled"),
        pytest.param(EgressError("dns_error", "no name"), "dns_error", 0, id="without a name"),
    ],
)
@pytest.mark.parametrize("late", [False, True], ids=["at once", "in mid-answer"])
def test_what_goes_wrong_becomes_the_guests_error_with_its_refusal_recorded(
    error: EgressError, kind: str, refusals: int, late: bool
) -> None:
    one = Calling(Replaying(Recorded(b"begun", failure=error) if late else error))
    assert error_type(one.call(FETCHED, asking())) == kind
    assert len(one.run.refusals) == refusals
    assert [event.kind for event in one.kept if event.decision == "deny"] == ["http.request"] * refusals


def test_a_request_that_is_refused_does_not_reach_the_seam() -> None:
    upstream = Replaying(Recorded(b"ok"))
    assert error_type(Calling(upstream).call(FETCHED, asking("https://other.test/"))) == "domain_blocked"
    assert upstream.requests == []


KIB = 1 << 10


def _in_memory(kib: int, answer: Recorded) -> Calling:
    """A guest with so much memory, and an upstream that answers this."""
    one = Calling(Replaying(answer))
    one.run.limits = replace(one.run.limits, max_memory_bytes=kib * KIB)
    return one


@pytest.mark.parametrize("byte", [b"\0", b"\x01", b"\x1b", b'"', b"\\", b"\n"])
@pytest.mark.parametrize("status", [200, 500])
def test_an_upstream_whose_answer_grows_as_json_beyond_the_guests_memory_is_refused_before_it_grows(
    byte: bytes, status: int
) -> None:
    """One byte becomes six, or two. The guest could not hold it, and the host would hold it several times."""
    one = _in_memory(500, Recorded(byte * 400 * KIB, status=status))
    answer = one.call(FETCHED, asking())
    assert error_type(answer) == "response_too_large"
    assert "attachment" in answer["error"]["message"]
    assert [event.detail["type"] for event in one.kept if event.decision == "deny"] == ["response_too_large"]


def test_and_so_is_one_in_base64() -> None:
    asked = asking(response_encoding="base64")
    assert error_type(_in_memory(500, Recorded(b"x" * 400 * KIB)).call(FETCHED, asked)) == "response_too_large"
    assert "body" in _in_memory(600, Recorded(b"x" * 400 * KIB)).call(FETCHED, asked)


def test_an_answer_that_fits_as_json_is_given_whole() -> None:
    text = "\x01" * 100 * KIB + "x" * 100 * KIB
    assert _in_memory(700, Recorded(text.encode())).call(FETCHED, asking())["body"] == text


def test_an_answer_that_would_not_fit_is_no_matter_as_an_attachment() -> None:
    answer = _in_memory(100, Recorded(b"\0" * 400 * KIB)).call(FETCHED, asking(response_encoding="attachment"))
    assert answer["size"] == 400 * KIB
