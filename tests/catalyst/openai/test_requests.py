"""What leaves the OpenAI catalyst, operation by operation."""

import json
from pathlib import Path

import pytest

BASE = "https://api.openai.com/v1"
HEADERS = {
    "Accept": "application/json",
    "Authorization": "Bearer placeholder-1",
    "User-Agent": "catalyst-openai/0.1.0",
}
JSON = {**HEADERS, "Content-Type": "application/json"}
KEPT = {"response_encoding": "attachment", "error_encoding": "text"}
BYTES = "application/octet-stream"
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
AUDIO = {"$attachment": "a1", "filename": "a.mp3", "content_type": "audio/mpeg"}
AUDIO_PART = {"name": "file", "attachment": "a1", "filename": "a.mp3", "content_type": "audio/mpeg"}


def get(path, *, accept="application/json", **more):
    return {"method": "GET", "url": BASE + path, "headers": {**HEADERS, "Accept": accept}, **KEPT, **more}


def delete(path, **more):
    return {**get(path, **more), "method": "DELETE"}


def post(path, body, *, accept="application/json", **more):
    return {"method": "POST", "url": BASE + path, "headers": {**JSON, "Accept": accept}, "body": body, **KEPT, **more}


def upload(path, *parts, kept=True):
    request = {"method": "POST", "url": BASE + path, "headers": HEADERS, "multipart": list(parts)}
    return {**request, **KEPT} if kept else request


def value(name, text):
    return {"name": name, "value": text}


@pytest.mark.parametrize(
    ("operation", "params", "request_"),
    [
        ("chat.completions.create", CHAT, post("/chat/completions", CHAT)),
        pytest.param(
            "chat.completions.create",
            {**CHAT, "n": 2, "not_yet_invented": {"a": [None]}},
            post("/chat/completions", {**CHAT, "n": 2, "not_yet_invented": {"a": [None]}}),
            id="parameters that nobody knows pass through",
        ),
        pytest.param(
            "chat.completions.create",
            {**CHAT, "stream": False},
            post("/chat/completions", {**CHAT, "stream": False}),
            id="no stream is sent as it is given",
        ),
        ("completions.create", {"model": "m", "prompt": "p"}, post("/completions", {"model": "m", "prompt": "p"})),
        (
            "completions.create",
            {"model": "m", "prompt": [1, 2]},
            post("/completions", {"model": "m", "prompt": [1, 2]}),
        ),
        ("responses.create", {"model": "m", "input": "i"}, post("/responses", {"model": "m", "input": "i"})),
        ("responses.create", {"prompt": {"id": "p"}}, post("/responses", {"prompt": {"id": "p"}})),
        ("responses.get", {"response_id": "r/1"}, get("/responses/r%2F1")),
        ("responses.retrieve", {"response_id": "r", "include": ["a"]}, get("/responses/r?include%5B%5D=a")),
        ("responses.delete", {"response_id": "r"}, delete("/responses/r", accept="*/*")),
        ("models.list", None, get("/models")),
        ("models.list", {}, get("/models")),
        ("models.get", {"model_id": "ft:gpt-4o:org"}, get("/models/ft:gpt-4o:org")),
        ("models.get", {"model": "gpt-4o"}, get("/models/gpt-4o")),
        ("models.retrieve", {"model": "gpt-4o"}, get("/models/gpt-4o")),
        ("embeddings.create", {"model": "m", "input": ["a"]}, post("/embeddings", {"model": "m", "input": ["a"]})),
        ("moderations.create", {"input": "i"}, post("/moderations", {"input": "i"})),
        ("images.generate", {"prompt": "p", "n": 1}, post("/images/generations", {"prompt": "p", "n": 1})),
        (
            "audio.speech",
            {"model": "m", "input": "i", "voice": "alloy"},
            post("/audio/speech", {"model": "m", "input": "i", "voice": "alloy"}, accept=BYTES, relay=True),
        ),
        (
            "audio.speech.create",
            {"model": "m", "input": "i", "voice": {"id": "v"}},
            post("/audio/speech", {"model": "m", "input": "i", "voice": {"id": "v"}}, accept=BYTES, relay=True),
        ),
        (
            "audio.transcriptions",
            {"file": AUDIO, "model": "whisper-1", "timestamp_granularities": ["word"], "temperature": 0.5},
            upload(
                "/audio/transcriptions",
                value("model", "whisper-1"),
                value("timestamp_granularities[]", "word"),
                value("temperature", "0.5"),
                AUDIO_PART,
            ),
        ),
        pytest.param(
            "audio.transcriptions.create",
            {"file": {"data": "AAAA"}, "model": "m", "response_format": "srt"},
            upload(
                "/audio/transcriptions",
                value("model", "m"),
                value("response_format", "srt"),
                {"name": "file", "filename": "upload", "data": "AAAA"},
                kept=False,
            ),
            id="an answer in plain text is asked for as text",
        ),
        pytest.param(
            "audio.transcriptions",
            {"multipart": [{"name": "file", "data": "AAAA"}, value("model", "m"), value("response_format", "vtt")]},
            upload(
                "/audio/transcriptions",
                {"name": "file", "data": "AAAA"},
                value("model", "m"),
                value("response_format", "vtt"),
                kept=False,
            ),
            id="and so it is when CYFR's parts ask for it",
        ),
        (
            "audio.translations",
            {"file": AUDIO, "model": "m"},
            upload("/audio/translations", value("model", "m"), AUDIO_PART),
        ),
        (
            "audio.translations.create",
            {"file": AUDIO, "model": "m"},
            upload("/audio/translations", value("model", "m"), AUDIO_PART),
        ),
        (
            "files.create",
            {"file": AUDIO, "purpose": "batch", "expires_after": {"anchor": "created_at", "seconds": 3600}},
            upload(
                "/files",
                value("purpose", "batch"),
                value("expires_after[anchor]", "created_at"),
                value("expires_after[seconds]", "3600"),
                AUDIO_PART,
            ),
        ),
        ("files.list", {}, get("/files")),
        (
            "files.list",
            {"after": "f&1", "limit": 2, "order": "asc", "purpose": "batch"},
            get("/files?after=f%261&limit=2&order=asc&purpose=batch"),
        ),
        ("files.get", {"file_id": "f"}, get("/files/f")),
        ("files.retrieve", {"file_id": "../models"}, get("/files/..%2Fmodels")),
        ("files.content", {"file_id": "f"}, get("/files/f/content", accept="application/binary", relay=True)),
        ("files.delete", {"file_id": "f"}, delete("/files/f")),
    ],
)
def test_an_operation_is_one_request(call, world, operation, params, request_):
    world.answer()
    call(operation, params)
    [sent] = world.requests
    if isinstance(request_.get("body"), dict):
        sent["body"] = json.loads(sent["body"])
    assert sent == request_


@pytest.mark.parametrize(
    ("operation", "params", "body"),
    [
        ("chat.completions.create", CHAT, {**CHAT, "stream": True}),
        ("completions.create", {"model": "m", "prompt": "p"}, {"model": "m", "prompt": "p", "stream": True}),
        ("responses.create", {"model": "m", "input": "i"}, {"model": "m", "input": "i", "stream": True}),
        ("images.generate", {"prompt": "p"}, {"prompt": "p", "stream": True}),
    ],
)
@pytest.mark.parametrize("way", ["by the envelope", "by a parameter"])
def test_a_stream_is_one_request_that_says_so(call, world, sse, *, operation, params, body, way):
    world.stream(sse({"a": 1}))
    call(operation, params, stream=True) if way == "by the envelope" else call(operation, {**params, "stream": True})
    [sent] = world.streams
    assert json.loads(sent["body"]) == body
    assert sent["relay"] is True
    assert sent["headers"] == JSON
    assert world.requests == []


def test_a_stream_may_be_asked_for_in_a_url_and_in_a_form(call, world, sse):
    world.stream(sse({"a": 1}))
    call("responses.get", {"response_id": "r"}, stream=True)
    world.stream(sse({"a": 1}))
    call("audio.transcriptions", {"file": AUDIO, "model": "m"}, stream=True)
    assert world.streams[0]["url"] == f"{BASE}/responses/r?stream=true"
    assert world.streams[1]["multipart"] == [value("model", "m"), value("stream", "true"), AUDIO_PART]


@pytest.mark.parametrize(
    ("operation", "params", "stream", "field"),
    [
        pytest.param("chat.completion.create", CHAT, None, "operation", id="an operation that does not exist"),
        ("chat.completions.create", {"model": "m"}, None, "messages"),
        ("chat.completions.create", {"messages": []}, None, "model"),
        ("chat.completions.create", {"model": "m", "messages": "Hi"}, None, "messages"),
        ("chat.completions.create", {**CHAT, "stream": 1}, None, "stream"),
        ("completions.create", {"model": "m"}, None, "prompt"),
        ("responses.create", {"model": 5}, None, "model"),
        ("responses.get", {}, None, "response_id"),
        ("models.get", {}, None, "model"),
        ("models.get", {"model_id": ".."}, None, "model"),
        ("models.list", {}, True, "stream"),
        ("embeddings.create", {"model": "m"}, None, "input"),
        ("embeddings.create", {"model": "m", "input": {"a": 1}}, None, "input"),
        ("embeddings.create", {"model": "m", "input": "i"}, True, "stream"),
        ("moderations.create", {}, None, "input"),
        ("images.generate", {"prompt": None}, None, "prompt"),
        ("audio.speech", {"model": "m", "input": "i"}, None, "voice"),
        ("audio.transcriptions", {"model": "m"}, None, "file"),
        ("audio.transcriptions", {"model": "m", "file": "song.mp3"}, None, "file"),
        ("audio.translations", {"file": AUDIO}, None, "model"),
        ("files.create", {"file": AUDIO}, None, "purpose"),
        ("files.get", {"file_id": ""}, None, "file_id"),
        ("files.delete", {"file_id": 7}, None, "file_id"),
    ],
)
def test_a_mistake_of_the_caller_is_a_400_before_anything_is_sent(call, world, *, operation, params, stream, field):
    result = call(operation, params, stream=stream)
    assert result["status"] == 400
    assert result["error"]["type"] == "invalid_request_error"
    assert result["error"]["param"] == field
    assert field in result["error"]["message"]
    assert (world.requests, world.streams) == ([], [])


def test_without_the_key_nothing_is_sent(call, world):
    world.secrets = {}
    for result in (call("models.list"), call("chat.completions.create", CHAT, stream=True)):
        assert (result["status"], result["error"]["type"]) == (403, "secret_denied")
        assert "OPENAI_API_KEY" in result["error"]["message"]
    assert (world.requests, world.streams) == ([], [])


def test_organization_and_project_become_headers(call, world):
    world.settings = {"organization": "org-1", "project": "proj-1"}
    world.answer()
    call("models.list")
    assert world.requests[0]["headers"] == {**HEADERS, "OpenAI-Organization": "org-1", "OpenAI-Project": "proj-1"}


@pytest.mark.parametrize(
    "base_url",
    ["https://proxy.test/openai/v1", "https://proxy.test/openai/v1/", "http://127.0.0.1:8080", "http://[::1]:8080/v1"],
)
def test_another_server_is_reached_at_its_base_url(call, world, base_url):
    world.settings = {"base_url": base_url}
    world.answer()
    call("models.list")
    assert world.requests[0]["url"] == base_url.rstrip("/") + "/models"


@pytest.mark.parametrize(
    ("setting", "bad"),
    [
        ("base_url", "api.openai.com/v1"),
        ("base_url", "ftp://api.openai.com"),
        ("base_url", "https://"),
        ("base_url", "https:///v1"),
        ("base_url", "https://:443/v1"),
        ("base_url", "https://api.openai.com/v1?key=1"),
        ("base_url", "https://api.openai.com/v1#"),
        ("base_url", "https://api.openai.com@evil.test/v1"),
        ("base_url", "https://api.openai.com\\@evil.test/v1"),
        ("base_url", "https://api.openai.com /v1"),
        ("base_url", "https://api.openai.com\r\nX: y"),
        ("base_url", "https://äpi.openai.com"),
        ("base_url", 5),
        ("organization", 5),
        ("organization", ""),
        ("project", ["p"]),
    ],
)
def test_a_mistake_of_the_operator_is_a_500_that_names_the_setting_and_sends_nothing(call, world, setting, bad):
    world.settings = {setting: bad}
    result = call("models.list")
    assert (result["status"], result["error"]["type"], result["error"]["param"]) == (500, "invalid_config", setting)
    assert world.requests == []


@pytest.fixture
def manifest(guest):
    return json.loads((Path(guest().__file__).parent / "manifest.json").read_text())


def test_the_examples_of_the_manifest_are_operations_that_can_be_done(guest, manifest):
    app = guest()
    for example in manifest["examples"]:
        asked = app.Call.parse(example["input"])
        assert app.TABLE.find(asked.operation).prepare(asked.params, stream=asked.stream).stream is asked.stream


def test_the_manifest_says_what_the_catalyst_is(guest, manifest):
    assert manifest["version"] == guest().VERSION
    assert manifest["defaults"]["base_url"] == guest("servers").BASE_URL
