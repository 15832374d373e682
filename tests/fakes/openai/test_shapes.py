"""The forms in which other servers offer the same API."""

from __future__ import annotations

import json

import httpx2
import openai
import pytest
from click import Choice

from host.cli.commands.serve import openai as command
from host.fakes import FakeOpenAI
from host.fakes.openai.shapes import SHAPES

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = {"model": "gpt-4o", "messages": HELLO}


def test_the_command_offers_every_shape():
    [option] = [one for one in command.params if one.name == "shape"]
    assert isinstance(option.type, Choice)
    assert set(option.type.choices) == set(SHAPES)


@pytest.mark.parametrize("shape", sorted(set(SHAPES) - {"azure"}))
def test_the_official_sdk_is_served_at_the_base_url_of_each(shape):
    with (
        FakeOpenAI(shape=shape) as fake,
        openai.OpenAI(
            base_url=fake.base_url, api_key="any", max_retries=0, default_headers={"X-API-Key": "any"}
        ) as client,
    ):
        assert client.chat.completions.create(**CHAT).choices[0].message.content
        assert list(client.chat.completions.create(**CHAT, stream=True))
        assert fake.requests[0]["path"] == f"{SHAPES[shape].base}/chat/completions"


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_only_a_server_with_a_key_asks_for_one(shape):
    with FakeOpenAI(shape=shape) as fake:
        answer = httpx2.get(f"{fake.base_url}/models?api-version=2024-10-21", trust_env=False)
    assert answer.status_code == (401 if SHAPES[shape].key else 200)


def test_azure_has_the_paths_that_its_sdk_asks_for():
    with (
        FakeOpenAI(shape="azure") as fake,
        openai.AzureOpenAI(azure_endpoint=fake.url, api_key="k", api_version="2024-10-21", max_retries=0) as client,
    ):
        assert client.chat.completions.create(**CHAT).choices
        assert client.models.list().data
        paths = [(one["path"], one["query"]) for one in fake.requests]
    assert paths == [
        ("/openai/deployments/gpt-4o/chat/completions", {"api-version": "2024-10-21"}),
        ("/openai/models", {"api-version": "2024-10-21"}),
    ]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/openai/deployments/d/chat/completions", id="without a version"),
        pytest.param("/openai/chat/completions?api-version=1", id="a model's answer without its deployment"),
        pytest.param("/openai/deployments/d/models?api-version=1", id="what no deployment has"),
        pytest.param("/v1/chat/completions?api-version=1", id="the paths of OpenAI"),
    ],
)
def test_azure_has_no_other_paths(path):
    with FakeOpenAI(shape="azure") as fake:
        answer = httpx2.post(fake.url + path, headers={"api-key": "k"}, json=CHAT, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "404")


@pytest.mark.parametrize(
    ("shape", "status", "holds"),
    [("ollama", 404, "404 page not found"), ("vllm", 404, "detail"), ("lmstudio", 200, "Unexpected endpoint")],
)
def test_what_a_server_does_not_have_is_answered_in_its_own_way(shape, status, holds):
    with FakeOpenAI(shape=shape) as fake:
        answer = httpx2.get(f"{fake.base_url}/files", trust_env=False)
    assert (answer.status_code, holds in answer.text) == (status, True)


def test_a_stream_has_what_its_server_adds():
    with FakeOpenAI(shape="openrouter") as router, FakeOpenAI(shape="groq") as groq:
        texts = [
            httpx2.post(
                f"{one.base_url}/chat/completions",
                headers={"authorization": "Bearer k"},
                json={**CHAT, "stream": True},
                trust_env=False,
            ).text
            for one in (router, groq)
        ]
    assert texts[0].startswith(": OPENROUTER PROCESSING\n\n")
    assert json.loads(texts[1].splitlines()[0].removeprefix("data: "))["x_groq"]["id"]
