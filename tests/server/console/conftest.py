"""A console, and an operator who has signed in to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx2
import pytest

from host.runtime.workspace import Workspace
from host.store.access.api_keys import ApiKey
from tests.server.conftest import PATIENCE_S, Server

API = "/console/api"


class Browser:
    """What a page of the console's is to the server: a cookie, an origin and a token."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = httpx2.Client(base_url=url, timeout=PATIENCE_S, trust_env=False)
        self.token = ""

    def sign_in(self, text: str, **headers: str) -> httpx2.Response:
        answer = self.post("/session", {"key": text}, **headers)
        self.token = answer.json().get("token", "")
        return answer

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self.client.get(API + path, headers=headers)

    def post(self, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        return self.ask("POST", path, body if body is not None else {}, **headers)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        """`headers` join those of the page, with `_` for `-`; "" leaves one out."""
        sent = {"origin": self.url, "x-csrf-token": self.token, "content-type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = None if body is None else json.dumps(body).encode()
        return self.client.request(
            method, API + path, content=content, headers={name: value for name, value in sent.items() if value}
        )

    def lines(self, body: Any) -> list[dict[str, Any]]:
        """What the playground answers."""
        answer = self.post("/playground", body)
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    def close(self) -> None:
        self.client.close()


@pytest.fixture
def admin(workspace: Workspace) -> tuple[ApiKey, str]:
    """To be asked for before a server that is to know it at once."""
    return workspace.api_keys.create(name="admin", type="admin")


@pytest.fixture
def browser(server: Server) -> Iterator[Browser]:
    """Nobody has signed in."""
    with closing(Browser(server.url)) as one:
        yield one


@pytest.fixture
def operator(admin: tuple[ApiKey, str], browser: Browser) -> Browser:
    assert browser.sign_in(admin[1]).status_code == 200
    return browser


@pytest.fixture
def other(server: Server) -> Iterator[Callable[[], Browser]]:
    """Another browser."""
    opened: list[Browser] = []

    def make() -> Browser:
        opened.append(Browser(server.url))
        return opened[-1]

    yield make
    for one in opened:
        one.close()
