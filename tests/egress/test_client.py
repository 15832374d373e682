"""Requests and answers: sending, reading, limits, retries, privacy."""

import threading
from ipaddress import IPv4Address

import pytest

from host.egress import EgressError, Outgoing
from host.policy.urls import Target

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_an_answer_has_its_status_its_headers_and_its_body(answering, ask, clock):
    server = answering(b"HTTP/1.1 418 Teapot\r\nX-A: 1\r\nx-a: 2\r\nServer: caf\xe9\r\nContent-Length: 4\r\n\r\nbody")
    answer = ask(server.url("/a?b=c#d"))
    assert (answer.status, answer.read_all(clock)) == (418, b"body")
    assert answer.headers == (("x-a", "1"), ("x-a", "2"), ("server", "café"), ("content-length", "4"))
    assert server.requests[0].startswith(b"GET /a?b=c HTTP/1.1\r\n")


def test_a_body_arrives_whole_with_its_length(answering, ask, clock):
    server = answering()
    body = bytes(range(256)) * 4_000
    assert ask(server.url(), "POST", body=body).read_all(clock) == b"ok"
    head, _, sent = server.requests[0].partition(b"\r\n\r\n")
    assert sent == body
    assert b"\r\nContent-Length: 1024000" in head


@pytest.mark.parametrize(
    ("method", "length"),
    [
        pytest.param("POST", True, id="a POST without a body says that it has none"),
        pytest.param("GET", False, id="a GET without a body says nothing"),
    ],
)
def test_an_empty_body_is_announced_where_the_method_expects_one(method, length, answering, ask, clock):
    server = answering()
    ask(server.url(), method).read_all(clock)
    assert (b"Content-Length: 0\r\n" in server.requests[0]) is length


def test_a_redirect_is_an_answer_and_is_not_followed(answering, ask, clock):
    elsewhere = answering()
    server = answering(
        b"HTTP/1.1 302 Found\r\nLocation: " + elsewhere.url().encode() + b"\r\nContent-Length: 0\r\n\r\n"
    )
    answer = ask(server.url())
    answer.read_all(clock)
    assert (answer.status, dict(answer.headers)["location"]) == (302, elsewhere.url())
    assert elsewhere.connections == 0


def test_a_cookie_is_not_kept(answering, ask, clock):
    server = answering(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nok")
    for _ in range(2):
        ask(server.url()).read_all(clock)
    assert b"cookie" not in server.requests[1].lower()


@pytest.mark.parametrize(
    ("method", "response"),
    [
        pytest.param(
            "HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\nContent-Encoding: gzip\r\n\r\n", id="HEAD"
        ),
        pytest.param("GET", b"HTTP/1.1 204 No Content\r\n\r\n", id="204"),
        pytest.param("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99999999\r\n\r\n", id="304"),
    ],
)
def test_some_answers_have_no_body_whatever_they_say(method, response, answering, ask, clock):
    server = answering(response)
    for _ in range(2):
        assert ask(server.url(), method).read_all(clock) == b""
    assert server.connections == 1


def test_interim_responses_are_passed_over(answering, ask, clock):
    server = answering(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)
    assert ask(server.url()).read_all(clock) == b"ok"


def test_nothing_from_the_environment_changes_a_request(answering, ask, clock, monkeypatch, tmp_path):
    proxy = answering()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy.url())
    monkeypatch.setenv("NO_PROXY", "")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password hunter2")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    server = answering()
    ask(server.url()).read_all(clock)
    assert proxy.connections == 0
    assert b"authorization" not in server.requests[0].lower()


# reading


def test_a_piece_is_handed_over_as_soon_as_it_is_there(serve, ask, clock):
    seen = threading.Event()

    def behave(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
        seen.wait(10)
        peer.send(b"two")

    answer = ask(serve(behave).url())
    assert answer.read(clock, 65_536) == b"one"
    seen.set()
    assert answer.read_all(clock) == b"two"


def test_a_piece_is_never_larger_than_asked_for(answering, ask, clock):
    answer = ask(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde").url())
    assert [answer.read(clock, 2) for _ in range(4)] == [b"ab", b"cd", b"e", b""]
    assert answer.read(clock) == b""


def test_a_body_without_a_length_ends_with_the_connection(ending, ask, clock):
    assert ask(ending(b"HTTP/1.1 200 OK\r\n\r\nall of it").url()).read_all(clock) == b"all of it"


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour", id="short of its length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n", id="without its last chunk"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nfour", id="within a chunk"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nfour\r\n", id="with a garbled chunk size"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfourXX\r\n", id="with a chunk that goes on"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-4\r\nfour\r\n", id="with a negative chunk"
        ),
    ],
)
def test_a_body_that_breaks_off_is_an_error_and_never_a_silent_end(response, ending, ask, clock):
    with pytest.raises(EgressError) as caught:
        ask(ending(response).url()).read_all(clock)
    assert caught.value.kind == "http_error"


def test_closing_an_unfinished_answer_hangs_up(serve, ask):
    def behave(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
        peer.hang()

    server = serve(behave)
    answer = ask(server.url())
    answer.close()
    answer.close()
    assert server.hung_up.wait(10)


def test_closing_an_answer_that_has_come_whole_keeps_the_connection(answering, ask):
    server = answering()
    for _ in range(3):
        ask(server.url()).close()
    assert server.connections == 1


# limits


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"x" * 101, id="an announced length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n", id="chunks"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101, id="no length at all"),
    ],
)
def test_a_response_over_the_limit_is_refused(response, ending, ask, clock):
    with pytest.raises(EgressError) as caught:
        ask(ending(response).url(), limit=100).read_all(clock)
    assert caught.value.kind == "response_too_large"


def test_a_response_of_exactly_the_limit_passes(ending, ask, clock):
    assert len(ask(ending(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100).url(), limit=100).read_all(clock)) == 100


def test_an_announced_length_over_the_limit_is_refused_before_any_of_it_is_read(serve, ask):
    def behave(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        peer.hang()

    with pytest.raises(EgressError) as caught:
        ask(serve(behave).url(), limit=100)
    assert caught.value.kind == "response_too_large"


def test_a_drip_fed_body_ends_with_the_run(serve, ask, short_clock):
    def behave(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.drip(b"x")

    clock = short_clock()
    with pytest.raises(EgressError) as caught:
        ask(serve(behave).url(), within=clock).read_all(clock)
    assert caught.value.kind == "timeout"


def test_slow_headers_end_with_the_run(serve, ask, short_clock):
    def behave(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nX: ")
        peer.drip(b"x")

    with pytest.raises(EgressError) as caught:
        ask(serve(behave).url(), within=short_clock())
    assert caught.value.kind == "timeout"


def test_a_server_that_does_not_read_a_large_body_ends_with_the_run(serve, ask, short_clock):
    server = serve(lambda peer: peer.stopped.wait(10))
    with pytest.raises(EgressError) as caught:
        ask(server.url(), "POST", body=bytes(32 * 1024 * 1024), within=short_clock())
    assert caught.value.kind == "timeout"


def test_what_has_already_come_is_not_handed_out_after_the_end(answering, ask, short_clock):
    answer = ask(answering().url())
    over = short_clock()
    while over.remaining() > 0:
        threading.Event().wait(0.05)
    with pytest.raises(EgressError) as caught:
        answer.read(over)
    assert caught.value.kind == "timeout"


def test_a_run_without_time_sends_nothing(answering, ask):
    server = answering()
    clock = type("Over", (), {"remaining": lambda self: 0.0, "interruptible": lambda self, abort: threading.Lock()})()
    with pytest.raises(EgressError) as caught:
        ask(server.url(), within=clock)
    assert (caught.value.kind, server.requests) == ("timeout", [])


# retries


def dropping(after):
    """Answers `after` requests on its first connection and hangs up on the next."""

    def behave(peer):
        for _ in range(after if peer.number == 0 else 100):
            if not peer.request():
                return
            peer.send(OK)
        peer.request()

    return behave


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_an_idempotent_request_on_a_reused_connection_that_died_is_sent_once_more(method, serve, ask, clock):
    server = serve(dropping(after=1))
    ask(server.url()).read_all(clock)
    answer = ask(server.url(), method)
    answer.close()
    assert (answer.status, server.connections, len(server.requests)) == (200, 2, 3)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_might_be_paid_for_twice_is_never_sent_twice(method, serve, ask, clock):
    server = serve(dropping(after=1))
    ask(server.url()).read_all(clock)
    with pytest.raises(EgressError) as caught:
        ask(server.url(), method, body=b"buy")
    assert caught.value.kind == "http_error"
    assert (server.connections, len(server.requests)) == (1, 2)


def test_nothing_is_sent_twice_on_a_new_connection(serve, ask):
    server = serve(dropping(after=0))
    with pytest.raises(EgressError):
        ask(server.url())
    assert (server.connections, len(server.requests)) == (1, 1)


def test_nothing_is_sent_twice_once_an_answer_has_begun(serve, ask, clock):
    def behave(peer):
        peer.request()
        peer.send(OK)
        peer.request()
        peer.send(b"HTTP/1.1 2")

    server = serve(behave)
    ask(server.url()).read_all(clock)
    with pytest.raises(EgressError):
        ask(server.url())
    assert (server.connections, len(server.requests)) == (1, 2)


def test_a_second_try_is_the_last(serve, ask, clock):
    def behave(peer):
        if peer.number == 0:
            peer.request()
            peer.send(OK)
        peer.request()

    server = serve(behave)
    ask(server.url()).read_all(clock)
    with pytest.raises(EgressError):
        ask(server.url())
    assert (server.connections, len(server.requests)) == (2, 3)


def test_an_answer_given_before_the_body_was_read_is_an_answer(serve, ask, clock):
    def behave(peer):
        peer.socket.recv(1_000)
        peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nmuch")
        peer.hang()

    assert ask(serve(behave).url(), "POST", body=bytes(1_000_000)).read_all(clock) == b"much"


# privacy


def test_an_outgoing_request_shows_neither_its_headers_nor_its_body_nor_its_query():
    secret = "sk-123"
    shown = repr(Outgoing("POST", Target.parse(f"https://a.test/?k={secret}"), (("a", secret),), secret.encode(), 1))
    assert secret not in shown


def test_a_server_that_answers_nonsense_is_not_quoted(ending, ask):
    with pytest.raises(EgressError) as caught:
        ask(ending(b"HTTP/1.1 200 OK\r\nsk 123: sk-123\r\n\r\n").url())
    assert "sk" not in str(caught.value)


def test_an_error_names_no_address_behind_a_name(egress, loopback, ask):
    one = egress(resolver=lambda name: (IPv4Address("127.0.0.9"),)).client(loopback)
    with pytest.raises(EgressError) as caught:
        ask("http://api.test:1/", using=one)
    assert caught.value.message == "api.test:1 can't be reached: connection refused"


def test_a_closed_client_sends_nothing(client, answering, ask):
    server = answering()
    client.close()
    with pytest.raises(EgressError):
        ask(server.url())
    assert server.connections == 0
