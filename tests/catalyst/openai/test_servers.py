"""Other servers of the same API: what leaves the catalyst for each, and the mistakes of who configures them."""

import json

import pytest

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
AUDIO = {"data": "AAAA", "filename": "a.mp3"}
AZURE = {"server": "azure", "base_url": "https://acme.openai.azure.com", "api_version": "2024-10-21"}
AT_AZURE = "https://acme.openai.azure.com/openai"
KEY, BEARER = {"api-key": "placeholder-1"}, {"Authorization": "Bearer placeholder-1"}


def sent(call, world, settings, operation="chat.completions.create", params=CHAT):
    """The URL and the headers of the one request, without those that every request has."""
    world.settings = settings
    world.answer()
    result = call(operation, params)
    assert result["status"] == 200, result
    [request] = world.requests
    of_all = ("Accept", "Content-Type", "User-Agent")
    headers = {name: text for name, text in request["headers"].items() if name not in of_all}
    return request["url"], headers


@pytest.mark.parametrize(
    ("settings", "url", "headers"),
    [
        pytest.param(AZURE, f"{AT_AZURE}/deployments/gpt-4o/chat/completions?api-version=2024-10-21", KEY, id="Azure"),
        pytest.param(
            {**AZURE, "base_url": f"{AT_AZURE}/"},
            f"{AT_AZURE}/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
            KEY,
            id="Azure with its /openai",
        ),
        pytest.param(
            {**AZURE, "deployments": {"gpt-4o": "our gpt/1"}},
            f"{AT_AZURE}/deployments/our%20gpt%2F1/chat/completions?api-version=2024-10-21",
            KEY,
            id="a deployment with a name of its own",
        ),
        pytest.param(
            {**AZURE, "auth": "bearer"},
            f"{AT_AZURE}/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
            BEARER,
            id="Azure with a token of Entra",
        ),
        pytest.param(
            {"server": "azure", "base_url": f"{AT_AZURE}/v1/"},
            f"{AT_AZURE}/v1/chat/completions",
            KEY,
            id="Azure's v1 form",
        ),
        pytest.param(
            {"server": "azure", "base_url": f"{AT_AZURE}/v1", "api_version": "preview"},
            f"{AT_AZURE}/v1/chat/completions?api-version=preview",
            KEY,
            id="Azure's v1 form with a version",
        ),
        pytest.param(
            {"base_url": "http://localhost:11434/v1", "auth": "none"},
            "http://localhost:11434/v1/chat/completions",
            {},
            id="a server without a key",
        ),
        pytest.param(
            {"base_url": "https://openrouter.ai/api/v1", "headers": {"HTTP-Referer": "https://a.test", "X-Title": "A"}},
            "https://openrouter.ai/api/v1/chat/completions",
            {**BEARER, "HTTP-Referer": "https://a.test", "X-Title": "A"},
            id="more headers",
        ),
        pytest.param(
            {"base_url": "https://api.acme.test/llm", "auth": "header:Ocp-Apim-Subscription-Key"},
            "https://api.acme.test/llm/chat/completions",
            {"Ocp-Apim-Subscription-Key": "placeholder-1"},
            id="the key in a header of its own",
        ),
    ],
)
def test_a_request_is_placed_as_the_server_wants_it(call, world, settings, url, headers):
    assert sent(call, world, settings) == (url, headers)


@pytest.mark.parametrize(
    ("operation", "params", "path"),
    [
        ("embeddings.create", {"model": "m", "input": "a"}, "/deployments/m/embeddings"),
        ("completions.create", {"model": "m", "prompt": "a"}, "/deployments/m/completions"),
        ("images.generate", {"model": "m", "prompt": "a"}, "/deployments/m/images/generations"),
        ("audio.transcriptions", {"model": "m", "file": AUDIO}, "/deployments/m/audio/transcriptions"),
        ("audio.translations", {"model": "m", "file": AUDIO}, "/deployments/m/audio/translations"),
        pytest.param(
            "audio.transcriptions",
            {"multipart": [{"name": "file", "data": "AAAA"}, {"name": "model", "value": "m"}]},
            "/deployments/m/audio/transcriptions",
            id="the model in a ready form",
        ),
        ("models.list", {}, "/models"),
        ("responses.create", {"model": "m", "input": "a"}, "/responses"),
        ("files.retrieve", {"file_id": "f"}, "/files/f"),
    ],
)
def test_at_azure_only_what_a_model_answers_is_below_its_deployment(call, world, operation, params, path):
    url, _ = sent(call, world, AZURE, operation, params)
    assert url == f"{AT_AZURE}{path}?api-version=2024-10-21"


def test_at_azure_the_version_follows_the_operations_own_query(call, world):
    url, _ = sent(call, world, AZURE, "files.list", {"limit": 2})
    assert url == f"{AT_AZURE}/files?limit=2&api-version=2024-10-21"


def test_at_azure_the_body_still_names_the_model(call, world):
    sent(call, world, {**AZURE, "deployments": {"gpt-4o": "ours"}})
    assert json.loads(world.requests[0]["body"])["model"] == "gpt-4o"


@pytest.mark.parametrize("model", ["..", ".", "a/../../b", "a?b=1", "a#b"])
def test_a_model_cannot_leave_its_place_in_the_path(call, world, model):
    world.settings = AZURE
    world.answer()
    result = call("chat.completions.create", {**CHAT, "model": model})
    urls = [request["url"] for request in world.requests]
    assert all(url.count("/") == 7 and url.count("?") == 1 and "#" not in url for url in urls)
    assert bool(urls) is (result["status"] == 200)


def test_an_image_without_a_model_has_no_deployment_at_azure(call, world):
    world.settings = AZURE
    result = call("images.generate", {"prompt": "a cat"})
    assert (result["status"], result["error"]["param"], world.requests) == (400, "model", [])


def test_a_server_without_a_key_needs_no_secret(call, world):
    world.secrets = {}
    assert sent(call, world, {"base_url": "http://localhost:11434/v1", "auth": "none"})[1] == {}


def test_without_the_key_of_another_server_the_log_has_the_setting_for_none(call, world):
    world.secrets, world.settings = {}, {"base_url": "http://localhost:11434/v1"}
    assert call("models.list")["error"]["type"] == "secret_denied"
    assert "auth: none" in world.logged[0][1]


def test_without_the_key_of_openai_the_log_has_nothing_of_that(call, world):
    world.secrets = {}
    assert call("models.list")["error"]["type"] == "secret_denied"
    assert world.logged == []


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"server": "ollama"}, "server"),
        ({"server": 5}, "server"),
        ({"auth": "basic"}, "auth"),
        ({"auth": "header:"}, "auth"),
        ({"auth": "header:a b"}, "auth"),
        ({"auth": "header:a\r\nb"}, "auth"),
        ({"api_version": "2024-10-21"}, "api_version"),
        ({"deployments": {"a": "b"}}, "deployments"),
        ({"headers": ["a"]}, "headers"),
        ({"headers": {"Authorization": "Bearer x"}}, "headers"),
        ({"headers": {"a b": "x"}}, "headers"),
        ({"headers": {"a": "x\r\nb: y"}}, "headers"),
        ({"headers": {"a": 5}}, "headers"),
        ({"server": "azure"}, "base_url"),
        ({"server": "azure", "base_url": "https://acme.openai.azure.com"}, "api_version"),
        ({**AZURE, "base_url": f"{AT_AZURE}/deployments/gpt-4o"}, "base_url"),
        ({**AZURE, "deployments": ["a"]}, "deployments"),
        ({**AZURE, "deployments": {"gpt-4o": 5}}, "deployments"),
        ({**AZURE, "base_url": f"{AT_AZURE}/v1", "deployments": {"a": "b"}}, "deployments"),
    ],
)
def test_a_mistake_in_the_settings_is_named_and_sends_nothing(call, world, settings, field):
    world.settings = settings
    result = call("chat.completions.create", CHAT)
    assert (result["status"], result["error"]["type"], result["error"]["param"]) == (500, "invalid_config", field)
    assert (world.requests, world.streams) == ([], [])
