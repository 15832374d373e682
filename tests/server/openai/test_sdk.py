"""The official Python SDK against the gateway: by its `base_url` alone, for every operation of the catalyst's table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from host.component.manifest import Manifest
from host.fakes import FakeOpenAI
from tests.conftest import KEY, ROOT
from tests.server.conftest import Server

MESSAGES: Any = [{"role": "user", "content": "Say hello"}]
SPEECH = b"RIFF0000WAVEfmt "


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any-key", max_retries=0) as one:
        yield one


def chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, temperature=0.5)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0


def chat_streamed(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True))
    assert len(chunks) > 2
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)


def completions(client: openai.OpenAI) -> None:
    assert client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Once").choices[0].text


def completions_streamed(client: openai.OpenAI) -> None:
    chunks = client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Once", stream=True)
    assert "".join(one.choices[0].text for one in chunks if one.choices)


def responses(client: openai.OpenAI) -> None:
    made = client.responses.create(model="gpt-4o-mini", input="Hello")
    assert made.output_text
    assert client.responses.retrieve(made.id).id == made.id
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def responses_streamed(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model="gpt-4o-mini", input="Hello", stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    text = "".join(one.delta for one in events if one.type == "response.output_text.delta")
    assert text == events[-1].response.output_text


def models(client: openai.OpenAI) -> None:
    assert "gpt-4o-mini" in [one.id for one in client.models.list()]
    assert client.models.retrieve("gpt-4o-mini").id == "gpt-4o-mini"


def embeddings(client: openai.OpenAI) -> None:
    made = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"], dimensions=8)
    assert [len(one.embedding) for one in made.data] == [8, 8]


def moderations(client: openai.OpenAI) -> None:
    assert client.moderations.create(input="hello").results[0].flagged is False


def images(client: openai.OpenAI) -> None:
    made = client.images.generate(model="gpt-image-1", prompt="a cat", response_format="b64_json")
    assert made.data
    assert made.data[0].b64_json


def speech(client: openai.OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(model="tts-1", voice="alloy", input="Hello") as answer:
        assert answer.headers["content-type"] == "audio/mpeg"
        assert len(answer.read()) > 100


def transcriptions(client: openai.OpenAI) -> None:
    made = client.audio.transcriptions.create(model="whisper-1", file=("speech.wav", SPEECH, "audio/wav"))
    assert made.text


def transcriptions_as_text(client: openai.OpenAI) -> None:
    made = client.audio.transcriptions.create(
        model="whisper-1", file=("speech.wav", SPEECH, "audio/wav"), response_format="text"
    )
    assert isinstance(made, str)
    assert made.strip()


def transcriptions_streamed(client: openai.OpenAI) -> None:
    events = list(
        client.audio.transcriptions.create(
            model="gpt-4o-transcribe", file=("speech.wav", SPEECH, "audio/wav"), stream=True
        )
    )
    assert events[-1].type == "transcript.text.done"


def translations(client: openai.OpenAI) -> None:
    with pytest.warns(DeprecationWarning, match="deprecated"):  # the SDK's own
        assert client.audio.translations.create(model="whisper-1", file=("speech.wav", SPEECH, "audio/wav")).text


def files(client: openai.OpenAI) -> None:
    made = client.files.create(file=("notes.jsonl", b'{"a": 1}\n'), purpose="batch")
    assert made.filename == "notes.jsonl"
    assert client.files.retrieve(made.id).bytes == 9
    assert client.files.content(made.id).read() == b'{"a": 1}\n'
    assert made.id in [one.id for one in client.files.list(limit=5)]
    assert client.files.delete(made.id).deleted


EXERCISES: dict[Callable[[openai.OpenAI], None], set[str]] = {
    chat: {"chat.completions.create"},
    chat_streamed: {"chat.completions.create"},
    completions: {"completions.create"},
    completions_streamed: {"completions.create"},
    responses: {"responses.create", "responses.retrieve", "responses.delete"},
    responses_streamed: {"responses.create"},
    models: {"models.list", "models.retrieve"},
    embeddings: {"embeddings.create"},
    moderations: {"moderations.create"},
    images: {"images.generate"},
    speech: {"audio.speech.create"},
    transcriptions: {"audio.transcriptions.create"},
    transcriptions_as_text: {"audio.transcriptions.create"},
    transcriptions_streamed: {"audio.transcriptions.create"},
    translations: {"audio.translations.create"},
    files: {"files.create", "files.list", "files.retrieve", "files.content", "files.delete"},
}


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda one: one.__name__)
def test_the_sdk_works_by_its_base_url_alone(
    client: openai.OpenAI, fake: FakeOpenAI, exercise: Callable[[openai.OpenAI], None]
) -> None:
    exercise(client)
    assert {request["headers"]["authorization"] for request in fake.requests} == {f"Bearer {KEY}"}


def test_what_is_exercised_is_an_operation() -> None:
    manifest = Manifest.beside(ROOT / "catalyst/openai")
    assert manifest is not None
    assert set().union(*EXERCISES.values()) <= set(manifest.operations)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_an_upstreams_error_is_the_sdks_error(
    client: openai.OpenAI, fake: FakeOpenAI, status: int, error: type[openai.APIStatusError], stream: bool
) -> None:
    fake.fail_next(status, headers={"retry-after": "7"} if status == 429 else {})
    with pytest.raises(error) as raised:
        client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=stream)
    assert raised.value.status_code == status
    assert raised.value.body
    assert raised.value.response.headers.get("retry-after") == ("7" if status == 429 else None)
