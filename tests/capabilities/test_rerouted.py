"""A guest whose requests the operator sends elsewhere: no error and no header tells it where."""

from __future__ import annotations

import json
import logging
import ssl
import threading
from typing import Any

import pytest

from host import Host, Secret
from host.egress import EgressError
from host.egress.failures import not_public, timed_out, translated
from host.errors import DeadlineExceeded, PolicyError
from tests.egress.conftest import Peer
from tests.probing import ORIGIN, answers, asking, calls, chunk, chunked, fetched, origin_of, probe, response, serving

INTERNAL = "llm-gw.corp.internal"


@pytest.mark.parametrize("upstream", [f"https://{INTERNAL}", f"http://{INTERNAL}:8080"])
def test_a_guest_is_not_told_the_name_of_an_upstream_that_does_not_resolve(host: Host, upstream: str) -> None:
    result = probe(host, upstream).run(calls(["fetch.request", asking()]))
    assert INTERNAL not in json.dumps(result.as_dict())
    assert result.data[0]["error"] == {"type": "dns_error", "message": "api.test does not resolve"}
    [failed] = [
        event for event in result.execution.decisions if event.decision is None and event.kind == "http.request"
    ]
    assert failed.rule == f"failed: {INTERNAL} does not resolve"
    assert failed.detail == {"type": "dns_error", "url": f"{ORIGIN}/x", "sent_to": upstream}


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(lambda peer: None, id="that hangs up"),
        pytest.param(lambda peer: peer.request() and peer.send(b"nonsense\r\n\r\n"), id="that speaks no HTTP"),
        pytest.param(
            lambda peer: peer.request() and peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"),
            id="that breaks off",
        ),
        pytest.param(
            lambda peer: peer.request() and peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 11), id="that goes on and on"
        ),
    ],
)
def test_a_guest_is_not_told_the_address_of_an_upstream(host: Host, behave: Any) -> None:
    with serving(behave) as server:
        found = fetched(probe(host, origin_of(server)))
    assert found["error"]["type"] == "http_error"
    assert "api.test" in found["error"]["message"]
    assert "127.0.0.1" not in found["error"]["message"]


def test_nor_one_that_speaks_no_tls_or_is_not_there(host: Host) -> None:
    with serving(response()) as server:
        over_tls = origin_of(server).replace("http:", "https:")
        for found in (fetched(probe(host, over_tls)), fetched(probe(host, "http://127.0.0.1:1"))):
            assert "api.test" in found["error"]["message"]
            assert "127.0.0.1" not in found["error"]["message"]


def test_nor_one_that_is_silent(host: Host) -> None:
    over = threading.Event()
    with serving(lambda peer: peer.request() and over.wait(10)) as server:
        with pytest.raises(DeadlineExceeded) as caught:
            probe(host, origin_of(server), timeout="300ms").run(calls(["fetch.request", asking()]))
        over.set()
    assert "127.0.0.1" not in str(caught.value)


def certificate_error(code: int, said: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, said)
    error.verify_code, error.verify_message = code, said
    return error


@pytest.mark.parametrize(
    "error",
    [
        timed_out(INTERNAL),
        not_public(INTERNAL),
        translated(certificate_error(62, f"Hostname mismatch, certificate is not valid for '{INTERNAL}'."), INTERNAL),
        translated(certificate_error(64, f"IP address mismatch, certificate is not valid for '{INTERNAL}'."), INTERNAL),
        translated(certificate_error(10, "certificate has expired"), INTERNAL),
        translated(ConnectionRefusedError(111, "refused"), INTERNAL),
        translated(ConnectionResetError(), INTERNAL),
        translated(ValueError(INTERNAL), INTERNAL),
    ],
)
def test_every_failure_can_name_another_host(error: EgressError) -> None:
    assert INTERNAL in error.message
    assert INTERNAL not in error.naming("api.test")
    assert error.naming(INTERNAL) == error.message


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("{internal}/y?z#f", f"{ORIGIN}/y?z#f"),
        ("{internal}", ORIGIN),
        ("//{authority}/y", f"{ORIGIN}/y"),
        ("HTTP://{authority}/y", f"{ORIGIN}/y"),
        ("/y", "/y"),
        ("https://elsewhere.test/y", "https://elsewhere.test/y"),
        ("{internal}9/y", None),
    ],
)
@pytest.mark.parametrize("name", ["Location", "Content-Location"])
def test_a_redirect_to_the_upstream_itself_leads_to_the_origin_that_the_guest_asked_for(
    host: Host, name: str, value: str, seen: str | None
) -> None:
    def behave(peer: Any) -> None:
        while peer.request():
            internal = f"http://127.0.0.1:{server.port}"
            sent = value.format(internal=internal, authority=internal[7:])
            peer.send(response(b"", "302 Found", f"{name}: {sent}"))

    with serving(behave) as server:
        found = fetched(probe(host, origin_of(server)))["headers"][name.lower()]
        assert found == (seen or value.format(internal=origin_of(server)))


def test_a_weak_secret_of_an_embedding_program_is_a_warning_unless_it_says_so(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "host"):
        probe(host, secrets={"TOKEN": Secret("48213907", weak=True), "OTHER": "x7Qp0ZmW31vKs8tY"})
        assert caplog.text == ""
        probe(host, secrets={"TOKEN": "48213907"})
    assert "secret TOKEN: it is weak" in caplog.text
    assert "48213907" not in caplog.text


def test_a_secret_that_could_go_to_a_telemetry_domain_is_not_loaded_without_a_word(host: Host) -> None:
    both = {"allowed_domains": ["api.test", "telemetry.test"]}
    with pytest.raises(PolicyError, match=r"api\.test, telemetry\.test") as caught:
        probe(host, secrets={"TOKEN": "x7Qp0ZmW31vKs8tY"}, **both)
    assert caught.value.field == "secrets.TOKEN"
    probe(host, secrets={"TOKEN": Secret("x7Qp0ZmW31vKs8tY", domains=["api.test"])}, **both)
    one = probe(host, secrets={"TOKEN": "x7Qp0ZmW31vKs8tY"})
    assert answers(one, ["secrets.get", "TOKEN"])[0]["ok"].startswith("host-secret-")


def test_a_stream_that_is_whole_is_no_failure_on_record_where_its_connection_stays_open(host: Host) -> None:
    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(chunked() + chunk(b"data: {}\n\ndata: [DONE]\n\n"))
        peer.hang()

    with serving(behave) as server:
        asked = calls(["streaming.request", asking(relay=True)], ["streaming.read", "$0.handle"])
        stream = probe(host, origin_of(server)).stream(asked)
        assert list(stream) == [{}]
        decisions = stream.result.execution.decisions
    assert [event.rule for event in decisions if event.kind == "http.request" and event.decision is None] == []
