"""What the host reads in a provider's requests and answers: a table for each question, with a column for the provider."""

from __future__ import annotations

import json
from typing import Any

import pytest

from host.component.operations import OperationSpec
from host.errors import InputError
from host.service.dialects import Dialect, Tokens, openai

DIALECTS: dict[str, Dialect] = {"openai": openai}


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return DIALECTS[request.param]


# tokens


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
        pytest.param({"usage": {"prompt_tokens": 300.0, "completion_tokens": 0.5}}, Tokens(300, 1), id="of numbers with a fraction, rounded up"),
        pytest.param([], None, id="no object"),
        pytest.param({"response": "text"}, None, id="no response"),
    ],
)  # fmt: skip
def test_openai_counts_tokens(document: Any, tokens: Tokens | None) -> None:
    assert openai.tokens_of_document(document) == tokens
    assert openai.tokens_of_event(json.dumps(document, separators=(",", ":"))) == tokens


@pytest.mark.parametrize("text", ["", '"usage"', '{"usage": ', '{"usage":null}', '{"text": "usage"}'])
def test_an_event_that_says_nothing_costs_nothing(text: str, dialect: Dialect) -> None:
    assert dialect.tokens_of_event(text) is None


def test_a_stream_is_asked_to_say_what_it_costs() -> None:
    params, hidden = openai.asking_for_tokens("chat.completions.create", {"model": "m", "stream_options": {"a": 1}})
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
    assert openai.asking_for_tokens(operation, params) == (params, False)


def test_the_event_that_was_asked_for_is_known_by_having_no_choices() -> None:
    assert openai.only_counts('{"choices": [], "usage": {"total_tokens": 1}}')
    assert not openai.only_counts('{"choices": [{"delta": {}}], "usage": {"total_tokens": 1}}')
    assert not openai.only_counts('{"choices": []}')


def test_a_stream_that_did_not_say_is_estimated_and_never_at_nothing() -> None:
    assert Tokens.estimated(400, 25) == Tokens(101, 25)
    assert Tokens.estimated(0, 1).total > 0


def test_a_count_that_no_database_could_hold_is_bounded() -> None:
    most = openai.tokens_of_document({"usage": {"prompt_tokens": 10**400, "completion_tokens": 2**63, "total_tokens": 10**400}})  # fmt: skip
    assert most is not None
    assert 0 < most.total < 2**40


# text


@pytest.mark.parametrize(
    ("event", "text"),
    [
        pytest.param({"choices": [{"delta": {"content": "Hel"}}]}, "Hel", id="of a chat's chunk"),
        pytest.param({"choices": [{"text": "Hel"}, {"text": "lo"}]}, "Hel", id="of a completion's first choice"),
        pytest.param({"choices": [{"index": 1, "delta": {"content": "x"}}]}, "", id="of no other choice"),
        pytest.param({"type": "response.output_text.delta", "delta": "lo"}, "lo", id="of a response"),
        pytest.param({"type": "transcript.text.delta", "delta": "lo"}, "lo", id="of a transcription"),
        pytest.param({"type": "response.created", "delta": "lo"}, "", id="of no other event"),
        pytest.param({"choices": [{"delta": {"content": None}}, 3, {"delta": "x"}]}, "", id="of nothing that is none"),
        pytest.param("text", "", id="of no object"),
    ],
)
def test_openai_adds_text_by_events(event: Any, text: str) -> None:
    assert openai.text_of_event(event) == text


def test_gathered_events_and_their_text_come_out_again() -> None:
    events: list[Any] = [{"choices": [{"delta": {"content": one}}]} for one in ("Hel", "lo")]
    data = openai.gathered({"a": 1}, events)
    assert (data["a"], openai.text_of_document(data), openai.events_of(data)) == (1, "Hello", events)


def test_gathered_choices_are_not_mixed() -> None:
    said = [(1, "c"), (0, "a"), (1, "d"), (0, "b")]
    events: list[Any] = [{"choices": [{"index": at, "delta": {"content": one}}]} for at, one in said]
    assert openai.gathered({}, events) == {"chunks": events, "combined_text": "ab", "texts": ["ab", "cd"]}


@pytest.mark.parametrize("data", [None, [], "text", {}, {"chunks": 3, "combined_text": 3}])
def test_what_was_not_gathered_has_neither(data: Any, dialect: Dialect) -> None:
    assert (dialect.text_of_document(data), dialect.events_of(data)) == ("", [])


# models

CHAT = OperationSpec("chat", method="POST", path="/chat", request="json", parameters=("model",))
MODEL = OperationSpec("models.get", method="GET", path="/models/{model}", in_path=("model",))
FILES = OperationSpec("files.list", method="GET", path="/files")
FORM = OperationSpec("form", method="POST", path="/form", request="multipart", parameters=("model",))
OPEN = OperationSpec("open", method="POST", path="/open", request="json")


@pytest.mark.parametrize(
    ("path", "in_path", "params", "model"),
    [
        pytest.param("/chat", (), {"model": "m"}, "m", id="in the parameters"),
        pytest.param("/models/{model}", ("m",), {"model": "other"}, "m", id="in the path before that"),
        pytest.param("/chat", (), {}, None, id="nowhere"),
        pytest.param("/chat", (), {"model": ""}, None, id="an empty name is none"),
    ],
)
def test_openai_names_a_model(path: str, in_path: tuple[str, ...], params: Any, model: str | None) -> None:
    assert openai.model_of(path, in_path, params) == model


def test_a_model_is_a_string() -> None:
    with pytest.raises(InputError, match="model must be a string"):
        openai.model_of("/chat", (), {"model": 3})


@pytest.mark.parametrize(
    ("spec", "given", "named", "unseen"),
    [
        pytest.param(CHAT, {"model": "m"}, ["model"], False, id="a model that is named is seen"),
        pytest.param(CHAT, {}, [], True, id="one that is left out is not: the provider has a default"),
        pytest.param(FILES, {}, [], False, id="an operation that takes none names none"),
        pytest.param(OPEN, {}, [], True, id="one that does not say what it takes may take one"),
        pytest.param(MODEL, {"model": "m"}, ["model"], False, id="a path names one"),
        pytest.param(MODEL, {}, [], True, id="a path that names none is none of ours"),
        pytest.param(FORM, {"model": "m", "multipart": "x"}, ["model"], True, id="a form that is made ready hides its fields"),
        pytest.param(None, {"model_id": "m"}, ["model_id"], False, id="a whole input may name one"),
    ],
)  # fmt: skip
def test_openai_takes_a_model(spec: OperationSpec | None, given: Any, named: list[str], unseen: bool) -> None:
    assert openai.model_params(spec, given) == named
    assert openai.names_unseen(spec, given, True) is unseen


@pytest.mark.parametrize(
    ("document", "ids"),
    [
        pytest.param({"data": [{"id": "a"}, {"id": "b"}]}, ["a", "b"], id="each with its id"),
        pytest.param({"data": [{"id": ""}, {"id": 3}, {}, 3, {"id": "c"}]}, ["c"], id="without those that have none"),
        pytest.param({"data": 3}, [], id="no list"),
        pytest.param([], [], id="no object"),
        pytest.param([{"id": "a", "object": "model"}, {"id": "b"}], ["a", "b"], id="a bare list"),
        pytest.param(["a", "b", "", 3], ["a", "b"], id="a list of names"),
        pytest.param({"models": [{"name": "a:latest", "model": "a:latest", "size": 1}]}, ["a:latest"], id="as Ollama"),
        pytest.param({"models": [{"name": "models/a"}]}, ["a"], id="as Gemini"),
    ],
)
def test_openai_lists_models(document: Any, ids: list[str]) -> None:
    assert [one["id"] for one in openai.models_of(document)] == ids
