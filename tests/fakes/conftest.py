import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest

from host.fakes import FakeOpenAI


class Raw:
    """A connection on which a test sends exact bytes."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        self._file = self.socket.makefile("rb")

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def post(self, path: str, value: Any, *headers: str) -> None:
        body = json.dumps(value).encode()
        lines = [f"POST {path} HTTP/1.1", "Host: fake", "Authorization: Bearer key", f"Content-Length: {len(body)}"]
        self.send("\r\n".join([*lines, *headers, "", ""]).encode(), body)

    def head(self) -> tuple[int, dict[str, str]]:
        """The status and headers of the next answer."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return status, headers

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer with its body, which has a declared length."""
        status, headers = self.head()
        return status, headers, self.read(int(headers.get("content-length", 0)))

    def read(self, count: int = -1) -> bytes:
        """`count` bytes, or everything until the server closes."""
        return self._file.read(count)

    def line(self) -> bytes:
        return self._file.readline()

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as running:
        yield running


@pytest.fixture
def client(fake: FakeOpenAI) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=fake.url + "/v1", api_key="sk-test", max_retries=0) as made:
        yield made


@pytest.fixture
def http(fake: FakeOpenAI) -> Iterator[httpx2.Client]:
    headers = {"authorization": "Bearer sk-test"}
    with httpx2.Client(base_url=fake.url, headers=headers, trust_env=False, timeout=60) as made:
        yield made


@pytest.fixture
def connect(fake: FakeOpenAI) -> Iterator[Callable[[], Raw]]:
    with ExitStack() as opened:

        def make() -> Raw:
            raw = Raw(fake.url)
            opened.callback(raw.close)
            return raw

        yield make
