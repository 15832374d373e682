"""Other servers of OpenAI's API: each row of the catalyst's README, as the component that is shipped, against a fake of
that server's form."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from host import Catalyst, Host, Policy
from host.cli.permissions import parse_setting
from host.core.strict_json import Json
from host.fakes import FakeOpenAI
from host.fakes.openai.shapes import SHAPES
from tests.conftest import KEY, ROOT

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello in 20 words"}]}
README = (ROOT / "catalyst" / "openai" / "README.md").read_text()


def rows() -> Iterator[Any]:
    table = README.partition("<!-- servers -->")[2].partition("<!-- /servers -->")[0]
    for line in table.strip().splitlines()[2:]:
        name, settings, shape = (cell.strip() for cell in line.strip("|").split(" | "))
        config = dict(map(parse_setting, shlex.split(settings.strip("`"))))
        yield pytest.param(config, shape.strip("`"), id=name)


ROWS = list(rows())


def origin(base_url: Json) -> str:
    assert isinstance(base_url, str)
    found = re.match(r"https?://[^/]+", base_url)
    assert found is not None
    return found[0]


def loaded(host: Host, openai_file: Path, fake: FakeOpenAI, config: dict[str, Json], **secrets: str) -> Catalyst:
    at = origin(config["base_url"])
    policy = Policy(allowed_domains=[at], upstreams={at: fake.url})
    return host.load(openai_file, policy=policy, secrets=secrets, config=config)


def test_every_form_of_the_fake_has_a_row() -> None:
    assert {row.values[1] for row in ROWS} == set(SHAPES)


@pytest.mark.parametrize(("config", "shape"), ROWS)
def test_the_catalyst_is_served_as_its_readme_says(
    host: Host, openai_file: Path, config: dict[str, Json], shape: str
) -> None:
    secrets = {} if config.get("auth") == "none" else {"OPENAI_API_KEY": KEY}
    with FakeOpenAI(shape=shape) as fake:
        catalyst = loaded(host, openai_file, fake, config, **secrets)
        answer = catalyst.run({"operation": "chat.completions.create", "params": CHAT})
        assert answer.ok, answer.error
        said = answer.data["choices"][0]["message"]["content"]
        events = list(catalyst.stream({"operation": "chat.completions.create", "params": CHAT}))
        assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events) == said
        assert catalyst.run({"operation": "models.list"}).data["data"]
        carried = [KEY in str(one["headers"]) for one in fake.requests]
    assert carried == [bool(secrets)] * 3


@pytest.mark.parametrize("version", ["2024-10-21", "preview"])
def test_at_azure_the_request_is_the_one_of_the_official_sdk(host: Host, openai_file: Path, version: str) -> None:
    form: dict[str, Any] = {"model": "whisper-1", "file": ("a.mp3", b"abc")}
    asked: list[dict[str, Any]] = []
    with FakeOpenAI(shape="azure") as fake:
        with openai.AzureOpenAI(azure_endpoint=fake.url, api_key=KEY, api_version=version, max_retries=0) as sdk:
            sdk.chat.completions.create(**CHAT)  # type: ignore[call-overload]
            sdk.embeddings.create(model="text-embedding-3-small", input="a", encoding_format="float")
            sdk.audio.transcriptions.create(**form)
            sdk.responses.create(model="gpt-4o-mini", input="a")
            sdk.models.list()
        theirs = fake.requests
        fake.reset()
        config: dict[str, Json] = {"server": "azure", "base_url": "https://a.openai.azure.com", "api_version": version}
        catalyst = loaded(host, openai_file, fake, config, OPENAI_API_KEY=KEY)
        file = {"data": "YWJj", "filename": "a.mp3"}
        for operation, params in (
            ("chat.completions.create", CHAT),
            ("embeddings.create", {"model": "text-embedding-3-small", "input": "a", "encoding_format": "float"}),
            ("audio.transcriptions.create", {"model": "whisper-1", "file": file}),
            ("responses.create", {"model": "gpt-4o-mini", "input": "a"}),
            ("models.list", {}),
        ):
            assert catalyst.run({"operation": operation, "params": params}).ok
        asked = fake.requests
    for ours, other in zip(asked, theirs, strict=True):
        assert [ours[part] for part in ("method", "path", "query")] == [
            other[part] for part in ("method", "path", "query")
        ]
        assert ours["headers"]["api-key"] == other["headers"]["api-key"] == KEY
        assert "authorization" not in ours["headers"]
        if "transcriptions" not in ours["path"]:
            assert ours["body"] == other["body"]


def test_lm_studios_words_for_what_it_does_not_have_are_handed_on_with_their_200(host: Host, openai_file: Path) -> None:
    with FakeOpenAI(shape="lmstudio") as fake:
        catalyst = loaded(host, openai_file, fake, {"base_url": "http://localhost:1234/v1", "auth": "none"})
        answer = catalyst.run({"operation": "files.list"})
    assert (answer.status, list(answer.data)) == (200, ["error"])


def test_a_server_without_a_key_gets_none_although_one_is_granted(host: Host, openai_file: Path) -> None:
    with FakeOpenAI(shape="ollama") as fake:
        config: dict[str, Json] = {"base_url": "http://localhost:11434/v1", "auth": "none"}
        catalyst = loaded(host, openai_file, fake, config, OPENAI_API_KEY=KEY)
        assert catalyst.run({"operation": "models.list"}).ok
        assert KEY not in str(fake.requests)
