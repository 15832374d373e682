"""Server-sent events (WHATWG HTML, 9.2.6), cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.core.sse import EventParser, ServerSentEvent

TABLE = [
    pytest.param("data: a\n\n", ["a"], id="one event"),
    pytest.param("data:a\n\ndata:  b\n\n", ["a", " b"], id="one blank after the colon is dropped"),
    pytest.param("data: a\ndata: b\n\n", ["a\nb"], id="several data lines are joined"),
    pytest.param("data: a\r\n\r\ndata: b\r\r", ["a", "b"], id="every kind of line end"),
    pytest.param(": comment\nevent: x\nid: 7\nretry: 5\ndata: a\n\n", ["a"], id="other fields are passed over"),
    pytest.param("\ufeffdata: a\n\n", ["a"], id="a byte order mark at the beginning"),
    pytest.param("data: a\n\n\ufeffdata: b\n\n", ["a"], id="a byte order mark elsewhere is part of a name"),
    pytest.param("event: x\n\n", [], id="an event without data is none"),
    pytest.param("data\n\n", [""], id="a field without a colon has an empty value"),
    pytest.param("data:\ndata:\n\n", ["\n"], id="empty lines of data"),
    pytest.param("datax: a\n\nxdata: b\n\n", [], id="names that only look like it"),
    pytest.param("\n\n\n", [], id="nothing but line ends"),
    pytest.param(
        "data: a\u2028b\x85c\x0bd\n\n", ["a\u2028b\x85c\x0bd"], id="other line separators of Unicode are text"
    ),
    pytest.param("data: [DONE]\n\n", ["[DONE]"], id="what a provider ends with is data here"),
]


def fed(parser: EventParser, text: str) -> list[str]:
    return [item.data for item in parser.feed(text) if isinstance(item, ServerSentEvent)]


def ended(parser: EventParser) -> list[str]:
    last = parser.end()
    return [] if last is None else [last.data]


def parsed(*pieces: str) -> list[str]:
    parser = EventParser()
    return [*(event for piece in pieces for event in fed(parser, piece)), *ended(parser)]


@pytest.mark.parametrize(("text", "events"), TABLE)
def test_whole(text: str, events: list[str]) -> None:
    assert parsed(text) == events


@pytest.mark.parametrize(("text", "events"), TABLE)
def test_cut_into_characters(text: str, events: list[str]) -> None:
    assert parsed(*text) == events


@given(text=st.text(alphabet="dat:a \r\n\ufeff") | st.text(), cuts=st.lists(st.integers(0, 60), max_size=8))
def test_where_it_is_cut_changes_nothing(text: str, cuts: list[int]) -> None:
    marks = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    assert parsed(*[text[a:b] for a, b in pairwise(marks)]) == parsed(text)


def test_an_event_is_out_as_soon_as_its_blank_line_is_in() -> None:
    parser = EventParser()
    assert fed(parser, "data: a\n") == []
    assert fed(parser, "\n") == ["a"]
    assert fed(parser, "data: b\n\ndata: c\n\ndata: ") == ["b", "c"]


def test_a_last_event_without_its_blank_line_is_kept() -> None:
    parser = EventParser()
    assert fed(parser, "data: a\n\ndata: b") == ["a"]
    assert ended(parser) == ["b"]
    assert ended(parser) == []
