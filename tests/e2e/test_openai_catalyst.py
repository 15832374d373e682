"""Every operation of the OpenAI catalyst, as the component that is shipped, compared with the official SDK."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from host import Attachment, Catalyst, Host, Policy, errors
from host.fakes import FakeOpenAI
from tests.conftest import KEY

MESSAGES = [{"role": "user", "content": "Say hello in 20 words"}]
BINARY = bytes(range(256)) * 40
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def catalyst(host: Host, openai_file: Path, fake: FakeOpenAI) -> Catalyst:
    policy = Policy(allowed_domains=["api.openai.com"], upstreams={"https://api.openai.com": fake.url})
    return host.load(openai_file, policy=policy, secrets={"OPENAI_API_KEY": KEY})


@pytest.fixture
def sdk(fake: FakeOpenAI) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{fake.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def run(catalyst: Catalyst, operation: str, **params: Any) -> Any:
    result = catalyst.run({"operation": operation, "params": params})
    assert result.ok, result.error
    return result.data


# Each operation: what it is called, its parameters, and the same through the official SDK.

Same = Callable[[openai.OpenAI, dict[str, Any]], Any]
JSON_OPERATIONS: list[Any] = [
    pytest.param(
        "chat.completions.create",
        {"model": "gpt-4o-mini", "messages": MESSAGES, "temperature": 0.5},
        lambda sdk, params: sdk.chat.completions.create(**params),
        id="chat",
    ),
    pytest.param(
        "chat.completions.create",
        {"model": "gpt-4o-mini", "messages": MESSAGES, "tools": [TOOL], "tool_choice": "required", "n": 2},
        lambda sdk, params: sdk.chat.completions.create(**params),
        id="chat with a tool and two choices",
    ),
    pytest.param(
        "completions.create",
        {"model": "gpt-3.5-turbo-instruct", "prompt": "Once"},
        lambda sdk, params: sdk.completions.create(**params),
        id="completions",
    ),
    pytest.param(
        "responses.create",
        {"model": "gpt-4o-mini", "input": "Hello"},
        lambda sdk, params: sdk.responses.create(**params),
        id="responses",
    ),
    pytest.param("models.list", {}, lambda sdk, params: sdk.models.list(), id="models"),
    pytest.param(
        "models.retrieve", {"model": "gpt-4o"}, lambda sdk, params: sdk.models.retrieve("gpt-4o"), id="one model"
    ),
    pytest.param(
        "models.get", {"model_id": "gpt-4o"}, lambda sdk, params: sdk.models.retrieve("gpt-4o"), id="in CYFR's words"
    ),
    pytest.param(
        "embeddings.create",
        {"model": "text-embedding-3-small", "input": ["a", "b"], "encoding_format": "float"},
        lambda sdk, params: sdk.embeddings.create(**params),
        id="embeddings",
    ),
    pytest.param(
        "moderations.create", {"input": "Hello"}, lambda sdk, params: sdk.moderations.create(**params), id="moderations"
    ),
    pytest.param(
        "images.generate",
        {"model": "gpt-image-1", "prompt": "a cat"},
        lambda sdk, params: sdk.images.generate(**params),
        id="images",
    ),
]


@pytest.mark.parametrize(("operation", "params", "same"), JSON_OPERATIONS)
def test_an_answer_is_what_the_official_sdk_gets(
    catalyst: Catalyst, sdk: openai.OpenAI, fake: FakeOpenAI, operation: str, params: dict[str, Any], same: Same
) -> None:
    ours = run(catalyst, operation, **params)
    asked = fake.requests
    fake.reset()
    theirs = same(sdk, params).to_dict(mode="json")
    assert ours == theirs
    [one], [other] = asked, fake.requests
    assert (one["method"], one["path"], one["query"], one["body"]) == (
        other["method"],
        other["path"],
        other["query"],
        other["body"],
    )
    assert one["headers"]["authorization"] == other["headers"]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("form", ["mp3", "opus", "aac", "flac", "wav", "pcm"])
def test_speech_arrives_byte_for_byte(catalyst: Catalyst, sdk: openai.OpenAI, form: Any) -> None:
    params: dict[str, Any] = {"model": "tts-1", "input": "Hello", "voice": "alloy", "response_format": form}
    result = catalyst.run({"operation": "audio.speech.create", "params": params})
    assert result.content == sdk.audio.speech.create(**params).content
    assert result.data["size"] == len(result.content)
    assert result.data["content_type"].startswith("audio/")


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # so the SDK says of translations
@pytest.mark.parametrize("form", ["json", "verbose_json", "text", "srt", "vtt"])
@pytest.mark.parametrize("operation", ["audio.transcriptions.create", "audio.translations.create"])
def test_audio_becomes_the_text_that_the_official_sdk_gets(
    catalyst: Catalyst, sdk: openai.OpenAI, operation: str, form: Any
) -> None:
    file = {"data": base64.b64encode(BINARY).decode(), "filename": "a.mp3"}
    ours = run(catalyst, operation, file=file, model="whisper-1", response_format=form)
    at = sdk.audio.transcriptions if "transcriptions" in operation else sdk.audio.translations
    theirs = at.create(file=("a.mp3", BINARY), model="whisper-1", response_format=form)
    assert ours == (theirs if isinstance(theirs, str) else theirs.to_dict(mode="json"))


UPLOADS = [
    pytest.param({"data": base64.b64encode(BINARY).decode(), "filename": "a.bin"}, None, "a.bin", id="by base64"),
    pytest.param({"$attachment": "f"}, Attachment(BINARY, "a.bin"), "a.bin", id="by attachment"),
    pytest.param({"$attachment": "f"}, BINARY, "upload", id="by attachment, of bytes alone"),
    pytest.param(
        {"$attachment": "f", "filename": "b.bin"}, Attachment(BINARY, "a.bin"), "b.bin", id="under another name"
    ),
]


@pytest.mark.parametrize(("file", "attached", "name"), UPLOADS)
def test_an_upload_arrives_byte_for_byte(
    catalyst: Catalyst, fake: FakeOpenAI, file: Any, attached: Any, name: str
) -> None:
    given = {} if attached is None else {"f": attached}
    created = catalyst.run(
        {"operation": "files.create", "params": {"file": file, "purpose": "user_data"}}, attachments=given
    )
    assert created.ok, created.error
    assert created.data["bytes"] == len(BINARY)
    parts = {part["name"]: part for part in fake.requests[0]["body"]}
    assert parts["purpose"]["value"] == "user_data"
    assert parts["file"]["filename"] == name
    assert parts["file"]["sha256"] == hashlib.sha256(BINARY).hexdigest()


def test_a_file_from_its_creation_to_its_end(catalyst: Catalyst, sdk: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_bytes(b'{"a": 1}\n')
    created = catalyst.run(
        {"operation": "files.create", "params": {"file": {"$attachment": "f"}, "purpose": "batch"}},
        attachments={"f": path},
    ).data
    ident = created["id"]
    assert created == run(catalyst, "files.retrieve", file_id=ident) == sdk.files.retrieve(ident).to_dict(mode="json")
    assert run(catalyst, "files.list", purpose="batch", limit=5)["data"] == [created]
    content = catalyst.run({"operation": "files.content", "params": {"file_id": ident}})
    assert content.content == b'{"a": 1}\n' == sdk.files.content(ident).content
    assert run(catalyst, "files.delete", file_id=ident)["deleted"] is True
    assert catalyst.run({"operation": "files.retrieve", "params": {"file_id": ident}}).status == 404


def test_a_response_from_its_creation_to_its_end(catalyst: Catalyst, sdk: openai.OpenAI) -> None:
    created = run(catalyst, "responses.create", model="gpt-4o-mini", input="Hello")
    ident = created["id"]
    assert run(catalyst, "responses.retrieve", response_id=ident) == created
    assert sdk.responses.retrieve(ident).to_dict(mode="json") == created
    run(catalyst, "responses.delete", response_id=ident)
    assert catalyst.run({"operation": "responses.retrieve", "params": {"response_id": ident}}).status == 404


# Streams.

STREAMS: list[Any] = [
    pytest.param(
        "chat.completions.create",
        {"model": "gpt-4o-mini", "messages": MESSAGES, "stream_options": {"include_usage": True}},
        lambda sdk, params: sdk.chat.completions.create(stream=True, **params),
        id="chat",
    ),
    pytest.param(
        "completions.create",
        {"model": "gpt-3.5-turbo-instruct", "prompt": "Once"},
        lambda sdk, params: sdk.completions.create(stream=True, **params),
        id="completions",
    ),
    pytest.param(
        "responses.create",
        {"model": "gpt-4o-mini", "input": "Hello"},
        lambda sdk, params: sdk.responses.create(stream=True, **params),
        id="responses",
    ),
]


@pytest.mark.parametrize(("operation", "params", "same"), STREAMS)
def test_the_events_of_a_stream_are_those_that_the_official_sdk_gets(
    catalyst: Catalyst, sdk: openai.OpenAI, fake: FakeOpenAI, operation: str, params: dict[str, Any], same: Same
) -> None:
    ours = list(catalyst.stream({"operation": operation, "params": params}))
    fake.reset()
    theirs = [event.to_dict(mode="json") for event in same(sdk, params)]
    assert len(ours) > 2
    assert ours == theirs


@pytest.mark.parametrize(("operation", "params", "same"), STREAMS)
def test_a_collected_stream_has_all_chunks_and_their_text(
    catalyst: Catalyst, fake: FakeOpenAI, operation: str, params: dict[str, Any], same: Same
) -> None:
    params = {name: value for name, value in params.items() if name != "stream_options"}
    collected = catalyst.run({"operation": operation, "params": params, "stream": True})
    fake.reset()
    assert collected.data["chunks"] == list(catalyst.stream({"operation": operation, "params": params}))
    whole = json.dumps(run(catalyst, operation, **params), ensure_ascii=False)
    assert len(collected.data["combined_text"]) > 3
    assert json.dumps(collected.data["combined_text"], ensure_ascii=False)[1:-1] in whole


def test_a_streamed_transcription_and_image(catalyst: Catalyst) -> None:
    file = {"data": base64.b64encode(BINARY).decode(), "filename": "a.mp3"}
    spoken = catalyst.stream(
        {"operation": "audio.transcriptions.create", "params": {"file": file, "model": "gpt-4o-transcribe"}}
    )
    assert [event["type"] for event in spoken][-1] == "transcript.text.done"


# What goes wrong upstream.

ERRORS = {
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
}


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("status", ERRORS)
def test_an_error_of_the_upstream_comes_through_whole(
    catalyst: Catalyst, sdk: openai.OpenAI, fake: FakeOpenAI, status: int, streaming: bool
) -> None:
    fake.fail_next(status, times=2)
    params: dict[str, Any] = {"model": "gpt-4o-mini", "messages": MESSAGES}
    with pytest.raises(ERRORS[status]) as theirs:
        sdk.chat.completions.create(**params)
    operation = {"operation": "chat.completions.create", "params": params}
    if streaming:
        with pytest.raises(errors.OperationFailed) as failed:
            list(catalyst.stream(operation))
        result = failed.value.result
    else:
        result = catalyst.run(operation)
    assert result.status == status
    assert result.error == theirs.value.body
    assert result.data is None


def test_a_failure_in_mid_stream_is_an_error_after_the_events_that_came(catalyst: Catalyst, fake: FakeOpenAI) -> None:
    fake.script([{"cut_after_events": 3}])
    stream = catalyst.stream(
        {"operation": "chat.completions.create", "params": {"model": "gpt-4o-mini", "messages": MESSAGES}}
    )
    seen = []
    with pytest.raises(errors.OperationFailed) as failed:
        seen.extend(stream)
    assert len(seen) == 3
    assert failed.value.result.status >= 500
    assert stream.result is failed.value.result


@pytest.mark.parametrize("fault", [{"malformed_json": True}, {"body": "<html>oops</html>"}], ids=["cut", "HTML"])
def test_an_answer_that_is_no_json_is_an_error_of_the_upstream(
    catalyst: Catalyst, fake: FakeOpenAI, fault: Any
) -> None:
    fake.script([fault])
    result = catalyst.run({"operation": "models.list"})
    assert (result.status, result.error["code"]) == (502, "not_json")


# What a caller gets wrong. The form that the manifest gives the input is the host's business: no sandbox is started.


@pytest.mark.parametrize(
    ("operation", "field"),
    [
        pytest.param({"params": {}}, "operation", id="no operation"),
        pytest.param({"operation": 5}, "operation", id="a number for an operation"),
        pytest.param({"operation": "models.list", "params": []}, "params", id="a list of params"),
        pytest.param({"operation": "models.list", "stream": "yes"}, "stream", id="a word for stream"),
    ],
)
def test_an_input_that_has_not_the_form_in_the_manifest_is_no_run(
    catalyst: Catalyst, fake: FakeOpenAI, operation: Any, field: str
) -> None:
    with pytest.raises(errors.InputError) as error:
        catalyst.run(operation)
    assert error.value.field == field
    assert fake.requests == []


def test_an_operation_that_was_misspelt_is_answered_with_the_nearest_ones(catalyst: Catalyst, fake: FakeOpenAI) -> None:
    result = catalyst.run({"operation": "models.lits"})
    assert result.status == 400
    assert "did you mean models.list" in result.error["message"]
    assert catalyst.run({"operation": ""}).status == 400
    assert fake.requests == []


# What the catalyst itself finds wrong: status 400, the parameter named, nothing sent.


@pytest.mark.parametrize(
    ("operation", "param"),
    [
        pytest.param({"operation": "models.list", "stream": True}, "stream", id="a stream of what cannot stream"),
        pytest.param(
            {"operation": "embeddings.create", "params": {"model": "m", "input": "x", "stream": True}},
            "stream",
            id="a stream of what cannot stream, as a parameter",
        ),
        pytest.param(
            {"operation": "chat.completions.create", "params": {"model": "m"}}, "messages", id="a missing one"
        ),
        pytest.param(
            {"operation": "chat.completions.create", "params": {"model": 5, "messages": []}}, "model", id="a wrong type"
        ),
        pytest.param({"operation": "models.retrieve"}, "model", id="a missing one of the path"),
        pytest.param({"operation": "models.retrieve", "params": {"model": ""}}, "model", id="an empty one of the path"),
        pytest.param(
            {"operation": "files.create", "params": {"file": "text", "purpose": "batch"}},
            "file",
            id="a text for a file",
        ),
        pytest.param(
            {"operation": "files.retrieve", "params": {"file_id": ".."}}, "file_id", id="two dots in the path"
        ),
        pytest.param({"operation": "files.delete", "params": {"file_id": "."}}, "file_id", id="a dot in the path"),
    ],
)
def test_a_mistake_is_answered_with_400_and_the_parameters_name_and_nothing_is_sent(
    catalyst: Catalyst, fake: FakeOpenAI, operation: Any, param: str
) -> None:
    result = catalyst.run(operation)
    assert result.status == 400
    assert result.error["param"] == param
    assert fake.requests == []


@pytest.mark.parametrize("ident", ["a/../../models", "a/b", "a?b=c", "a#b", "a%2fb", "../files", "a\\b", "é"])
def test_a_parameter_never_leaves_its_place_in_the_path(catalyst: Catalyst, fake: FakeOpenAI, ident: str) -> None:
    result = catalyst.run({"operation": "files.retrieve", "params": {"file_id": ident}})
    assert not result.ok
    for asked in fake.requests:
        assert asked["path"].startswith("/v1/files/")
        assert asked["path"].count("/") == 3
        assert asked["query"] == {}


# What the operator sets.


def test_config_sets_the_organization_and_the_project(host: Host, openai_file: Path, fake: FakeOpenAI) -> None:
    policy = Policy(allowed_domains=["api.openai.com"], upstreams={"https://api.openai.com": fake.url})
    config = {"organization": "org-1", "project": "proj-2"}
    host.load(openai_file, policy=policy, secrets={"OPENAI_API_KEY": KEY}, config=config).run(
        {"operation": "models.list"}
    )
    headers = fake.requests[0]["headers"]
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj-2")


def test_config_points_it_at_another_server(host: Host, openai_file: Path, fake: FakeOpenAI) -> None:
    elsewhere = host.load(
        openai_file,
        policy=Policy(allowed_domains=["models.internal"], upstreams={"https://models.internal": fake.url}),
        secrets={"OPENAI_API_KEY": KEY},
        config={"base_url": "https://models.internal/v1/"},
    )
    assert elsewhere.run({"operation": "models.list"}).ok
    assert fake.requests[0]["path"] == "/v1/models"


def test_without_its_key_it_is_denied_and_told_how_to_be_given_one(host: Host, openai_file: Path) -> None:
    with pytest.raises(errors.Denied) as denied:
        host.load(openai_file, policy=Policy(allowed_domains=["api.openai.com"])).run({"operation": "models.list"})
    assert "--secret OPENAI_API_KEY" in str(denied.value)


# A connection, by the realtime API.


def test_a_session_goes_to_and_fro_through_the_sandbox(catalyst: Catalyst, fake: FakeOpenAI) -> None:
    text: dict[str, Any] = {"output_modalities": ["text"], "instructions": "Say hello in 5 words"}
    opened = {"operation": "realtime.connect", "params": {"model": "gpt-realtime"}}
    with catalyst.connect(opened) as connection:
        assert next(connection)["type"] == "session.created"
        connection.send({"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"]}})
        assert next(connection)["session"]["output_modalities"] == ["text"]
        connection.send({"type": "input_audio_buffer.commit"})
        assert next(connection)["error"]["type"] == "invalid_request_error"
        for _ in range(2):
            connection.send({"type": "response.create", "response": text})
            said = ""
            while (event := next(connection))["type"] != "response.done":
                said += event.get("delta", "")
            assert len(said.split()) == 5
    assert connection.closed.code == 1000
    assert connection.result.ok
    [seen] = fake.requests
    assert seen["headers"]["authorization"] == f"Bearer {KEY}"
    assert connection.result.execution.meters.http_requests == 1


def test_an_ephemeral_client_secret_that_it_made_opens_a_session(catalyst: Catalyst, fake: FakeOpenAI) -> None:
    made = run(catalyst, "realtime.client_secrets.create", session={"type": "realtime", "model": "gpt-realtime"})
    with (
        openai.OpenAI(base_url=f"{fake.url}/v1", api_key=made["value"], max_retries=0) as client,
        client.realtime.connect(model="gpt-realtime") as line,
    ):
        assert line.recv().type == "session.created"
