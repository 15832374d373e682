"""Clients of the fake OpenAI: through a sandbox, and without one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from host import Catalyst, Host, NullSink, Policy
from host.core.audit import Event
from host.fakes import FakeOpenAI
from host.openai import official
from tests.conftest import KEY

KEYS = {"OPENAI_API_KEY": KEY, "OPENAI_ADMIN_KEY": "sk-admin-" + KEY.removeprefix("sk-")}


def to(url: str, **more: object) -> Policy:
    return Policy(allowed_domains=["api.openai.com"], upstreams={"https://api.openai.com": url}, **more)  # type: ignore[arg-type]


class Events(NullSink):
    """Counts the runs that began and ended."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.changed = threading.Condition()

    def record(self, event: Event) -> None:
        with self.changed:
            self.begun += event.kind == "run.started"
            self.ended += event.kind == "run.ended"
            self.changed.notify_all()

    def began(self, before: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.begun > before, timeout=60)

    def settled(self) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.begun and self.begun == self.ended, timeout=60)


@pytest.fixture
def catalyst(host: Host, openai_file: Path, fake: FakeOpenAI) -> Catalyst:
    return host.load(openai_file, policy=to(fake.url), secrets=KEYS)


@pytest.fixture
def client(catalyst: Catalyst) -> Iterator[official.OpenAI]:
    with official.OpenAI(catalyst, max_retries=0) as one:
        yield one
