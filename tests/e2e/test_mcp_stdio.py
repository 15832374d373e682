"""`host mcp` as a desktop client starts it: the program as people have it, and the official client."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
from mcp import Client, MCPError, StdioServerParameters

from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.store.audit_log.records import RunSummary, runs
from tests.conftest import KEY
from tests.server.conftest import OPENAI, installed_state, send_to  # noqa: F401 - a fixture

T = TypeVar("T")
PROGRAM = Path(sys.executable).with_name("host")
PATIENCE_S = 60
CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello in 20 words"}]}

EXECUTION: dict[str, Any] = {
    "action": "run",
    "reference": "c:local.openai",
    "input": {"operation": "chat.completions.create", "params": CHAT, "stream": True},
}


@pytest.fixture
def state(tmp_path: Path, installed_state: Path, fake: FakeOpenAI) -> Path:  # noqa: F811 - the fixture
    folder = tmp_path / "state"
    shutil.copytree(installed_state, folder)
    with Workspace.open(folder) as workspace:
        send_to(workspace, OPENAI, fake.url)
    return folder


@pytest.fixture
def environment(state: Path) -> dict[str, str]:
    return {**os.environ, "HOST_STATE_DIR": str(state), "HOME": str(state.parent)}


@pytest.fixture(params=["legacy", "2026-07-28"])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def started(environment: dict[str, str]) -> Callable[..., Client]:
    """`started("--manage")`: a client that has begun the program with these options."""

    def client(*options: str, mode: str = "auto") -> Client:
        return Client(StdioServerParameters(command=str(PROGRAM), args=["mcp", *options], env=environment), mode=mode)

    return client


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(asyncio.wait_for(coroutine, PATIENCE_S))
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


def ended(state: Path) -> RunSummary:
    with Workspace.open(state) as workspace:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            found = runs(workspace.database, limit=1)
            if found and found[0].outcome != "unfinished":
                return found[0]
            time.sleep(0.02)
    raise AssertionError("the run goes on")


def test_a_desktop_client_lists_calls_and_reads_along(
    started: Callable[..., Client], fake: FakeOpenAI, era: str
) -> None:
    fake.script([{"path": "/v1/chat/*", "times": None, "event_delay_s": 0.01}])
    notes: list[str] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        notes.append(message or "")

    async def used() -> tuple[set[str], Any, Any]:
        async with started(mode=era) as client:
            listed = {one.name for one in (await client.list_tools()).tools}
            plain = await client.call_tool("openai_models_list", {})
            streamed = await client.call_tool("execution", EXECUTION, progress_callback=note)
            return listed, plain, streamed

    listed, plain, streamed = finished(used())
    assert {"execution", "component", "openai_models_list"} <= listed
    assert not {"secret", "policy", "audit"} & listed
    assert plain.structured_content["object"] == "list"
    assert len(notes) > 3
    assert "".join(notes) == streamed.structured_content["data"]["combined_text"]
    assert fake.requests[-1]["headers"]["authorization"] == f"Bearer {KEY}"


def test_a_call_that_the_client_cancels_ends_the_run_and_the_request_upstream(
    started: Callable[..., Client], state: Path, era: str
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        silent.settimeout(PATIENCE_S)
        with Workspace.open(state) as workspace:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            workspace.policies.set(OPENAI, "upstreams", {"https://api.openai.com": url})

        def upstream() -> socket.socket:
            connection, _ = silent.accept()
            connection.settimeout(PATIENCE_S)
            assert connection.recv(65536)
            return connection

        async def cancelled() -> Any:
            async with started(mode=era) as client:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(client.call_tool, "openai_models_list", {})
                    connection = await asyncio.to_thread(upstream)
                    tasks.cancel_scope.cancel()
                with closing(connection):
                    while await asyncio.to_thread(connection.recv, 65536):
                        pass
                return await client.call_tool("execution", {"action": "list"})  # it goes on serving

        listed = finished(cancelled())
    assert len(listed.structured_content["runs"]) == 1
    assert ended(state).outcome == "cancelled"


def test_an_agent_manages_only_where_its_user_said_so(started: Callable[..., Client], state: Path) -> None:
    grab = {"action": "grant", "name": "OPENAI_API_KEY", "reference": "c:local.openai", "reveal": True}

    async def tried(*options: str) -> tuple[set[str], Any]:
        async with started(*options) as client:
            listed = {one.name for one in (await client.list_tools()).tools}
            return listed, await client.call_tool("secret", grab)

    listed, result = finished(tried())
    assert "secret" not in listed
    assert result.structured_content["error"]["type"] == "forbidden"
    with Workspace.open(state) as workspace:
        assert all(one.grant is None for one in workspace.grants.all())

    listed, result = finished(tried("--manage"))
    assert {"secret", "policy", "audit"} <= listed
    assert not result.is_error


def test_it_can_be_narrowed_to_some_catalysts(started: Callable[..., Client]) -> None:
    async def tried() -> tuple[set[str], Any, Any, Any]:
        async with started("--reference", "c:local.other") as client:
            given = {"action": "run", "reference": "c:local.openai", "input": {"operation": "models.list"}}
            return (
                {one.name for one in (await client.list_tools()).tools},
                await client.call_tool("execution", given),
                await client.call_tool("component", {"action": "search"}),
                await client.call_tool("component", {"action": "inspect", "reference": "c:local.openai"}),
            )

    listed, ran, found, inspected = finished(tried())
    assert listed == {"execution", "component"}
    assert ran.structured_content["error"]["type"] == "not_found"
    assert found.structured_content == {"components": []}
    assert inspected.structured_content["error"]["type"] == "not_found"


def test_a_tool_that_there_is_not_is_no_call(started: Callable[..., Client], era: str) -> None:
    async def tried() -> None:
        async with started(mode=era) as client:
            await client.call_tool("nothing", {})

    with pytest.raises(MCPError, match="no tool 'nothing'"):
        finished(tried())


@pytest.fixture
def process(environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [str(PROGRAM), "mcp"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        try:
            yield running
        finally:
            running.kill()


HELLO = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"},
    },
}  # fmt: skip


def greeted(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(HELLO).encode() + b"\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


def test_it_ends_with_its_input_and_says_nothing_but_the_protocol(process: subprocess.Popen[bytes]) -> None:
    assert greeted(process)["result"]["protocolVersion"] == "2025-06-18"
    call = {"jsonrpc": "2.0", "id": 2.0, "method": "tools/call", "params": {"name": "openai_models_list"}}
    out, err = process.communicate(b"this is no JSON\r\n\r\n" + json.dumps(call).encode(), timeout=PATIENCE_S)
    assert process.returncode == 0
    refused, answer = map(json.loads, out.splitlines())
    assert (refused["id"], refused["error"]["code"]) == (None, -32700)
    assert answer["id"] == 2
    assert answer["result"]["structuredContent"]["object"] == "list"
    assert b"Traceback" not in err


def test_it_ends_when_it_is_interrupted(process: subprocess.Popen[bytes]) -> None:
    greeted(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert out == b""
    assert b"Traceback" not in err


def test_a_state_that_cannot_be_opened_is_told_on_standard_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    environment = {**os.environ, "HOST_STATE_DIR": str(tmp_path / "state")}
    ran = subprocess.run(
        [str(PROGRAM), "mcp"], env=environment, input=b"", capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert ran.returncode == 6
    assert ran.stdout == b""
    assert b"Traceback" not in ran.stderr
    assert ran.stderr.startswith(b"error: ")


def test_the_help_has_what_a_client_is_configured_with(environment: dict[str, str]) -> None:
    ran = subprocess.run([str(PROGRAM), "mcp", "--help"], env=environment, capture_output=True, timeout=60, check=True)
    said = ran.stdout.decode()
    snippet = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert snippet == {"mcpServers": {"catalysts": {"command": str(PROGRAM), "args": ["mcp"]}}}


def test_a_reference_that_is_none_is_a_mistake_of_usage(environment: dict[str, str]) -> None:
    ran = subprocess.run(
        [str(PROGRAM), "mcp", "--reference", "openai"], env=environment, capture_output=True, timeout=60, check=False
    )
    assert ran.returncode == 2
    assert b"not a reference" in ran.stderr


def test_a_catalyst_that_is_not_there_yet_is_named(environment: dict[str, str]) -> None:
    ran = subprocess.run(
        [str(PROGRAM), "mcp", "--reference", "c:local.nothing"],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, b"")
    assert b"there is no c:local.nothing" in ran.stderr
    assert b"it is served once it is there" in ran.stderr
