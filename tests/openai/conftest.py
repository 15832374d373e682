"""Clients of the fake OpenAI: through a sandbox, and without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from host import Catalyst, Host, Policy
from host.fakes import FakeOpenAI
from host.openai import official
from tests.conftest import KEY

KEYS = {"OPENAI_API_KEY": KEY, "OPENAI_ADMIN_KEY": "sk-admin-" + KEY.removeprefix("sk-")}


def to(url: str, **more: object) -> Policy:
    return Policy(allowed_domains=["api.openai.com"], upstreams={"https://api.openai.com": url}, **more)  # type: ignore[arg-type]


@pytest.fixture
def catalyst(host: Host, openai_file: Path, fake: FakeOpenAI) -> Catalyst:
    return host.load(openai_file, policy=to(fake.url), secrets=KEYS)


@pytest.fixture
def client(catalyst: Catalyst) -> Iterator[official.OpenAI]:
    with official.OpenAI(catalyst, max_retries=0) as one:
        yield one
