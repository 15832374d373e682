from hypothesis import given
from hypothesis import strategies as st

from host.fakes.messages import Delivery, Request, encoded

EVENTS = st.lists(st.binary(min_size=1, max_size=9), max_size=6)


@given(EVENTS, st.integers(0, 60))
def test_a_body_cut_after_bytes_is_a_beginning_of_it(events, count):
    whole = b"".join(events)
    assert b"".join(Delivery(cut_after_bytes=count).pieces(events)) == whole[:count]


@given(EVENTS, st.integers(0, 8))
def test_a_body_cut_after_events_has_the_first_of_them(events, count):
    assert list(Delivery(cut_after_events=count).pieces(events)) == events[:count]


@given(EVENTS)
def test_a_dripped_body_is_the_same_in_single_bytes(events):
    pieces = list(Delivery(drip_s=0.0).pieces(events))
    assert b"".join(pieces) == b"".join(events)
    assert all(len(piece) == 1 for piece in pieces)


def test_an_endless_body_is_taken_as_it_comes():
    def endless():
        while True:
            yield b"ab"

    assert list(Delivery(cut_after_bytes=5).pieces(endless())) == [b"ab", b"ab", b"a"]


def test_json_is_raw_utf_8_with_lone_surrogates_escaped():
    assert encoded(["東京", "\ud800"]) == '["東京","\\ud800"]'.encode()


def test_a_target_is_split_and_left_encoded():
    request = Request.read("GET", "//a%2Fb/c?x=%20&x=+#f", {}, b"", "http://127.0.0.1:1")
    assert (request.path, request.query) == ("//a%2Fb/c", "x=%20&x=+#f")
    absolute = Request.read("GET", "http://else.where:1?a=b", {}, b"", "http://127.0.0.1:1")
    assert (absolute.path, absolute.arguments) == ("/", {"a": "b"})
