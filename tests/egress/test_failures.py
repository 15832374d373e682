"""Every failure becomes one of six kinds, with a message that reveals nothing private."""

import errno
import socket
import ssl
import struct
import threading
import typing

import h11
import pytest

from host.egress import EgressError, Kind
from host.egress.failures import ConnectionLostError, translated
from host.egress.socket import Socket

SECRET_PATH = "/home/operator/.keys"


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (TimeoutError(), "timeout", "api.test:8443 did not answer in the time that the run had left"),
        (TimeoutError(errno.ETIMEDOUT, "x"), "http_error", "api.test:8443 can't be reached: connection timed out"),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "x"),
            "http_error",
            "api.test:8443 can't be reached: connection refused",
        ),
        (OSError(errno.ENETUNREACH, "x"), "http_error", "api.test:8443 can't be reached: network is unreachable"),
        (OSError(SECRET_PATH), "http_error", "api.test:8443 can't be reached: oserror"),
        (ConnectionResetError(), "http_error", "api.test:8443 reset the connection without an answer"),
        (BrokenPipeError(), "http_error", "api.test:8443 closed the connection without an answer"),
        (ssl.SSLEOFError(), "http_error", "api.test:8443 closed the connection without an answer"),
        (ssl.SSLZeroReturnError(), "http_error", "api.test:8443 closed the connection without an answer"),
        (ssl.SSLError(SECRET_PATH), "http_error", "TLS with api.test:8443 failed: unknown"),
        (
            h11.RemoteProtocolError(SECRET_PATH),
            "http_error",
            "api.test:8443 did not answer in acceptable HTTP/1.1: the head of its answer is malformed",
        ),
        (h11.LocalProtocolError(SECRET_PATH), "http_error", "the request is not acceptable HTTP/1.1"),
        (ValueError(SECRET_PATH), "http_error", "speaking to api.test:8443 failed: ValueError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_every_foreign_error_has_a_kind_and_words(error, kind, said):
    found = translated(error, "api.test:8443")
    assert (found.kind, found.message) == (kind, said)


def test_an_error_of_ours_stays_what_it_is():
    error = EgressError("dns_error", "x")
    assert translated(error, "api.test") is error


def test_only_a_lost_connection_is_called_lost():
    lost = [
        TimeoutError(),
        ConnectionRefusedError(),
        ConnectionResetError(),
        BrokenPipeError(),
        ssl.SSLEOFError(),
        OSError(),
    ]
    assert [isinstance(translated(error, "h"), ConnectionLostError) for error in lost] == [
        False,
        False,
        True,
        True,
        True,
        False,
    ]


def test_the_kinds_are_those_of_the_contract_and_cancelled():
    contract = {"http_error", "dns_error", "private_ip_blocked", "response_too_large", "timeout"}
    assert set(typing.get_args(Kind)) == contract | {"cancelled"}


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("kind", "said"), [("http_error", True), ("dns_error", True), ("timeout", True), ("private_ip_blocked", False)]
)
def test_a_proxy_that_is_not_used_is_named_once_where_there_is_no_connection(monkeypatch, name, kind, said):
    monkeypatch.setenv(name, "http://user:password@proxy.test:3128")
    error = EgressError(kind, "{} is far away", "api.test").outside_a_proxy("api.test")
    assert (error.message.count(name), "proxies are not used here" in error.message) == (int(said), said)
    assert "password" not in error.message
    assert error.naming("example.test").startswith("example.test is far away")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_no_proxy_is_named_for_this_machine(monkeypatch, host):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    error = EgressError("http_error", "{} can't be reached", host)
    assert error.outside_a_proxy(host).message == f"{host} can't be reached"


# what happened, told from a real connection

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
MALFORMED = "did not answer in acceptable HTTP/1.1: "


def reset(peer):
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.socket.close()


def sends(data, then=lambda peer: None):
    def behave(peer):
        peer.request()
        peer.send(data)
        then(peer)

    return behave


@pytest.mark.parametrize(
    ("behave", "said"),
    [
        pytest.param(sends(b""), "closed the connection without an answer", id="hangs up"),
        pytest.param(sends(b"", reset), "reset the connection without an answer", id="resets"),
        pytest.param(
            sends(b"HTTP/1.1 20"), "closed the connection within the head of its answer", id="cut in the head"
        ),
        pytest.param(
            sends(LENGTH + b"half"), "closed the connection within the body of its answer", id="cut in a body"
        ),
        pytest.param(
            sends(CHUNKED + b"5\r\nab"), "closed the connection within the body of its answer", id="cut in a chunk"
        ),
        pytest.param(
            sends(CHUNKED + b"2\r\nab\r\n"), "closed the connection within the body of its answer", id="no last chunk"
        ),
        pytest.param(sends(b"SSH-2.0-x\r\n\r\n"), MALFORMED + "the head of its answer is malformed", id="no HTTP"),
        pytest.param(
            sends(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000),
            MALFORMED + "the head of its answer is too large",
            id="a large head",
        ),
        pytest.param(
            sends(CHUNKED + b"zz\r\nab\r\n"), MALFORMED + "the chunks of its body are malformed", id="no chunk"
        ),
    ],
)
def test_an_error_says_what_happened_and_where(behave, said, serve, ask, clock):
    server = serve(behave)
    with pytest.raises(EgressError) as caught:
        ask(server.url(), "POST", body=b"x").read_all(clock)
    assert caught.value.message == f"127.0.0.1:{server.port} {said}"
    assert caught.value.kind == "http_error"


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        pytest.param(b"", "did not answer", id="nothing"),
        pytest.param(
            b"HTTP/1.1 200", "began an answer, and did not send the rest of its head", id="a part of the head"
        ),
        pytest.param(LENGTH + b"half", "did not send the rest of its answer's body", id="a part of the body"),
    ],
)
def test_the_end_of_the_time_says_what_was_waited_for(sent, said, serve, ask, clock, monkeypatch):
    """The time ends a little after the request was sent, and all was read that came."""
    write, read, came = Socket.write, Socket.read, bytearray()

    def over_soon():
        if len(came) == len(sent):
            clock.end_in(0.1)

    def writes(wire, *arguments):
        write(wire, *arguments)
        over_soon()

    def reads(wire, *arguments):
        piece = read(wire, *arguments)
        came.extend(piece)
        over_soon()
        return piece

    monkeypatch.setattr(Socket, "write", writes)
    monkeypatch.setattr(Socket, "read", reads)
    server = serve(sends(sent, lambda peer: peer.hang()))
    with pytest.raises(EgressError) as caught:
        ask(server.url(), within=clock).read_all(clock)
    assert caught.value.message == f"127.0.0.1:{server.port} {said} in the time that the run had left"
    assert caught.value.kind == "timeout"


@pytest.mark.parametrize(
    ("behave", "said"),
    [
        pytest.param(
            lambda peer: peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            "TLS with {} failed: what it speaks there is not TLS",
            id="plain HTTP",
        ),
        pytest.param(
            lambda peer: peer.socket.recv(9999), "{} closed the connection within the TLS handshake", id="hangs up"
        ),
        pytest.param(
            lambda peer: (peer.socket.recv(9999), reset(peer)),
            "{} reset the connection within the TLS handshake",
            id="resets",
        ),
    ],
)
def test_an_error_of_tls_says_what_happened(behave, said, serve, ask):
    server = serve(behave)
    with pytest.raises(EgressError) as caught:
        ask(server.url().replace("http://", "https://"))
    assert caught.value.message == said.format(f"127.0.0.1:{server.port}")


def test_what_comes_is_acknowledged_at_once(serve, ask, clock, monkeypatch):
    """Else a server that writes head and body apart, with Nagle's algorithm on, waits for it between the two."""
    done, halfway = [], threading.Event()

    class Noting(socket.socket):
        def setsockopt(self, level, option, *value):
            at_once = (level, option) == (socket.IPPROTO_TCP, socket.TCP_QUICKACK)
            done.append((self.fileno(), "at once" if at_once else "other"))
            return super().setsockopt(level, option, *value)

        def recv(self, *arguments):
            done.append((self.fileno(), "received"))
            return super().recv(*arguments)

    if not hasattr(socket, "TCP_QUICKACK"):
        pytest.skip("this system has no TCP_QUICKACK")
    server = serve(sends(LENGTH, lambda peer: (halfway.wait(10), peer.send(b"0123456789"))))
    monkeypatch.setattr("host.egress.socket.socket.socket", Noting)
    answer = ask(server.url())
    halfway.set()
    assert answer.read_all(clock) == b"0123456789"
    [ours] = {wire for wire, what in done if what == "at once"}
    steps = [what for wire, what in done if wire == ours]
    assert [steps[at - 1] for at, what in enumerate(steps) if what == "received"] == ["at once", "at once"]
