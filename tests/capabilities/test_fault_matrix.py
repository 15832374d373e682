"""Every fault of an upstream, for every kind of request, with and without retries: what the caller sees, how often the
upstream was asked, and that nothing was sent twice that may not be.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Any, Literal

import pytest

from host import Attachment, Catalyst, Host, Policy, Retries
from host.core.names import Domain
from host.egress import Egress
from tests.conftest import slack
from tests.egress.conftest import Peer, Server
from tests.probing import chunk, chunked, event, guest, response
from tests.tls import Certificates, certificates

__all__ = ["certificates"]  # a fixture

HERE, NOWHERE, FORBIDDEN = IPv4Address("127.0.0.1"), IPv4Address("127.8.8.8"), IPv4Address("10.1.2.3")
LAST = b"0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
JSON = {"Content-Type": "application/json"}


class Names:
    """A resolver. `first` are what the first lookups find, an empty text nothing; after them it is this machine."""

    def __init__(self) -> None:
        self.first: list[IPv4Address | None] = []

    def __call__(self, name: Domain) -> tuple[Any, ...]:
        found = self.first.pop(0) if self.first else HERE
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "the name does not resolve")
        return (ip_address(found),)


@pytest.fixture(scope="module")
def names() -> Names:
    return Names()


@pytest.fixture(scope="module")
def matrix_host(names: Names, certificates: Certificates) -> Iterator[Host]:
    with Host() as host:
        host._egress = Egress(resolver=names, ssl_context=certificates.trusting())
        yield host


# What a server does with its first connection. With the next ones it does nothing wrong.


def resets_at_once(peer: Peer) -> None:
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.socket.close()


def resets_within_the_head(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nX-A")
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.socket.close()


def hangs_up_without_an_answer(peer: Peer) -> None:
    peer.request()


def cuts_its_answer(peer: Peer) -> None:
    peer.request()
    peer.send(chunked("200 OK", "Content-Type: text/event-stream") + event({"n": 1}) + chunk(b"data: {"))


def sends_no_head(peer: Peer) -> None:
    peer.request()
    peer.hang()


def sends_half_a_body(peer: Peer) -> None:
    peer.request()
    peer.send(chunked("200 OK", "Content-Type: text/event-stream") + event({"n": 1}))
    peer.hang()


def speaks_no_tls(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    peer.hang()


def answering(status: str, *headers: str) -> Callable[[Peer], None]:
    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(response(b"{}", status, "Connection: close", *headers))

    return behave


Repeated = Literal["always", "if it may be", "never"]


@dataclass(frozen=True)
class Fault:
    """`seen` is the status or the error type that a caller sees of it. `asked`: whether the request reaches the server
    that has the fault. `lookups` are what the first lookups find."""

    seen: int | str
    repeated: Repeated
    behave: Callable[[Peer], None] | None = None
    asked: bool = True
    lookups: tuple[IPv4Address | None, ...] = ()
    policy: tuple[str, ...] = ()  # the limits that are over
    tls: bool = False
    begun: bool = False  # whether the answer's head is fine


FAULTS: dict[str, Fault] = {
    "refused": Fault("http_error", "always", asked=False, lookups=(NOWHERE,)),
    "DNS failure": Fault("dns_error", "always", asked=False, lookups=(None,)),
    "DNS change, to what is refused": Fault("private_ip_blocked", "never", asked=False, lookups=(FORBIDDEN,)),
    "TLS failure": Fault("http_error", "always", speaks_no_tls, asked=False, tls=True),
    "reset before sending": Fault("http_error", "if it may be", resets_at_once, asked=False),
    "no answer": Fault("http_error", "if it may be", hangs_up_without_an_answer),
    "reset in the answer": Fault("http_error", "if it may be", resets_within_the_head),
    "slow head": Fault("timeout", "if it may be", sends_no_head, policy=("first_byte_timeout",)),
    "429": Fault(429, "always", answering("429 Too Many Requests")),
    "429 with Retry-After": Fault(429, "always", answering("429 Too Many Requests", "Retry-After: 0")),
    "500": Fault(500, "if it may be", answering("500 Internal Server Error")),
    "503": Fault(503, "if it may be", answering("503 Service Unavailable")),
    "503 with Retry-After": Fault(503, "always", answering("503 Service Unavailable", "Retry-After: 0")),
    "503 that says: try again": Fault(503, "always", answering("503 Service Unavailable", "x-should-retry: true")),
    "500 that says: do not": Fault(500, "never", answering("500 Internal Server Error", "x-should-retry: false")),
    "400": Fault(400, "never", answering("400 Bad Request")),
    "cut stream": Fault("http_error", "never", cuts_its_answer, begun=True),
    "slow body": Fault("timeout", "never", sends_half_a_body, policy=("idle_timeout",), begun=True),
}


@dataclass(frozen=True)
class Kind:
    """A request. `may_repeat`: also where the first may have been processed."""

    message: dict[str, Any]
    may_repeat: bool
    streams: bool = False


FILE = bytes(range(256)) * 400
FILES = [
    {"name": "file", "attachment": "$0.$attachment", "filename": "x.bin"},
    {"name": "purpose", "value": "test"},
]
KINDS: dict[str, Kind] = {
    "plain": Kind({"method": "GET"}, True),
    "plain, paid for": Kind({"method": "POST", "body": "{}", "headers": JSON}, False),
    "plain, with a key": Kind({"method": "POST", "body": "{}", "headers": {**JSON, "Idempotency-Key": "k-1"}}, True),
    "stream": Kind({"method": "POST", "body": "{}", "headers": JSON}, False, streams=True),
    "upload": Kind({"method": "POST", "multipart": FILES}, False),
    "upload, with a key": Kind({"method": "PUT", "multipart": FILES}, True),
}


def behaving(fault: Fault, tls: ssl.SSLContext | None) -> Callable[[Peer], None]:
    def behave(peer: Peer) -> None:
        if peer.number == 0 and fault.behave is not None:
            fault.behave(peer)
            return
        if tls is not None:
            peer.socket = tls.wrap_socket(peer.socket, server_side=True)
        with closing(peer.socket):
            while peer.request():
                peer.send(OK)

    return behave


@pytest.mark.parametrize("retries", [False, True], ids=["off", "on"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault(
    fault: Fault,
    kind: Kind,
    retries: bool,
    matrix_host: Host,
    names: Names,
    certificates: Certificates,
) -> None:
    wait = f"{max(0.2, slack(0.1)):.2f}s"
    limits = dict.fromkeys(fault.policy, wait)
    policy: dict[str, Any] = {"allowed_private": ["127.0.0.0/8"], "retries": Retries(backoff="1ms") if retries else 0}
    names.first = list(fault.lookups)
    tls = certificates.server("api.test") if fault.tls else None
    server = Server(behaving(fault, tls), None, "127.0.0.1")
    try:
        at = f"{'https' if fault.tls else 'http'}://api.test:{server.port}"
        one = matrix_host.load(
            guest("probe"), policy=Policy(allowed_domains=[at], **policy, **limits), reference="c:local.probe"
        )
        seen = seen_by(one, kind, f"{at}/v1/x", begun=fault.begun)
    finally:
        server.close()
        names.first = []
    repeated = retries and (fault.repeated == "always" or (fault.repeated == "if it may be" and kind.may_repeat))
    if fault.behave is resets_at_once and seen == 200:  # it came while the connection was made: nothing was sent yet
        repeated = retries
    assert seen == (200 if repeated else fault.seen)
    assert len(server.requests) == fault.asked + repeated
    bodies = {request.partition(b"\r\n\r\n")[2] for request in server.requests}
    assert len(bodies) <= 1, "a repeat is the same request"


def seen_by(one: Catalyst, kind: Kind, url: str, *, begun: bool) -> int | str:
    """The status, or the type of the error, that a guest gets. `begun`: the fault comes after the head."""
    message = {**kind.message, "url": url}
    listed: list[list[Any]] = [["streaming.request" if kind.streams else "fetch.request", message]]
    files = {}
    if "multipart" in message:
        files = {"a": Attachment(FILE)}
        listed = [["echo", {"$attachment": "a"}], *listed]
    if kind.streams and begun:
        listed.append(["streaming.read_all", "$0.handle"])
    *_, last = one.run({"calls": listed}, attachments=files).data
    if kind.streams and begun:
        assert last["pieces"] == ['data: {"n": 1}\n\n'] or "".join(last["pieces"]).startswith('data: {"n": 1}')
        last = last["end"]
    return last["error"]["type"] if "error" in last else last["status"]
