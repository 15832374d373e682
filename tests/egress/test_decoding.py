"""Compressed bodies: pieces of limited size, and a limit for the whole."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.egress import EgressError
from host.egress.decoding import Inflated, decoder

BOMB = gzip.compress(bytes(100_000_000), 9)  # 97 KB
MOST = 1_000_000


def bare(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def decoded(coding, pieces, size=65_536):
    inflated = decoder([coding], MOST)
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
        pytest.param("gzip", gzip.compress(b"x") + gzip.compress(b"y")[:9], id="broken off in its second member"),
        pytest.param("gzip", b"\x1f", id="one byte"),
        pytest.param("deflate", b"\xff\xff\xff", id="not deflate"),
        pytest.param("deflate", zlib.compress(b"x")[:1], id="one byte of deflate"),
        pytest.param("gzip, gzip", gzip.compress(b"x"), id="in one of two codings"),
    ],
)
def test_a_damaged_body_is_an_error(coding, packed):
    with pytest.raises(EgressError) as caught:
        decoded(coding, [packed])
    assert caught.value.kind == "http_error"


@pytest.mark.parametrize("behind", [b"", b"\0" * 512, b"\n", b"garbage", b"\x1f", b"\x1fgarbage"], ids=repr)
@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_what_stands_behind_a_compressed_body_is_passed_over(behind, cut):
    for coding, packed in (
        ("gzip", gzip.compress(b"one")),
        ("deflate", zlib.compress(b"one")),
        ("deflate", bare(b"one")),
    ):
        body = packed + behind
        assert decoded(coding, [body[at : at + cut] for at in range(0, len(body), cut)]) == b"one"


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        pytest.param("gzip, gzip", gzip.compress(gzip.compress(b"one" * 99)), id="twice in gzip"),
        pytest.param("deflate, GZIP", gzip.compress(zlib.compress(b"one" * 99)), id="deflate, then gzip"),
        pytest.param("gzip, deflate, identity", bare(gzip.compress(b"one" * 99)), id="gzip, then deflate"),
        pytest.param("utf-8, X-GZip", gzip.compress(b"one" * 99), id="gzip, and what is no coding"),
    ],
)
@pytest.mark.parametrize("size", [1, 1_000])
def test_a_body_may_be_in_several_codings(coding, packed, size):
    assert decoded(coding, [packed[:9], packed[9:]], size) == b"one" * 99


@pytest.mark.parametrize("codings", [["br"], ["zstd"], ["gzip", "br"], ["compress"], ["gzip"] * 6], ids=str)
def test_a_coding_that_cannot_be_read_is_refused(codings):
    with pytest.raises(EgressError) as caught:
        decoder(codings, MOST)
    assert caught.value.kind == "http_error"


@pytest.mark.parametrize(
    "codings",
    [[], [""], ["identity"], [" Identity , "], ["utf-8"], ["UTF-8"], ["none"], ["iso-8859-1, identity"], ["json"]],
    ids=str,
)
def test_no_coding_is_no_coding(codings):
    assert decoder(codings, MOST) is None


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


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param(gzip.compress(BOMB), id="a bomb in another coding"),
        pytest.param(gzip.compress(gzip.compress(b"") * 500_000), id="much that comes to nothing"),
    ],
)
def test_a_chained_gzip_bomb_stops_at_the_limit(layers, answering, ask, clock):
    answer = ask(answering(response(b"gzip, gzip", layers)).url(), limit=1_000_000)
    with pytest.raises(EgressError) as caught:
        answer.read_all(clock)
    assert caught.value.kind == "response_too_large"


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        pytest.param(b"br", b"\x0b\x02\x80", id="an unknown coding"),
        pytest.param(b"gzip", b"no gzip", id="a damaged body"),
        pytest.param(b"gzip", bytes(2_000_000), id="a body over the limit"),
    ],
)
def test_an_error_whose_body_cannot_be_read_is_an_answer_all_the_same(coding, body, answering, ask, clock):
    said = response(coding, body).replace(b"200 OK", b"429 Too Many Requests").replace(b"X-Other", b"Retry-After")
    answer = ask(answering(said).url())
    assert (answer.status, dict(answer.headers)["retry-after"]) == (429, "1")
    with pytest.raises(EgressError):
        answer.read_all(clock)
    assert answer.read(clock) == b""


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
