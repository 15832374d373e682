from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings, strategies

TEXT = "\ufeff: hello\nevent: delta\ndata: one\ndata: zwölf 🐈\n\nid: 7\r\ndata:{}\r\n\r\ndata: x\r\rdata: [DONE]\n\n"
EVENTS = [("one\nzwölf 🐈", "delta", None), ("{}", "message", "7"), ("x", "message", None), ("[DONE]", "message", None)]


@pytest.fixture
def sse(guest):
    return guest("catalyst.sdk.sse")


def parsed(sse, *pieces):
    return [(event.data, event.name, event.id) for event in sse.events(pieces)]


@pytest.mark.parametrize("cut", range(len(TEXT) + 1))
def test_a_stream_means_the_same_wherever_it_is_cut(sse, cut):
    assert parsed(sse, TEXT[:cut], TEXT[cut:]) == EVENTS


def test_a_stream_may_come_character_by_character_with_empty_pieces_between(sse):
    assert parsed(sse, *(piece for character in TEXT for piece in (character, ""))) == EVENTS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=strategies.text("da:t \r\nevid\ufeff\0x", max_size=60),
    cuts=strategies.lists(strategies.integers(0, 60), max_size=5),
)
def test_any_text_means_the_same_however_it_is_cut(sse, text, cuts):
    edges = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    assert parsed(sse, *pieces) == parsed(sse, text)


@pytest.mark.parametrize(
    ("text", "events"),
    [
        pytest.param("data: a\n\n", [("a", "message", None)], id="a line feed ends a line"),
        pytest.param("data: a\r\n\r\n", [("a", "message", None)], id="so does a carriage return with a line feed"),
        pytest.param("data: a\r\r", [("a", "message", None)], id="so does a carriage return alone"),
        pytest.param("data: a\r\ndata: b\r\n\r\n", [("a\nb", "message", None)], id="both together are one line end"),
        pytest.param(
            "data:a\ndata: b\ndata:  c\n\n", [("a\nb\n c", "message", None)], id="one leading blank is dropped"
        ),
        pytest.param("data\n\n", [("", "message", None)], id="a field without a colon has an empty value"),
        pytest.param(":\n: ping\ndata: a\n\n", [("a", "message", None)], id="comments are skipped"),
        pytest.param("event: x\n\ndata: a\n\n", [("a", "message", None)], id="an event without data is none"),
        pytest.param(
            "id: 1\ndata: a\n\ndata: b\n\n",
            [("a", "message", "1"), ("b", "message", None)],
            id="an id belongs to its event",
        ),
        pytest.param("id: 1\0\ndata: a\n\n", [("a", "message", None)], id="an id with a NUL is ignored"),
        pytest.param("retry: 5\nfoo: b\ndata: a\n\n", [("a", "message", None)], id="other fields are ignored"),
        pytest.param("\ufeffdata: a\n\n", [("a", "message", None)], id="a byte order mark opens the stream"),
        pytest.param("data: a\n\n\ufeffdata: b\n\n", [("a", "message", None)], id="later it is part of a field's name"),
        pytest.param("data: a", [("a", "message", None)], id="an event cut off by the end is still seen"),
        pytest.param("data: a\nda", [("a", "message", None)], id="and so is one whose last line is half a field"),
        pytest.param("id: 1\n\ndata: a\n\n", [("a", "message", "1")], id="an id alone goes with the next event"),
        pytest.param("data: a\n", [("a", "message", None)], id="an event that lacks only its blank line is whole"),
        pytest.param("", [], id="nothing is no event"),
    ],
)
def test_the_standard_is_followed(sse, text, events):
    assert parsed(sse, text) == events
