"""Connections: addresses, TLS, cancellation and timeouts."""

import contextlib
import functools
import socket
import ssl
import threading
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import pytest

from host.core.limits import Limits
from host.egress import AddressPolicy, EgressError, system_tls
from host.egress.socket import Socket
from host.policy.urls import Origin

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answers(*rounds):
    """A resolver that returns one list of addresses after the other, and records the names."""
    left = list(rounds)

    def resolver(name):
        resolver.asked.append(str(name))
        return tuple(ip_address(address) for address in (left.pop(0) if len(left) > 1 else left[0]))

    resolver.asked = []
    return resolver


def kind_of(ask, *args, **options):
    with pytest.raises(EgressError) as caught:
        ask(*args, **options)
    return caught.value.kind


# addresses


def test_loopback_is_refused_unless_the_operator_allows_it(answering, egress, ask):
    server = answering()
    assert kind_of(ask, server.url(), using=egress().client(AddressPolicy())) == "private_ip_blocked"
    assert server.connections == 0


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "0.0.0.0",
        "[fe80::1]",
    ],
)
def test_a_literal_address_is_judged_like_a_resolved_one(host, egress, ask):
    assert kind_of(ask, f"http://{host}:9/", using=egress().client(AddressPolicy())) == "private_ip_blocked"


def test_dns_rebinding_meets_a_second_check(serve, egress, loopback, ask, clock):
    server = serve(lambda peer: (peer.request(), peer.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))))
    resolver = answers(["127.0.0.1"], ["10.0.0.1"])
    client = egress(resolver=resolver).client(loopback)
    assert ask(server.url(host="rebind.test"), using=client).read_all(clock) == b"ok"
    assert kind_of(ask, server.url(host="rebind.test"), using=client) == "private_ip_blocked"
    assert resolver.asked == ["rebind.test", "rebind.test"]


def test_a_name_is_looked_up_once_for_a_connection_and_not_for_its_reuse(answering, egress, loopback, ask, clock):
    server, resolver = answering(), answers(["127.0.0.1"], ["10.0.0.1"])
    client = egress(resolver=resolver).client(loopback)
    for _ in range(3):
        assert ask(server.url(host="api.test"), using=client).read_all(clock) == b"ok"
    assert (resolver.asked, server.connections) == (["api.test"], 1)


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param(["127.0.0.1", "10.0.0.1"], id="a private address behind an acceptable one"),
        pytest.param(["10.0.0.1", "127.0.0.1"], id="a private address before an acceptable one"),
        pytest.param(["127.0.0.1", "::ffff:127.0.0.1"], id="a mapped address behind an acceptable one"),
        pytest.param(["127.0.0.1", "169.254.169.254"], id="cloud metadata behind an acceptable one"),
    ],
)
def test_one_unacceptable_answer_refuses_them_all(addresses, answering, egress, loopback, ask):
    server = answering()
    client = egress(resolver=answers(addresses)).client(loopback)
    assert kind_of(ask, server.url(host="mixed.test"), using=client) == "private_ip_blocked"
    assert server.connections == 0


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "::1", "fe80::1", "224.0.0.1", "64:ff9b::1"])
def test_a_refusal_reads_the_same_whatever_the_address_was(address, egress, ask):
    with pytest.raises(EgressError) as caught:
        ask("http://name.test/", using=egress(resolver=answers([address])).client(AddressPolicy()))
    assert caught.value.message == "name.test resolves to an address that is not public"


def test_an_upstream_that_the_operator_named_may_be_anywhere(answering, egress, ask, clock):
    server, other = answering(), answering()
    client = egress().client(AddressPolicy(mapped=frozenset({f"http://model.test:{server.port}"})))
    assert ask(server.url(host="model.test"), using=client).read_all(clock) == b"ok"
    assert kind_of(ask, other.url(host="model.test"), using=client) == "private_ip_blocked"


def test_an_allowed_network_allows_no_other(egress, ask):
    client = egress(resolver=answers(["10.1.0.1"])).client(AddressPolicy(private=(ip_network("10.0.0.0/16"),)))
    assert kind_of(ask, "http://name.test/", using=client) == "private_ip_blocked"


def test_the_next_address_is_tried_when_one_refuses(answering, egress, loopback, ask, clock):
    server = answering()
    client = egress(resolver=answers(["127.0.0.77", "127.0.0.1"])).client(loopback)
    assert ask(server.url(host="two.test"), using=client).read_all(clock) == b"ok"


def test_a_silent_address_does_not_take_all_the_time(answering, egress, loopback, ask, clock, monkeypatch):
    server, shares, connect = answering(), [], Socket._connect

    def soon_over(wire, address, timeout_s):
        shares.append(timeout_s)
        connect(wire, address, timeout_s if len(shares) > 1 else 0.1)

    monkeypatch.setattr(Socket, "_connect", soon_over)
    with unaccepting("127.0.0.78", server.port):
        client = egress(resolver=answers(["127.0.0.78", "127.0.0.1"])).client(loopback)
        assert ask(server.url(host="two.test"), using=client).read_all(clock) == b"ok"
    assert shares[0] <= Limits().connect_timeout_s / 2, "the second one has the rest"
    assert len(shares) == 2


def test_a_name_without_addresses_does_not_resolve(egress, ask):
    assert (
        kind_of(ask, "http://nowhere.test/", using=egress(resolver=lambda name: ()).client(AddressPolicy()))
        == "dns_error"
    )


def test_a_name_that_the_resolver_fails_on_does_not_resolve(egress, ask):
    def resolver(name):
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    assert kind_of(ask, "http://nowhere.test/", using=egress(resolver=resolver).client(AddressPolicy())) == "dns_error"


def test_a_peer_other_than_the_checked_address_is_refused(answering, ask, monkeypatch):
    class Diverted(socket.socket):
        def getpeername(self):
            return ("10.0.0.1", 80)

    server = answering()
    monkeypatch.setattr("host.egress.socket.socket.socket", Diverted)
    assert kind_of(ask, server.url()) == "private_ip_blocked"
    assert server.requests == []


def test_one_catalyst_never_gets_the_connection_of_another(answering, egress, loopback, ask, clock):
    server, host = answering(), egress()
    ask(server.url(), using=host.client(loopback)).read_all(clock)
    assert kind_of(ask, server.url(), using=host.client(AddressPolicy())) == "private_ip_blocked"
    assert server.connections == 1


def test_ipv6_is_spoken(answering, egress, ask, clock):
    try:
        server = answering(address="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    client = egress(resolver=lambda name: (IPv6Address("::1"),)).client(AddressPolicy(private=(ip_network("::1"),)))
    assert ask(server.url(host="six.test"), using=client).read_all(clock) == b"ok"
    assert ask(server.url(host="[::1]"), using=client).read_all(clock) == b"ok"
    assert f"\r\nHost: [::1]:{server.port}\r\n".encode() in server.requests[1]


# TLS


@pytest.fixture
def secure(egress, certificates, loopback):
    """A client that trusts the test's own authority."""
    return egress(ssl_context=certificates.trusting()).client(loopback)


@pytest.fixture
def secure_ask(ask, secure):
    return functools.partial(ask, using=secure)


@pytest.fixture
def presenting(answering, certificates):
    """presenting(name) -> a TLS server with the certificate of that name."""
    return lambda name: answering(tls=certificates.server(name))


@pytest.fixture(params=["http", "https"])
def serve_either(request, serve, certificates):
    """`serve`, over plain http and over TLS."""
    return functools.partial(serve, tls=certificates.server("api.test") if request.param == "https" else None)


def test_tls_is_spoken_to_the_name_and_not_the_address(answering, certificates, secure, ask, clock):
    context = certificates.server("api.test")
    asked = []
    context.sni_callback = lambda connection, name, _: asked.append(name)
    server = answering(tls=context)
    assert ask(server.url(host="api.test"), using=secure).read_all(clock) == b"ok"
    assert asked == ["api.test"]
    assert f"\r\nHost: api.test:{server.port}\r\n".encode() in server.requests[0]


@pytest.mark.parametrize(
    ("presented", "host", "said"),
    [
        pytest.param("other.test", "api.test", "it is for another name", id="another name"),
        pytest.param("api.test", "a.b.api.test", "it is for another name", id="a wildcard over two labels"),
        pytest.param("expired", "api.test", "certificate has expired", id="expired"),
        pytest.param("self-signed", "api.test", "self", id="signed by nobody we trust"),
        pytest.param("api.test", "127.0.0.1", "it is for another name", id="an address that it does not name"),
    ],
)
def test_a_certificate_that_does_not_prove_the_name_is_refused(presented, host, said, presenting, secure_ask):
    server = presenting(presented)
    with pytest.raises(EgressError) as caught:
        secure_ask(server.url(host=host), headers=(("Authorization", "secret"),))
    assert caught.value.kind == "http_error"
    assert said in caught.value.message
    assert server.requests == []


def test_the_systems_own_authorities_do_not_vouch_for_a_stranger(presenting, egress, loopback, ask):
    server = presenting("api.test")
    assert kind_of(ask, server.url(host="api.test"), using=egress().client(loopback)) == "http_error"


def test_plain_http_on_a_tls_port_is_an_error(serve, secure, ask):
    server = serve(lambda peer: peer.send(OK))
    assert kind_of(ask, f"https://api.test:{server.port}/", using=secure) == "http_error"


def test_a_body_without_a_length_that_tls_did_not_end_is_cut_off(serve, certificates, secure, ask, clock):
    def behave(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nthe first half")
        peer.socket.detach_and_close()

    class Rude(ssl.SSLSocket):
        def detach_and_close(self):
            socket.socket.shutdown(self, socket.SHUT_RDWR)  # no close_notify

    context = certificates.server("api.test")
    context.sslsocket_class = Rude
    server = serve(behave, tls=context)
    with pytest.raises(EgressError) as caught:
        ask(server.url(host="api.test"), using=secure).read_all(clock)
    assert caught.value.kind == "http_error"


def test_the_systems_tls_verifies_and_is_not_old():
    context = system_tls()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_no_session_key_is_written_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    assert ssl.create_default_context().keylog_filename  # what is to be avoided
    assert system_tls().keylog_filename is None


# cancellation and time


@contextlib.contextmanager
def unaccepting(address="127.0.0.1", port=0):
    """A listener with a full backlog: a connect to it neither succeeds nor fails."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def connecting_from_here(port):
    """Whether a fifth connection is being tried: /proc/net/tcp has it in the state SYN_SENT (02)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "02" for row in rows)


@pytest.fixture
def woken(clock):
    """woken(ask, …): the request ends as cancelled, not by its timeout."""

    def check(ask, *args, **options):
        return kind_of(ask, *args, **options) == "cancelled" and clock.remaining() > 0

    return check


@pytest.fixture
def cancel_when(clock):
    """cancel_when(condition): cancels the run from another thread once `condition()` is true."""
    threads = []

    def start(condition):
        def watch():
            pause = threading.Event()
            for _ in range(1_000):
                if condition():
                    break
                pause.wait(0.01)
            clock.cancel()

        threads.append(threading.Thread(target=watch))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(20)


def test_a_cancelled_run_leaves_a_lookup(egress, ask, cancel_when, woken):
    asked, done = threading.Event(), threading.Event()

    def resolver(name):
        asked.set()
        done.wait(60)
        return ()

    cancel_when(asked.is_set)
    assert woken(ask, "http://slow.test/", using=egress(resolver=resolver).client(AddressPolicy()))
    done.set()


def test_a_lookup_ends_with_the_run(egress, ask, short_clock):
    done = threading.Event()
    client = egress(resolver=lambda name: (done.wait(20), ())[1]).client(AddressPolicy())
    assert kind_of(ask, "http://slow.test/", using=client, within=short_clock()) == "timeout"
    done.set()


def test_a_cancelled_run_leaves_a_connection_that_nobody_accepts(ask, cancel_when, woken):
    with unaccepting() as port:
        before = connecting_from_here(port)
        cancel_when(lambda: connecting_from_here(port) > before)
        assert woken(ask, f"http://127.0.0.1:{port}/")


def test_a_connection_that_nobody_accepts_ends_with_the_run(ask, short_clock):
    with unaccepting() as port:
        assert kind_of(ask, f"http://127.0.0.1:{port}/", within=short_clock()) == "timeout"


def test_a_cancelled_run_leaves_a_tls_handshake(serve, secure, ask, cancel_when, woken):
    greeted = threading.Event()

    def behave(peer):
        peer.socket.recv(1_000)
        greeted.set()
        peer.hang()

    server = serve(behave)
    cancel_when(greeted.is_set)
    assert woken(ask, f"https://api.test:{server.port}/", using=secure)


def test_a_tls_handshake_ends_with_the_run(serve, secure, ask, short_clock):
    server = serve(lambda peer: peer.hang())
    assert kind_of(ask, f"https://api.test:{server.port}/", using=secure, within=short_clock()) == "timeout"


def test_a_cancelled_run_leaves_a_server_that_does_not_answer(serve_either, secure_ask, cancel_when, woken):
    server = serve_either(lambda peer: (peer.request(), peer.hang()))
    cancel_when(server.asked.is_set)
    assert woken(secure_ask, server.url(host="api.test"))
    assert server.hung_up.wait(10)


def test_a_cancelled_run_leaves_a_body(serve_either, secure_ask, clock, cancel_when, woken):
    def behave(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun")
        peer.hang()

    server = serve_either(behave)
    answer = secure_ask(server.url(host="api.test"))
    assert answer.read(clock) == b"begun"
    cancel_when(lambda: True)
    assert woken(answer.read, clock)
    assert server.hung_up.wait(10)


def test_a_cancelled_run_leaves_a_body_that_nobody_reads(serve, ask, cancel_when, woken):
    receiving = threading.Event()

    def behave(peer):
        peer.socket.recv(10)
        receiving.set()
        peer.stopped.wait(60)

    cancel_when(receiving.is_set)
    assert woken(ask, serve(behave).url(), "POST", body=bytes(32 * 1024 * 1024))


def test_a_run_that_was_cancelled_before_sends_nothing(answering, ask, clock):
    server = answering()
    clock.cancel()
    assert kind_of(ask, server.url()) == "cancelled"
    assert server.requests == []


def test_a_late_cancellation_does_not_reach_the_next_run_on_the_connection(answering, ask, clock):
    server = answering()
    ask(server.url()).read_all(clock)
    answer = ask(server.url(), within=type(clock)())
    for late in clock.all_aborts:  # a cancellation during the return of the first run's connection
        late()
    assert answer.read_all(type(clock)()) == b"ok"
    assert server.connections == 1


def test_closing_the_egress_wakes_whoever_waits(serve, egress, loopback, ask):
    host = egress()
    server = serve(lambda peer: (peer.request(), host.close(), peer.hang()))
    assert kind_of(ask, server.url(), using=host.client(loopback)) == "cancelled"


def test_a_wire_that_was_aborted_before_it_was_opened_does_not_open(egress, clock, loopback):
    wire = Socket(Origin("http", IPv4Address("127.0.0.1"), 9))
    wire.abort()
    with pytest.raises(EgressError) as caught:
        wire.open(loopback, None, None, clock)
    assert caught.value.kind == "cancelled"
    wire.close()
