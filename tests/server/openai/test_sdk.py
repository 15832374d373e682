"""The official Python SDK against the gateway: by its `base_url` alone, for every operation of the catalyst's table."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pydantic
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


def chat_helper(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="gpt-4o-mini", messages=MESSAGES) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)
    assert final.choices[0].message.content


def responses_helper(client: openai.OpenAI) -> None:
    with client.responses.stream(model="gpt-4o-mini", input="Hello") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text
    with client.responses.stream(response_id=final.id, starting_after=2) as again:
        assert again.get_final_response().output_text == text


def structured(client: openai.OpenAI) -> None:
    class City(pydantic.BaseModel):
        name: str

    answered = client.responses.parse(model="gpt-4o-mini", input="A city", text_format=City)
    assert isinstance(answered.output_parsed, City)
    chosen = client.chat.completions.parse(model="gpt-4o-mini", messages=MESSAGES, response_format=City).choices[0]
    assert isinstance(chosen.message.parsed, City)


class Heard(openai.AssistantEventHandler):
    """An event handler of assistants that answers the tools which are asked for."""

    def __init__(self, client: openai.OpenAI) -> None:
        super().__init__()
        self.client = client
        self.called: list[str] = []
        self.text = ""

    def on_event(self, event: Any) -> None:
        self.called.append(event.event)

    def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        del snapshot
        self.text += delta.value or ""


def assistants(client: openai.OpenAI) -> None:
    tool: Any = {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
    }
    assistant = client.beta.assistants.create(model="gpt-4o", tools=[tool])
    thread = client.beta.threads.create(messages=MESSAGES)
    first, second = Heard(client), Heard(client)
    of_run = {"thread_id": thread.id, "assistant_id": assistant.id}
    with client.beta.threads.runs.stream(**of_run, tool_choice="required", event_handler=first) as stream:
        stream.until_done()
    assert "thread.run.requires_action" in first.called
    run = first.current_run
    assert run is not None
    assert run.required_action is not None
    outputs: Any = [
        {"tool_call_id": one.id, "output": "sunny"} for one in run.required_action.submit_tool_outputs.tool_calls
    ]
    with client.beta.threads.runs.submit_tool_outputs_stream(
        thread_id=thread.id, run_id=run.id, tool_outputs=outputs, event_handler=second
    ) as stream:
        stream.until_done()
    assert "thread.run.completed" in second.called
    assert second.text
    assert second.get_final_messages()[0].content


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
    chat_helper: {"chat.completions.create"},
    responses_helper: {"responses.create", "responses.retrieve"},
    structured: {"responses.create", "chat.completions.create"},
    assistants: {"beta.assistants.create", "beta.threads.create", "beta.threads.runs.create"},
    files: {"files.create", "files.list", "files.retrieve", "files.content", "files.delete"},
}


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda one: one.__name__)
def test_the_sdk_works_by_its_base_url_alone(
    client: openai.OpenAI, fake: FakeOpenAI, exercise: Callable[[openai.OpenAI], None]
) -> None:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # the SDK's own, of assistants
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
