"""Malformed answers, and connections that must not be reused."""

import threading

import pytest

from host.egress import EgressError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 20", id="half a status line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: 1\r\n", id="half a head"),
        pytest.param(b"HTTP/1.1 999999 OK\r\n\r\n", id="a status of six digits"),
        pytest.param(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", id="a field without a colon"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX : 1\r\n\r\n", id="a space before a colon"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", id="a NUL in a field"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", id="two lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", id="a negative length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\nok", id="a length without end"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            id="a transfer coding not asked for",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            id="two framings",
        ),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", id="a protocol not asked for"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000 + OK, id="interim responses without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", id="a field of 200 kB"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 5_001 + b"\r\n", id="5001 fields"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 201 + b"\r\n", id="201 fields"),
    ],
)
def test_an_answer_that_is_not_acceptable_is_an_error(response, ending, ask):
    with pytest.raises(EgressError) as caught:
        ask(ending(response).url())
    assert caught.value.kind == "http_error"


def test_an_endless_trailer_is_an_error(ending, ask, clock):
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: 1\r\n" * 50_000
    with pytest.raises(EgressError) as caught:
        ask(ending(response).url()).read_all(clock)
    assert caught.value.kind == "http_error"


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + end


def test_chunks_that_came_at_once_are_one_piece(ending, ask, clock):
    pieces = [b"data: %d\n\n" % number for number in range(50)]
    answer = ask(ending(chunked(*pieces)).url())
    read = list(iter(lambda: answer.read(clock), b""))
    assert b"".join(read) == b"".join(pieces)
    assert len(read) < 10


def test_what_came_before_damage_is_read_before_the_error(ending, ask, clock):
    answer = ask(ending(chunked(b"one", b"two", end=b"no chunk\r\n")).url())
    read: list[bytes] = []
    with pytest.raises(EgressError) as caught:
        read.extend(iter(lambda: answer.read(clock), b""))
    assert (b"".join(read), caught.value.kind) == (b"onetwo", "http_error")


def test_an_answer_that_ends_early_is_an_error_after_what_came_of_it(ending, ask, clock):
    answer = ask(ending(chunked(b"one", b"two", end=b"")).url())
    read: list[bytes] = []
    with pytest.raises(EgressError):
        read.extend(iter(lambda: answer.read(clock), b""))
    assert b"".join(read) == b"onetwo"


def test_a_connection_whose_answer_was_left_at_its_end_has_the_next_one_whole(answering, ask, clock):
    server = answering(chunked(b"one", b"two"))
    for _ in range(3):
        answer = ask(server.url())
        first = answer.read(clock)
        assert b"onetwo".startswith(first)
        answer.close()
    assert ask(server.url()).read_all(clock) == b"onetwo"


def test_a_kept_connection_is_used_again(answering, ask, clock):
    server = answering()
    for _ in range(5):
        assert ask(server.url(), "POST", body=b"x").read_all(clock) == b"ok"
    assert server.connections == 1


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", id="one that says close"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", id="an old one"),
        pytest.param(
            OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", id="one with an answer to the next request"
        ),
    ],
)
def test_some_connections_are_not_used_again(response, answering, ask, clock):
    server = answering(response)
    for _ in range(2):
        assert ask(server.url()).read_all(clock) == b"ok"
    assert server.connections == 2


def test_an_answer_sent_ahead_of_its_question_is_never_read(serve, ask, clock):
    idle, forged = threading.Event(), threading.Event()

    def behave(peer):
        peer.request()
        peer.send(OK)
        if peer.number == 0:
            idle.wait(10)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
            forged.set()
        peer.hang()

    server = serve(behave)
    ask(server.url()).read_all(clock)
    idle.set()
    assert forged.wait(10)
    assert ask(server.url()).read_all(clock) == b"ok"
    assert server.connections == 2


def test_a_connection_that_ended_while_idle_is_replaced(serve, ask, clock):
    def behave(peer):
        for _ in range(2):
            if not peer.request():
                return
            peer.send(OK)
        peer.socket.close()

    server = serve(behave)
    for _ in range(2):
        ask(server.url(), "POST", body=b"x").read_all(clock)
    assert server.hung_up.wait(10)
    assert ask(server.url(), "POST", body=b"x").read_all(clock) == b"ok"
    assert server.connections == 2
