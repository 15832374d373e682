"""Server-sent events (WHATWG HTML, 9.2.6) and the answers that they make, cut anywhere."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.core.sse import AnswerReader, Comment, EventParser, ServerSentEvent, Texts, failure_of, value_of

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


def test_an_event_has_what_was_sent_with_it_and_nothing_of_others() -> None:
    sent = "event: a\nid: 1\nretry: 20\ndata: x\n\ndata: y\n\nid:\nretry: soon\ndata: z\n\nid: 4\n\nretry: 5\n\ndata: w\n\n"
    found = [item for item in EventParser().feed(sent) if isinstance(item, ServerSentEvent)]
    assert [(one.data, one.event, one.id, one.retry) for one in found] == [
        ("x", "a", "1", 20),
        ("y", None, None, None),
        ("z", None, "", None),
        ("w", None, "4", 5),
    ]
    assert [one.name for one in found] == ["a", "message", "message", "message"]


def read(text: str, *cuts: int, content_type: str = "text/event-stream") -> tuple[Any, ...]:
    """All that an AnswerReader tells of it."""
    reader, items = AnswerReader(content_type), []
    for a, b in pairwise([0, *sorted(cuts), len(text)]):
        items += reader.feed(text[a:b])
    items += reader.end()
    document = reader.text.lstrip("\ufeff \t\r\n") if reader.kind == "document" else None
    told = [
        (type(item), str(item), *(getattr(item, name, None) for name in ("event", "id", "retry"))) for item in items
    ]
    return told, reader.kind, document, reader.done, reader.failure, reader.cut, reader.odd, reader.ended


BITS = [
    "data: ", "data:", "data", "event: error", "event: done", "id: 1", ": ping", "[DONE]", "\n", "\n\n", "\r\n", "\r",
    '{"a":1}', '{"error":{"code":500}}', '{"type":"response.completed"}', "{", "[", '{"error":{"code":400}}', "<html>", "words", " ", "\ufeff", "null",
]  # fmt: skip
ANSWERS = st.lists(st.sampled_from(BITS), max_size=14).map("".join)
TYPES = st.sampled_from(["text/event-stream", "application/json", "text/plain", ""])


@given(text=ANSWERS, cuts=st.lists(st.integers(0, 60), max_size=6), content_type=TYPES)
def test_where_an_answer_is_cut_changes_nothing(text: str, cuts: list[int], content_type: str) -> None:
    """But for what the same piece brings after the end, which is not waited for."""
    whole = read(text, content_type=content_type)
    assert read(text, *[min(cut, len(text)) for cut in cuts], content_type=content_type) == whole


def test_comments_come_between_the_events() -> None:
    items = AnswerReader("text/event-stream").feed(": a\n\ndata: 1\n\n:\n: b\n\n")
    assert [(type(item), str(item)) for item in items] == [
        (Comment, "a"), (ServerSentEvent, "1"), (Comment, ""), (Comment, "b"),
    ]  # fmt: skip


def test_an_image_is_the_last_of_as_many_as_were_asked_for() -> None:
    reader = AnswerReader("text/event-stream", answers=2)
    for ended in (False, True):
        reader.feed('data: {"type":"image_generation.completed"}\n\n')
        assert reader.ended is ended


@pytest.mark.parametrize(
    ("document", "found"),
    [
        pytest.param({"error": {"message": "m"}}, (502, {"message": "m"}), id="an object"),
        pytest.param({"error": "m"}, (502, {"type": "upstream_error", "message": "m"}), id="words"),
        pytest.param({"error": "m", "status": 503}, (503, {"type": "upstream_error", "message": "m"}), id="a status beside"),
        pytest.param({"error": {"code": "429"}}, (429, {"code": "429"}), id="digits"),
        pytest.param({"error": {"code": "x", "status": 404}}, (404, {"code": "x", "status": 404}), id="the first status"),
        pytest.param({"error": {"code": 200}}, (502, {"code": 200}), id="a status of no error"),
        pytest.param({"error": {"code": True}}, (502, {"code": True}), id="no number"),
        pytest.param({"error": [{"code": 400}]}, (400, {"code": 400}), id="a list in it"),
        pytest.param([{"a": 1}, {"error": {"code": 400}}], (400, {"code": 400}), id="within a list"),
        pytest.param({"type": "error", "code": 418}, (418, {"type": "error", "code": 418}), id="a type"),
        pytest.param({"object": "error", "code": 418}, (418, {"object": "error", "code": 418}), id="an object's name"),
        pytest.param(
            {"type": "error", "error": {"type": "overloaded_error"}}, (502, {"type": "overloaded_error"}), id="Anthropic's"
        ),
        pytest.param(
            {"type": "response.failed", "response": {"error": None}},
            (502, {"type": "upstream_error", "message": "the answer failed"}),
            id="a failure without words",
        ),
        *[
            pytest.param(one, None, id=f"none: {one}")
            for one in ({}, [], 3, None, "error", {"error": None}, {"error": {}}, {"error": ""}, {"error": False})
        ],
        pytest.param({"object": "response", "error": {"code": 400}}, None, id="none: a response that tells its error"),
        pytest.param({"choices": [{"error": {"code": 400}}]}, None, id="none: one further in"),
    ],
)  # fmt: skip
def test_what_reports_an_error(document: Any, found: tuple[int, dict[str, Any]] | None) -> None:
    assert failure_of(document) == found


def test_a_value_holds_nothing_that_a_result_cannot() -> None:
    assert value_of('{"a": [NaN, -Infinity, 1e400, 1.5, "\t"]}') == {"a": ["NaN", "-Infinity", "1e400", 1.5, "\t"]}
    for levels in (149, 150, 5_000):
        text = "[" * levels + "]" * levels
        found, depth = value_of(f'{{"s": "{{[", "v": {text}}}'), 0
        assert found.pop("s") == "{["
        while isinstance(found, list | dict) and found:
            found, depth = next(iter(found.values() if isinstance(found, dict) else found)), depth + 1
        assert depth <= 150
        assert found == ([] if levels == 149 else text[149:-149] + "")
    assert value_of("[" * 5_000) is value_of("]" * 500) is value_of('{"a": ') is None


def test_texts_stand_by_choice_and_part() -> None:
    texts = Texts()
    for choice, text, part in (
        (1, "x", (0, 0)),
        (0, "c", (1, 0)),
        (0, "b", (0, 1)),
        (0, "a", (0, 0)),
        (1, "y", (0, 0)),
    ):
        texts.add(choice, text, part)
    assert (texts.first, texts.each) == ("abc", ["abc", "xy"])
    assert (Texts().first, Texts().each) == ("", [])
