"""The official client against a server, in both eras of the protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from host.component.manifest import embed
from host.runtime.workspace import Workspace
from tests.server.conftest import PATIENCE_S, Server
from tests.server.engine import SharedLoader

T = TypeVar("T")
ERAS = ("legacy", "2026-07-28")
CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello in 20 words"}]}


@asynccontextmanager
async def connected(server: Server, bearer: str = "", mode: str = "auto") -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=PATIENCE_S, trust_env=False) as http,
        Client(streamable_http_client(f"{server.url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


def asked(server: Server, ask: Callable[[Client], Awaitable[T]], bearer: str = "", mode: str = "auto") -> T:
    """What `ask` returns, given a client."""

    async def within() -> T:
        async with connected(server, bearer, mode) as client:
            return await ask(client)

    return finished(within())


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """What it returns, or raises: without the groups that the client's tasks wrap an error in."""
    try:
        return asyncio.run(asyncio.wait_for(coroutine, PATIENCE_S))
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


def called(server: Server, name: str, arguments: dict[str, Any], bearer: str = "", mode: str = "auto") -> Any:
    return asked(server, lambda client: client.call_tool(name, arguments), bearer, mode)


def posted(server: Server, method: str, params: dict[str, Any], bearer: str = "", **headers: str) -> httpx2.Response:
    """A plain POST, as `curl` sends it."""
    given = {"authorization": f"Bearer {bearer}"} if bearer else {}
    return server.post(
        "/mcp",
        json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
        headers={"mcp-protocol-version": "2025-11-25", "accept": "*/*", **given, **headers},
    )


def registered(workspace: Workspace, folder: Path, wasm: bytes, **manifest: Any) -> None:
    """Install the component `wasm`, which has no manifest yet, with this one."""
    file = folder / f"{manifest['id'].replace(':', '-')}.wasm"
    file.write_bytes(embed(wasm, json.dumps({"version": "1.0.0", **manifest}).encode()))
    loader = SharedLoader()
    try:
        workspace.register(file, loader)
    finally:
        loader.sandbox.close()


@pytest.fixture(autouse=True)
def looking_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test changes holds for its next request."""
    monkeypatch.setattr("host.service.catalog.LOOK_S", 0.0)


@pytest.fixture
def key(workspace: Workspace) -> Callable[..., str]:
    """`key("ci", …)` makes one, and is its text."""

    def made(name: str = "ci", type: str = "secret", **more: Any) -> str:  # noqa: A002 - as it is called elsewhere
        return workspace.api_keys.create(name=name, type=type, **more)[1]  # type: ignore[arg-type]  # it is one

    return made


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)
