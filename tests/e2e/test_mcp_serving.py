"""MCP of `host serve`, as a program: several workers without a session between them, and an end that finishes streams."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from tests.server.conftest import OPENAI, installed_state, send_to  # noqa: F401 - a fixture

PROGRAM = Path(sys.executable).with_name("host")
PATIENCE_S = 60
CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello in 30 words"}]}


@pytest.fixture
def serving(
    tmp_path: Path,
    installed_state: Path,  # noqa: F811 - the fixture
    fake: FakeOpenAI,
) -> Iterator[Callable[..., tuple[Any, str]]]:
    """`serving("--workers", "2")`: the process, and its URL."""
    state = tmp_path / "state"
    shutil.copytree(installed_state, state)
    with Workspace.open(state) as workspace:
        send_to(workspace, OPENAI, fake.url)
    environment = {**os.environ, "HOST_STATE_DIR": str(state), "PYTHONUNBUFFERED": "1"}
    with ExitStack() as stack:

        def start(*options: str) -> tuple[subprocess.Popen[str], str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [str(PROGRAM), "serve", "--port", "0", *options],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    return process, found[0]
            raise AssertionError("it never listened")

        yield start


def test_any_worker_answers_any_request_of_a_client(serving: Callable[..., tuple[Any, str]]) -> None:
    _, url = serving("--workers", "2")

    async def calls(mode: str) -> list[Any]:
        async with (
            httpx2.AsyncClient(
                timeout=PATIENCE_S, trust_env=False, limits=httpx2.Limits(max_keepalive_connections=0)
            ) as http,
            Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client,
        ):
            return await asyncio.gather(*(client.call_tool("openai_models_list", {}) for _ in range(12)))

    for mode in ("legacy", "2026-07-28"):
        results = asyncio.run(asyncio.wait_for(calls(mode), PATIENCE_S))
        assert [one.is_error for one in results] == [False] * 12


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
def test_a_server_that_is_told_to_end_finishes_its_streams(
    serving: Callable[..., tuple[Any, str]], fake: FakeOpenAI, version: str
) -> None:
    fake.script([{"path": "/v1/chat/*", "event_delay_s": 0.1}])
    process, url = serving()
    meta: dict[str, Any] = {"progressToken": 1}
    headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": version}
    if version == "2026-07-28":
        headers |= {"mcp-method": "tools/call", "mcp-name": "execution"}
        meta |= {
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        }
    asked = {"operation": "chat.completions.create", "params": CHAT, "stream": True}
    given = {"action": "run", "reference": str(OPENAI), "input": asked}
    params = {"name": "execution", "arguments": given, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    messages = []
    with (
        httpx2.Client(timeout=PATIENCE_S, trust_env=False) as client,
        client.stream("POST", f"{url}/mcp", json=body, headers=headers) as answer,
    ):
        for line in answer.iter_lines():
            if line.startswith("data: "):
                if not messages:
                    process.send_signal(signal.SIGTERM)
                messages.append(json.loads(line[6:]))
    assert messages[-1]["result"]["structuredContent"]["data"]["combined_text"]
    assert len(messages) > 3
    assert process.wait(PATIENCE_S) == 0
