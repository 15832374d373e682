"""What an answer says that it cost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from host.service.dialects.openai import (
    Tokens,
    asking_for_usage,
    estimated,
    only_tells_usage,
    tokens_in,
    tokens_in_text,
)


@pytest.mark.parametrize(
    ("document", "tokens"),
    [
        pytest.param({"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}, Tokens(3, 4), id="of a chat"),
        pytest.param({"usage": {"input_tokens": 3, "output_tokens": 4}}, Tokens(3, 4), id="of a response"),
        pytest.param({"type": "response.completed", "response": {"usage": {"input_tokens": 3}}}, Tokens(3, 0), id="of its last event"),
        pytest.param({"usage": {"total_tokens": 9}}, Tokens(9, 0), id="the sum alone"),
        pytest.param({"usage": {"prompt_tokens": 2, "total_tokens": 2}}, Tokens(2, 0), id="of embeddings"),
        pytest.param({"usage": None}, None, id="nothing"),
        pytest.param({"usage": {"prompt_tokens": -5, "completion_tokens": True}}, Tokens(0, 0), id="no counts"),
        pytest.param({"usage": {"prompt_tokens": 1e9}}, Tokens(0, 0), id="no whole numbers"),
        pytest.param([], None, id="no object"),
        pytest.param({"response": "text"}, None, id="no response"),
    ],
)  # fmt: skip
def test_a_document_says_what_it_cost(document: Any, tokens: Tokens | None) -> None:
    assert tokens_in(document) == tokens
    assert tokens_in_text(json.dumps(document, separators=(",", ":"))) == tokens


@pytest.mark.parametrize("text", ["", '"usage"', '{"usage": ', '{"usage":null}', '{"text": "usage"}'])
def test_an_event_that_says_nothing_costs_nothing(text: str) -> None:
    assert tokens_in_text(text) is None


def test_a_stream_is_asked_to_say_what_it_costs() -> None:
    params, hidden = asking_for_usage("chat.completions.create", {"model": "m", "stream_options": {"a": 1}})
    assert params == {"model": "m", "stream_options": {"a": 1, "include_usage": True}}
    assert hidden


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        pytest.param("chat.completions.create", {"stream_options": {"include_usage": True}}, id="one that is asked already"),
        pytest.param("responses.create", {}, id="one that says so unasked"),
    ],
)  # fmt: skip
def test_a_stream_is_not_asked_twice(operation: str, params: Any) -> None:
    assert asking_for_usage(operation, params) == (params, False)


def test_the_event_that_was_asked_for_is_known_by_having_no_choices() -> None:
    assert only_tells_usage('{"choices": [], "usage": {"total_tokens": 1}}')
    assert not only_tells_usage('{"choices": [{"delta": {}}], "usage": {"total_tokens": 1}}')
    assert not only_tells_usage('{"choices": []}')


def test_a_stream_that_did_not_say_is_estimated_and_never_at_nothing() -> None:
    assert estimated(400, 25) == Tokens(101, 25)
    assert estimated(0, 1).total > 0


def test_a_count_that_no_database_could_hold_is_bounded() -> None:
    most = tokens_in({"usage": {"prompt_tokens": 10**400, "completion_tokens": 2**63, "total_tokens": 10**400}})
    assert most is not None
    assert 0 < most.total < 2**40
