"""Every fault of an upstream, for every kind of request, with and without retries, with one upstream and with two: what
the caller sees, how often each upstream was asked, and that nothing was sent twice that may not be.
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
from tests.conftest import with_enough_time
from tests.egress.conftest import Peer, Server
from tests.probing import chunk, chunked, event, guest, response
from tests.sockets import switched
from tests.tls import Certificates, certificates

__all__ = ["certificates"]  # a fixture

HERE_TEXT = "127.0.0.1"
HERE, NOWHERE, FORBIDDEN = (IPv4Address(one) for one in (HERE_TEXT, "127.8.8.8", "255.255.255.255"))
LAST = b"0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
JSON = {"Content-Type": "application/json"}


class Names:
    """A resolver. `first` are what the first lookups find, None for nothing; after them it is this machine."""

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
    """Within the making of the connection, and nothing was sent, or a moment later."""
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
    if opened_by(peer):
        peer.send(b"\x81\x05ha")
        return
    peer.send(chunked("200 OK", "Content-Type: text/event-stream") + event({"n": 1}) + chunk(b"data: {"))


def sends_no_head(peer: Peer) -> None:
    peer.request()
    peer.hang()


def sends_half_a_body(peer: Peer) -> None:
    if not opened_by(peer):
        peer.send(chunked("200 OK", "Content-Type: text/event-stream") + event({"n": 1}))
    peer.hang()


def opened_by(peer: Peer) -> bool:
    """Reads a request. Whether it asked for a WebSocket, which is open then."""
    request = peer.request()
    if asks := b"sec-websocket-key" in request.lower():
        peer.send(switched(request))
    return asks


def speaks_no_tls(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    peer.hang()


def answering(status: str, *headers: str) -> Callable[[Peer], None]:
    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(response(b"{}", status, "Connection: close", *headers))

    return behave


Again = Literal["always", "if it may be", "never"]


@dataclass(frozen=True)
class Fault:
    """`seen` is the status or the error type that a caller sees of it, `seen_of_socket` that of an open WebSocket.
    `again` is whether the request is repeated at the same upstream, `moves` whether it goes to another (None: as
    `again`). `asked`: whether the request reaches the server that has the fault. `lookups` are what the first lookups
    find."""

    seen: int | str
    again: Again
    behave: Callable[[Peer], None] | None = None
    moves: Again | None = None
    asked: bool = True
    lookups: tuple[IPv4Address | None, ...] = ()
    policy: tuple[str, ...] = ()  # the limits that are over
    tls: bool = False
    begun: bool = False  # whether the answer's head is fine
    seen_of_socket: int | str | None = None


FAULTS: dict[str, Fault] = {
    "refused": Fault("http_error", "always", asked=False, lookups=(NOWHERE,)),
    "DNS failure": Fault("dns_error", "always", asked=False, lookups=(None,)),
    "DNS change, to what is refused": Fault(
        "private_ip_blocked", "never", moves="always", asked=False, lookups=(FORBIDDEN,), policy=("connect_timeout",)
    ),
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
    "500 that says: do not": Fault(
        500, "never", answering("500 Internal Server Error", "x-should-retry: false"), moves="if it may be"
    ),
    "400": Fault(400, "never", answering("400 Bad Request")),
    "cut stream": Fault("http_error", "never", cuts_its_answer, begun=True, seen_of_socket=1006),
    "slow body": Fault("timeout", "never", sends_half_a_body, policy=("idle_timeout",), begun=True),
}


@dataclass(frozen=True)
class Kind:
    """A request. `may_repeat`: at the same upstream, also where the first may have been processed; `may_move`: to
    another."""

    message: dict[str, Any]
    may_repeat: bool
    may_move: bool
    call: str = "fetch.request"


FILE = bytes(range(256)) * 400
FILES = [
    {"name": "file", "attachment": "$0.$attachment", "filename": "x.bin"},
    {"name": "purpose", "value": "test"},
]
KEYED = {**JSON, "Idempotency-Key": "k-1"}
KINDS: dict[str, Kind] = {
    "plain": Kind({"method": "GET"}, True, True),
    "plain, paid for": Kind({"method": "POST", "body": "{}", "headers": JSON}, False, False),
    "plain, with a key": Kind({"method": "POST", "body": "{}", "headers": KEYED}, True, False),
    "stream": Kind({"method": "POST", "body": "{}", "headers": JSON}, False, False, "streaming.request"),
    "upload": Kind({"method": "POST", "multipart": FILES}, False, False),
    "upload, in place": Kind({"method": "PUT", "multipart": FILES}, True, True),
    "WebSocket": Kind({}, True, True, "websocket.connect"),
}


def behaving(fault: Fault | None, tls: ssl.SSLContext | None) -> Callable[[Peer], None]:
    """Has the fault at its first connection, and serves what comes after that."""

    def behave(peer: Peer) -> None:
        if fault is not None and peer.number == 0 and fault.behave is not None:
            fault.behave(peer)
            return
        if tls is not None:
            peer.start_tls(tls)
        with closing(peer.socket):
            while request := peer.request():
                if b"sec-websocket-key" in request.lower():
                    peer.send(switched(request))
                    peer.hang()
                else:
                    peer.send(OK)

    return behave


@pytest.mark.parametrize("upstreams", [1, 2], ids=["one upstream", "two"])
@pytest.mark.parametrize("retries", [False, True], ids=["off", "on"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault(
    fault: Fault,
    kind: Kind,
    retries: bool,
    upstreams: int,
    matrix_host: Host,
    names: Names,
    certificates: Certificates,
) -> None:
    def attempt(wait_s: float) -> None:
        policy: dict[str, Any] = dict.fromkeys(fault.policy, wait_s)
        policy |= {"allowed_private": ["127.0.0.0/8"], "retries": Retries(backoff="1ms") if retries else 0}
        names.first = list(fault.lookups)
        tls = certificates.server("api.test") if fault.tls else None
        first, second = Server(behaving(fault, tls), None, HERE_TEXT), Server(behaving(None, None), None, HERE_TEXT)
        try:
            at = f"{'https' if fault.tls else 'http'}://api.test:{first.port}"
            if upstreams > 1:
                policy["upstreams"] = {at: [at, f"http://other.test:{second.port}"]}
            one = matrix_host.load(
                guest("probe"), policy=Policy(allowed_domains=[at], **policy), reference="c:local.probe"
            )
            seen = seen_by(one, kind, f"{at}/v1/x", begun=fault.begun)
        finally:
            first.close()
            second.close()
            names.first = []
        unsent = fault.behave is resets_at_once and seen == 200 and (upstreams == 1 or bool(second.requests))
        moved = upstreams > 1 and (unsent or goes(fault.moves or fault.again, kind.may_move))
        repeated = retries and not moved and (unsent or goes(fault.again, kind.may_repeat))
        of_fault = (
            fault.seen if fault.seen_of_socket is None or kind.call != "websocket.connect" else fault.seen_of_socket
        )
        assert seen == (200 if moved or repeated else of_fault)
        assert [len(first.requests), len(second.requests)] == [fault.asked + repeated, moved]
        if not kind.may_repeat and fault.again != "always":
            assert len(first.requests) + len(second.requests) <= 1
        bodies = {request.partition(b"\r\n\r\n")[2] for request in (*first.requests, *second.requests)}
        assert len(bodies) <= 1, "a repeat is the same request"

    if fault.policy:
        with_enough_time(attempt, 0.1)  # which those that answer need, too
    else:
        attempt(0.0)


def goes(again: Again, may: bool) -> bool:
    return again == "always" or (again == "if it may be" and may)


def seen_by(one: Catalyst, kind: Kind, url: str, *, begun: bool) -> int | str:
    """The status, or the type of the error, that a guest gets; 200 for a WebSocket that is open, and its code where it
    has ended. `begun`: the fault comes after the head."""
    socket_, streams = kind.call == "websocket.connect", kind.call == "streaming.request"
    message = {**kind.message, "url": url.replace("http", "ws", 1) if socket_ else url}
    listed: list[list[Any]] = [[kind.call, message]]
    files = {}
    if "multipart" in message:
        files = {"a": Attachment(FILE)}
        listed = [["echo", {"$attachment": "a"}], *listed]
    if begun and streams:
        listed.append(["streaming.read_all", "$0.handle"])
    if begun and socket_:
        listed.append(["websocket.receive", "$0.handle", "30000"])
    *_, last = one.run({"calls": listed}, attachments=files).data
    if begun and streams:
        assert last["pieces"] == ['data: {"n": 1}\n\n'] or "".join(last["pieces"]).startswith('data: {"n": 1}')
        last = last["end"]
    if "closed" in last:
        return last["closed"]["code"]
    if "handle" in last and socket_:
        return 200
    return last.get("status") or last["error"]["type"]
