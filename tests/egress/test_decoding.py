"""Compressed bodies: pieces of limited size, and a limit for the whole."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.egress import EgressError
from host.egress.decoding import Inflated, decoder

BOMB = gzip.compress(bytes(100_000_000), 9)  # 97 KB


def bare(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def decoded(coding, pieces, size=65_536):
    inflated = decoder([coding])
    out = []
    for piece in pieces:
        inflated.feed(piece)
        while taken := inflated.take(size):
            assert len(taken) <= size
            out.append(taken)
    inflated.finish()
    return b"".join(out)


def response(coding, body):
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: " + coding + b"\r\nContent-Length: " + str(len(body)).encode()
    return head + b"\r\nX-Other: 1\r\n\r\n" + body


@pytest.mark.parametrize(
    ("coding", "pack"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", bare)],
)
@given(data=st.binary(max_size=5_000), cut=st.integers(1, 50), size=st.integers(1, 300))
def test_what_was_packed_is_unpacked_however_it_is_cut(coding, pack, data, cut, size):
    packed = pack(data)
    assert decoded(coding, [packed[at : at + cut] for at in range(0, len(packed), cut)], size) == data


def test_a_gzip_body_may_have_several_members():
    assert decoded("gzip", [gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two")]) == b"onetwo"


def test_an_empty_body_is_an_empty_body_in_any_coding():
    assert decoded("gzip", []) == decoded("deflate", [b""]) == b""


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        pytest.param("gzip", b"not gzip at all", id="not compressed"),
        pytest.param("gzip", gzip.compress(b"x" * 1_000)[:-6], id="broken off"),
        pytest.param("gzip", gzip.compress(b"x")[:5], id="broken off in its header"),
        pytest.param("gzip", gzip.compress(b"x")[:-8] + b"\x00" * 8, id="with a wrong checksum"),
        pytest.param("gzip", gzip.compress(b"x") + b"garbage", id="with garbage behind it"),
        pytest.param("deflate", zlib.compress(b"x") + b"more", id="deflate with more behind it"),
        pytest.param("deflate", b"\xff\xff\xff", id="not deflate"),
    ],
)
def test_a_damaged_body_is_an_error(coding, packed):
    with pytest.raises(EgressError) as caught:
        decoded(coding, [packed])
    assert caught.value.kind == "http_error"


@pytest.mark.parametrize(
    "codings", [["br"], ["zstd"], ["gzip, gzip"], ["gzip", "gzip"], ["gzip, deflate"], ["compress"], ["GZIP,gzip"]]
)
def test_a_coding_that_was_not_asked_for_is_refused(codings):
    with pytest.raises(EgressError):
        decoder(codings)


@pytest.mark.parametrize("codings", [[], [""], ["identity"], [" Identity , "]])
def test_no_coding_is_no_coding(codings):
    assert decoder(codings) is None


def test_plain_bytes_pass_as_they_are(answering, ask, clock):
    answer = ask(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").url())
    assert (answer.read(clock, 2), answer.read(clock, 2), answer.read(clock, 2)) == (b"ab", b"c", b"")


def test_a_decoded_answer_has_neither_its_coding_nor_its_length(answering, ask, clock):
    answer = ask(answering(response(b"gzip", gzip.compress(b"hello"))).url())
    assert answer.headers == (("x-other", "1"),)
    assert answer.read_all(clock) == b"hello"


def test_a_gzip_bomb_stops_at_the_limit(answering, ask, clock):
    answer = ask(answering(response(b"gzip", BOMB)).url(), limit=1_000_000)
    pieces = []
    with pytest.raises(EgressError) as caught:
        pieces.extend(iter(lambda: answer.read(clock), b""))
    assert caught.value.kind == "response_too_large"
    assert sum(map(len, pieces)) <= 1_000_000


def test_a_chained_gzip_bomb_is_not_unpacked_at_all(answering, ask):
    server = answering(response(b"gzip, gzip", gzip.compress(BOMB)))
    with pytest.raises(EgressError) as caught:
        ask(server.url())
    assert caught.value.kind == "http_error"


def test_a_gzip_bomb_is_given_in_pieces(answering, ask, clock):
    answer = ask(answering(response(b"gzip", BOMB)).url(), limit=1_000_000)
    assert len(answer.read(clock, 1_000)) == 1_000
    answer.close()


def test_a_reader_that_asks_for_everything_gets_no_more_unpacked_than_the_limit(answering, ask, clock, monkeypatch):
    asked = []

    def take(self, size, unpack=Inflated.take):
        asked.append(size)
        return unpack(self, size)

    monkeypatch.setattr(Inflated, "take", take)
    with pytest.raises(EgressError) as caught:
        ask(answering(response(b"gzip", BOMB)).url(), limit=1_000_000).read(clock, 1_000_000_000)
    assert caught.value.kind == "response_too_large"
    assert max(asked) == 1_000_001
