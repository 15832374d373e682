"""Every answer and every event is what the official SDK's models say, and every parameter has its type."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import httpx2
import pytest
from openai import types as sdk
from openai.types import audio, chat, responses
from openai.types.chat import ChatCompletionChunk

from host.fakes.openai import parameters
from tests.conftest import openai_manifest
from tests.fakes.openai.strictness import mistakes

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
RESPONSE = {"model": "gpt-4o-mini", "input": "Say hello"}
FLAT_TOOL = {
    "type": "function",
    "name": "weather",
    "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
PICTURE = {"model": "gpt-image-1", "prompt": "a cat"}


def posted(path: str, body: Any) -> Callable[[httpx2.Client], httpx2.Response]:
    return lambda http: http.post(f"/v1{path}", json=body)


def spoken(path: str, **fields: str) -> Callable[[httpx2.Client], httpx2.Response]:
    files = {"file": ("a.mp3", b"sound", "audio/mpeg")}
    return lambda http: http.post(f"/v1{path}", data={"model": "gpt-4o-transcribe", **fields}, files=files)


def a_file(then: str = "", method: str = "GET", **fields: str) -> Callable[[httpx2.Client], httpx2.Response]:
    """An answer about a file that was just made; without `then`, of its making."""

    def ask(http: httpx2.Client) -> httpx2.Response:
        made = http.post("/v1/files", data={"purpose": "user_data", **fields}, files={"file": ("a.txt", b"a")})
        return http.request(method, then.format(made.json()["id"])) if then else made

    return ask


def a_response(then: str, method: str = "GET", **more: Any) -> Callable[[httpx2.Client], httpx2.Response]:
    def ask(http: httpx2.Client) -> httpx2.Response:
        made = http.post("/v1/responses", json={**RESPONSE, **more}).json()
        return http.request(method, then.format(made["id"]))

    return ask


ANSWERS: dict[str, tuple[Callable[[httpx2.Client], httpx2.Response], Any]] = {
    "chat": (posted("/chat/completions", CHAT), chat.ChatCompletion),
    "chat with choices and log probabilities": (
        posted("/chat/completions", {**CHAT, "n": 2, "logprobs": True, "top_logprobs": 2}), chat.ChatCompletion,
    ),
    "chat with a tool": (posted("/chat/completions", {**CHAT, "tools": [TOOL], "tool_choice": "required"}), chat.ChatCompletion),
    "completions": (posted("/completions", {"model": "m", "prompt": "Once", "logprobs": 2}), sdk.Completion),
    "responses": (posted("/responses", RESPONSE), responses.Response),
    "responses with a user": (posted("/responses", {**RESPONSE, "user": "u", "max_output_tokens": 16}), responses.Response),
    "responses with a tool": (posted("/responses", {**RESPONSE, "tools": [FLAT_TOOL], "tool_choice": "required"}), responses.Response),
    "responses, again": (a_response("/v1/responses/{}"), responses.Response),
    "embeddings": (posted("/embeddings", {"model": "m", "input": "a", "dimensions": 3}), sdk.CreateEmbeddingResponse),
    "moderations": (posted("/moderations", {"input": "I hate you"}), sdk.ModerationCreateResponse),
    "images by URL": (posted("/images/generations", {"prompt": "a cat"}), sdk.ImagesResponse),
    "images by bytes": (posted("/images/generations", PICTURE), sdk.ImagesResponse),
    "transcriptions": (spoken("/audio/transcriptions"), audio.Transcription),
    "transcriptions in full": (
        spoken("/audio/transcriptions", response_format="verbose_json", **{"timestamp_granularities[]": "word"}),
        audio.TranscriptionVerbose,
    ),
    "translations": (spoken("/audio/translations"), audio.Translation),
    "files.create": (a_file(), sdk.FileObject),
    "files.create with an end": (a_file(**{"expires_after[seconds]": "3600", "expires_after[anchor]": "created_at"}), sdk.FileObject),
    "files.retrieve": (a_file("/v1/files/{}"), sdk.FileObject),
    "files.delete": (a_file("/v1/files/{}", "DELETE"), sdk.FileDeleted),
    "models.retrieve": (lambda http: http.get("/v1/models/gpt-4o"), sdk.Model),
}  # fmt: skip

LISTS: dict[str, tuple[Callable[[httpx2.Client], httpx2.Response], Any]] = {
    "models.list": (lambda http: http.get("/v1/models"), sdk.Model),
    "files.list": (a_file("/v1/files"), sdk.FileObject),
    "responses.input_items": (a_response("/v1/responses/{}/input_items"), responses.ResponseItem),
}

STREAMS: dict[str, tuple[Callable[[httpx2.Client], httpx2.Response], Any]] = {
    "chat": (posted("/chat/completions", {**CHAT, "stream": True}), ChatCompletionChunk),
    "chat with usage": (
        posted("/chat/completions", {**CHAT, "stream": True, "n": 2, "stream_options": {"include_usage": True}}), ChatCompletionChunk,
    ),
    "chat with a tool": (
        posted("/chat/completions", {**CHAT, "stream": True, "tools": [TOOL], "tool_choice": "required"}), ChatCompletionChunk,
    ),
    "completions": (posted("/completions", {"model": "m", "prompt": "Once", "stream": True}), sdk.Completion),
    "responses": (posted("/responses", {**RESPONSE, "stream": True}), responses.ResponseStreamEvent),
    "responses with a tool": (
        posted("/responses", {**RESPONSE, "stream": True, "tools": [FLAT_TOOL], "tool_choice": "required"}), responses.ResponseStreamEvent,
    ),
    "responses, again": (a_response("/v1/responses/{}?stream=true"), responses.ResponseStreamEvent),
    "images": (posted("/images/generations", {**PICTURE, "stream": True, "partial_images": 2}), sdk.ImageGenStreamEvent),
    "transcriptions": (spoken("/audio/transcriptions", stream="true"), audio.TranscriptionStreamEvent),
}  # fmt: skip


@pytest.mark.parametrize("of", ANSWERS)
def test_an_answer_is_what_the_sdk_s_model_says(http: httpx2.Client, of: str) -> None:
    ask, kind = ANSWERS[of]
    answer = ask(http)
    assert answer.status_code == 200, answer.text
    assert mistakes(answer.json(), kind) == []


@pytest.mark.parametrize("of", LISTS)
def test_each_item_of_a_list_is_what_the_sdk_s_model_says(http: httpx2.Client, of: str) -> None:
    ask, kind = LISTS[of]
    found = ask(http).json()
    assert found["object"] == "list"
    assert found["data"]
    for one in found["data"]:
        assert mistakes(one, kind) == []


@pytest.mark.parametrize("of", STREAMS)
def test_each_event_of_a_stream_is_what_the_sdk_s_model_says(http: httpx2.Client, of: str) -> None:
    ask, kind = STREAMS[of]
    answer = ask(http)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert events
    for one in events:
        if kind is sdk.Completion:  # whose pieces have null, as those of chats
            one["choices"] = [
                {**choice, "finish_reason": choice["finish_reason"] or "stop"} for choice in one["choices"]
            ]
        found = [words for words in mistakes(one, kind) if words != ".usage is null"]  # of chunks before the last
        assert found == []
    kinds = {one.get("type") for one in events} - {None}
    if kinds:
        assert kinds <= {
            name for member in get_args(get_args(kind)[0]) for name in get_args(member.model_fields["type"].annotation)
        }


def test_a_stored_response_can_be_read_again_from_any_event_on(http: httpx2.Client) -> None:
    whole = a_response("/v1/responses/{}?stream=true")(http).text
    rest = a_response("/v1/responses/{}?stream=true&starting_after=3")(http).text
    numbers = [json.loads(line[6:])["sequence_number"] for line in rest.splitlines() if line.startswith("data: ")]
    assert numbers == list(range(4, whole.count("data: ")))


def test_images_are_streamed_as_parts_and_whole(http: httpx2.Client) -> None:
    answer = http.post("/v1/images/generations", json={**PICTURE, "stream": True, "partial_images": 2, "n": 2})
    named = [
        line.removeprefix("event: image_generation.") for line in answer.text.splitlines() if line.startswith("event")
    ]
    assert named == ["partial_image", "partial_image", "completed"] * 2


# types

OPERATIONS = openai_manifest().operations
BODIES = {
    "chat.completions.create": (CHAT, parameters.CHAT),
    "completions.create": ({"model": "m", "prompt": "Once"}, parameters.COMPLETIONS),
    "responses.create": (RESPONSE, parameters.RESPONSES),
    "embeddings.create": ({"model": "m", "input": "a"}, parameters.EMBEDDINGS),
    "moderations.create": ({"input": "a"}, parameters.MODERATIONS),
    "images.generate": ({"prompt": "a cat"}, parameters.IMAGES),
    "audio.speech.create": ({"model": "tts-1", "input": "a", "voice": "alloy"}, parameters.SPEECH),
}
VALUES = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "array": [1], "object": {"a": []}}


def types_of(schema: Any) -> set[str]:
    given = schema.get("type", "string")
    found = {given} if isinstance(given, str) else set(given)
    return found | ({"integer"} if "number" in found else set())


@pytest.mark.parametrize("name", BODIES)
def test_every_parameter_of_the_catalyst_is_known_by_its_type(name: str) -> None:
    known = {one for names in BODIES[name][1].values() for one in names.split()}
    assert known == OPERATIONS[name].params["properties"].keys()


@pytest.mark.parametrize("name", BODIES)
def test_a_value_of_another_type_is_refused_as_openai_does(http: httpx2.Client, name: str) -> None:
    spec, (body, _) = OPERATIONS[name], BODIES[name]
    tried = 0
    for param, schema in spec.params["properties"].items():
        for kind, value in VALUES.items():
            if kind in types_of(schema):
                continue
            answer = http.post(f"/v1{spec.path}", json={**body, param: value})
            error = answer.json().get("error", {})
            told = (answer.status_code, error.get("type"), error.get("param"), error.get("code"))
            assert told == (400, "invalid_request_error", param, "invalid_type"), (param, kind, answer.text[:200])
            assert error["message"].startswith(f"Invalid type for '{param}': expected a"), error["message"]
            assert error["message"].endswith(" instead.")
            tried += 1
    assert tried > 5


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({**CHAT, "user": {}}, "Invalid type for 'user': expected a string, but got an object instead."),
        ({**CHAT, "metadata": {"a": 1}}, "Invalid type for 'metadata.a': expected a string, but got an integer instead."),
        ({**CHAT, "n": "2"}, "Invalid type for 'n': expected an integer, but got a string instead."),
        ({**CHAT, "temperature": "hot"}, "Invalid type for 'temperature': expected a decimal number, but got a string instead."),
        (
            {**CHAT, "stream": True, "stream_options": {"include_usage": "yes"}},
            "Invalid type for 'stream_options.include_usage': expected a boolean, but got a string instead.",
        ),
    ],
)  # fmt: skip
def test_the_words_for_a_wrong_type(http: httpx2.Client, body: Any, said: str) -> None:
    answer = http.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, said)


@pytest.mark.parametrize("name", BODIES)
def test_null_stands_for_a_parameter_that_is_not_given(http: httpx2.Client, name: str) -> None:
    spec, (body, _) = OPERATIONS[name], BODIES[name]
    nulls = dict.fromkeys(spec.params["properties"].keys() - body.keys())
    assert http.post(f"/v1{spec.path}", json={**body, **nulls}).status_code == 200


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/x"), ("GET", "/v1/chat"), ("DELETE", "/v2/models")])
def test_an_unknown_url_is_refused_in_openai_s_words(http: httpx2.Client, method: str, path: str) -> None:
    answer = http.request(method, path)
    expected = {
        "message": f"Invalid URL ({method} {path})",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    assert (answer.status_code, answer.json()) == (404, {"error": expected})
