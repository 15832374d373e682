"""Events as progress, and what becomes of a run whose caller leaves."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import anyio
import pytest

from host.core.names import Reference
from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.store.audit_log.records import RunSummary, runs
from tests.server.conftest import OPENAI, PATIENCE_S, Server, held_up, until
from tests.server.mcp.conftest import CHAT, asked, called, connected, finished, posted

STREAM = {"operation": "chat.completions.create", "params": CHAT, "stream": True}
EXECUTION = {"action": "run", "reference": {"local": "c:local.openai"}, "input": STREAM}


def told(
    server: Server, name: str, arguments: dict[str, Any], mode: str, enough: Callable[[int], None] = lambda _: None
) -> tuple[Any, list[tuple[float, str]]]:
    """The result, and the progress on the way to it. `enough` hears how many notes there are."""
    notes: list[tuple[float, str]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        notes.append((progress, message or ""))
        enough(len(notes))

    async def ask(client: Any) -> Any:
        return await client.call_tool(name, arguments, progress_callback=note)

    return asked(server, ask, mode=mode), notes


def test_whoever_asks_for_progress_hears_that_the_call_goes_on(
    server: Server, fake: FakeOpenAI, era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("host.server.mcp.run_tool._EVERY_S", 0.01)
    monkeypatch.setattr("host.server.mcp.run_tool.time", Clock())
    with ExitStack() as held:
        held.enter_context(held_up(fake))
        result, notes = told(
            server, "openai_chat_completions_create", CHAT, era, lambda count: held.close() if count > 2 else None
        )
    assert result.structured_content["choices"]
    assert notes[0] == (0, "chat.completions.create has begun")
    assert len(notes) > 2
    assert [at for at, _ in notes] == sorted({at for at, _ in notes})


class Clock:
    """In place of `time`: a second passes between two looks."""

    def __init__(self) -> None:
        self._counted = itertools.count()

    def monotonic(self) -> float:
        return next(self._counted)


TOOLS = {
    "chat": ("openai_chat_completions_create", CHAT),
    "chat with a tool and two choices": (
        "openai_chat_completions_create",
        {**CHAT, "n": 2, "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
    ),
    "completions": ("openai_completions_create", {"model": "gpt-3.5-turbo-instruct", "prompt": "Once"}),
    "responses": ("openai_responses_create", {"model": "gpt-4o-mini", "input": "Hello"}),
    "images": ("openai_images_generate", {"model": "gpt-image-1", "prompt": "a cat", "n": 2}),
    "transcriptions": (
        "openai_audio_transcriptions_create",
        {"model": "gpt-4o-transcribe", "file": {"data": base64.b64encode(b"sound").decode(), "filename": "a.mp3"}},
    ),
    "models": ("openai_models_list", {}),
    "execution of a stream": ("execution", EXECUTION),
}
OF_THE_CALL = {
    "id",
    "created",
    "created_at",
    "completed_at",
    "execution_id",
    "duration_s",
    "item_id",
    "expires_at",
    "run",
}


def without_what_is_new_each_time(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_what_is_new_each_time(one) for key, one in value.items() if key not in OF_THE_CALL}
    return [without_what_is_new_each_time(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("of", TOOLS)
def test_a_progress_token_changes_nothing_of_the_answer(server: Server, fake: FakeOpenAI, of: str) -> None:
    name, arguments = TOOLS[of]
    plain, asked_plain = called(server, name, arguments), fake.requests[-1]["body"]
    result, notes = told(server, name, arguments, "auto")
    assert notes
    assert fake.requests[-1]["body"] == asked_plain
    assert plain.structured_content is not None
    first, second = plain.structured_content, result.structured_content
    assert without_what_is_new_each_time(second) == without_what_is_new_each_time(first)
    assert second.keys() == first.keys()
    [text], [told_text] = plain.content, result.content
    assert without_what_is_new_each_time(json.loads(told_text.text)) == without_what_is_new_each_time(
        json.loads(text.text)
    )


def test_execution_streams_where_its_input_says_so(server: Server, era: str) -> None:
    result, notes = told(server, "execution", EXECUTION, era)
    data = result.structured_content["data"]
    assert data["combined_text"] == "".join(text for _, text in notes)
    assert data["chunks"][0]["object"] == "chat.completion.chunk"


def test_an_answer_in_one_piece_is_the_answer_to_a_stream_too(server: Server, fake: FakeOpenAI) -> None:
    made = {"id": "c1", "object": "chat.completion", "choices": [], "usage": {"total_tokens": 7}}
    fake.script([{"status": 200, "body": made}])
    assert called(server, "execution", EXECUTION).structured_content["data"] == made


def test_choices_of_a_stream_are_not_mixed(server: Server) -> None:
    two = {**EXECUTION, "input": {**STREAM, "params": {**CHAT, "n": 2}}}
    data = called(server, "execution", two).structured_content["data"]
    said = ["", ""]
    for chunk in data["chunks"]:
        for choice in chunk["choices"]:
            said[choice["index"]] += choice["delta"].get("content") or ""
    assert all(said)
    assert (data["combined_text"], data["texts"]) == (said[0], said)


def test_a_stream_is_gathered_for_whoever_takes_no_events(server: Server) -> None:
    result = posted(server, "tools/call", {"name": "execution", "arguments": EXECUTION}).json()["result"]
    data = result["structuredContent"]["data"]
    assert data["chunks"]
    assert data["combined_text"]


def test_a_token_alone_does_not_bring_events_to_whoever_takes_none(server: Server) -> None:
    params = {"name": "openai_chat_completions_create", "arguments": CHAT, "_meta": {"progressToken": 1}}
    answer = posted(server, "tools/call", params)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["result"]["structuredContent"]["choices"]


def test_progress_comes_as_events_before_the_result(server: Server, fake: FakeOpenAI) -> None:
    fake.script([{"event_delay_s": 0.05}])
    params = {"name": "execution", "arguments": EXECUTION, "_meta": {"progressToken": "t"}}
    answer = posted(server, "tools/call", params, accept="application/json, text/event-stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    messages = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    *notes, last = messages
    assert {one["method"] for one in notes} == {"notifications/progress"}
    assert {one["params"]["progressToken"] for one in notes} == {"t"}
    assert last["result"]["structuredContent"]["data"]["combined_text"]


def test_an_upstream_that_fails_in_mid_stream_is_an_error(server: Server, fake: FakeOpenAI, era: str) -> None:
    fake.script([{"cut_after_events": 2}])
    result, _ = told(server, "execution", EXECUTION, era)
    assert result.is_error


@pytest.fixture
def silent(workspace: Workspace) -> Iterator[socket.socket]:
    """In place of the fake: an upstream that takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(PATIENCE_S)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        workspace.policies.set(OPENAI, "upstreams", {"https://api.openai.com": url})
        yield listener


def request_on(listener: socket.socket) -> socket.socket:
    """The connection on which a request has come."""
    connection, _ = listener.accept()
    connection.settimeout(PATIENCE_S)
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    return connection


def closes(connection: socket.socket) -> bool:
    """Whether the other side ends it, which is waited for."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return True


def leaving_call(server: Server, accept: str, version: str) -> socket.socket:
    """The connection on which a call was sent, for the test to close."""
    params = {"name": "openai_models_list", "arguments": {}, "_meta": {"progressToken": 1}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: {accept}\r\n"
        f"MCP-Protocol-Version: {version}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    client = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
    client.sendall(head.encode() + body)
    return client


def ended(workspace: Workspace) -> RunSummary:
    """The latest run, once it has."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        [latest] = runs(workspace.database, limit=1)
        if latest.outcome != "unfinished":
            return latest
        time.sleep(0.01)
    raise AssertionError("the run goes on")


def test_a_client_of_2026_that_cancels_its_call_ends_the_run_and_the_request_upstream(
    server: Server, workspace: Workspace, silent: socket.socket
) -> None:
    async def cancelled() -> None:
        async with connected(server, mode="2026-07-28") as client, anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "openai_models_list", {})
            connection = await asyncio.to_thread(request_on, silent)
            tasks.cancel_scope.cancel()
        with closing(connection):
            assert await asyncio.to_thread(closes, connection)

    finished(cancelled())
    assert ended(workspace).outcome == "cancelled"


@pytest.mark.parametrize("accept", ["*/*", "application/json, text/event-stream"])
@pytest.mark.parametrize("version", ["2025-11-25", "2025-06-18"])
def test_a_client_that_closes_its_post_ends_the_run_and_the_request_upstream(
    server: Server, workspace: Workspace, silent: socket.socket, accept: str, version: str
) -> None:
    with closing(leaving_call(server, accept, version)):
        upstream = request_on(silent)
    with closing(upstream):
        assert closes(upstream)
    assert ended(workspace).outcome == "cancelled"
    assert posted(server, "tools/list", {}).status_code == 200


def cancel(server: Server, ident: object, version: str, bearer: str = "") -> int:
    given = {"authorization": f"Bearer {bearer}"} if bearer else {}
    body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": ident}}
    headers = {"mcp-protocol-version": version, "accept": "application/json, text/event-stream", **given}
    return server.post("/mcp", json=body, headers=headers).status_code


@pytest.mark.parametrize("accept", ["application/json", "application/json, text/event-stream"])
@pytest.mark.parametrize(("version", "named"), [("2025-11-25", 1), ("2025-03-26", 1.0)])
def test_a_call_that_is_cancelled_by_a_notification_ends_its_run_and_is_answered(
    server: Server, workspace: Workspace, silent: socket.socket, accept: str, version: str, named: object
) -> None:
    with closing(leaving_call(server, accept, version)) as client:
        with closing(request_on(silent)) as upstream:
            assert cancel(server, 2, version) == 202  # another one
            assert cancel(server, named, version) == 202
            assert closes(upstream)
        received = b""
        while b"cancelled the request" not in received:
            more = client.recv(65536)
            assert more, received
            received += more
    assert b"-32800" in received
    assert b'"id":1' in received.replace(b" ", b"")
    assert ended(workspace).outcome == "cancelled"
    assert cancel(server, named, version) == 202  # once more, and too late


def test_a_call_of_another_key_is_not_cancelled(
    server: Server, workspace: Workspace, silent: socket.socket, key: Callable[..., str]
) -> None:
    bearer, other = key("mine"), key("other")
    running = threading.Thread(target=lambda: posted(server, "tools/call", {"name": "openai_models_list"}, bearer))
    running.start()
    with closing(request_on(silent)):
        assert cancel(server, 1, "2025-11-25", other) == 202
        assert called(server, "execution", {"action": "list"}, bearer).structured_content["runs"][0]["running"]
        assert cancel(server, 1, "2025-11-25", bearer) == 202
        running.join(PATIENCE_S)
    assert ended(workspace).outcome == "cancelled"


def test_a_stream_whose_reader_leaves_is_cancelled_in_its_middle(
    server: Server, workspace: Workspace, fake: FakeOpenAI
) -> None:
    fake.script([{"event_delay_s": 0.2}])
    many = {**CHAT, "messages": [{"role": "user", "content": "Say hello in 900 words"}]}
    long = {**EXECUTION, "input": {**STREAM, "params": many}}

    async def left() -> None:
        begun = anyio.Event()

        async def note(progress: float, total: float | None, message: str | None) -> None:
            begun.set()

        async def call(client: Any) -> None:
            await client.call_tool("execution", long, progress_callback=note)

        async with connected(server, mode="2026-07-28") as client, anyio.create_task_group() as tasks:
            tasks.start_soon(call, client)
            await begun.wait()
            tasks.cancel_scope.cancel()

    finished(left())
    assert ended(workspace).outcome == "cancelled"


def test_a_run_can_be_cancelled_by_the_key_that_began_it(
    server: Server, workspace: Workspace, silent: socket.socket, key: Callable[..., str]
) -> None:
    bearer, other = key("mine"), key("other")
    answers: list[Any] = []
    running = threading.Thread(target=lambda: answers.append(called(server, "openai_models_list", {}, bearer)))
    running.start()
    with closing(request_on(silent)) as upstream:
        [run] = called(server, "execution", {"action": "list"}, bearer).structured_content["runs"]
        assert run["running"]
        assert called(server, "execution", {"action": "list"}, other).structured_content["runs"] == []
        cancel = {"action": "cancel", "run": run["run"]}
        refused = called(server, "execution", cancel, other)
        assert refused.structured_content["error"]["type"] == "not_found"
        assert running.is_alive()
        assert called(server, "execution", cancel, bearer).structured_content["cancelled"]
        assert closes(upstream)
    running.join(PATIENCE_S)
    assert answers[0].structured_content["error"]["type"] == "cancelled"
    again = called(server, "execution", cancel, bearer).structured_content
    assert again == {"run": run["run"], "execution_id": run["run"], "cancelled": False, "outcome": "cancelled"}


def test_a_run_of_another_process_is_cancelled_as_soon_as_that_looks(
    serving: Callable[..., Server], workspace: Workspace, silent: socket.socket
) -> None:
    first, second = serving(), serving()
    running = threading.Thread(target=lambda: called(first, "openai_models_list", {}))
    running.start()
    with closing(request_on(silent)) as upstream:
        [run] = called(second, "execution", {"action": "list"}).structured_content["runs"]
        called(second, "execution", {"action": "cancel", "run": run["run"]})
        assert closes(upstream)
    running.join(PATIENCE_S)
    assert ended(workspace).outcome == "cancelled"
    assert Reference.parse(run["reference"]).any_version == OPENAI


def test_nothing_is_left_of_calls_that_were_answered_or_left(
    server: Server, workspace: Workspace, silent: socket.socket
) -> None:
    def tasks() -> int:
        return len(asyncio.all_tasks(server.application._mcp._holding.get_loop()))  # type: ignore[union-attr]  # it has begun

    accepts = ("*/*", "application/json, text/event-stream")
    params = {"_meta": {"progressToken": 1}}
    for accept in accepts:
        assert posted(server, "tools/list", params, accept=accept).status_code == 200
    before = tasks()
    for _ in range(20):
        for accept in accepts:
            assert posted(server, "tools/list", params, accept=accept).status_code == 200
    for accept in accepts:
        with closing(leaving_call(server, accept, "2025-11-25")):
            upstream = request_on(silent)
        with closing(upstream):
            assert closes(upstream)
    assert ended(workspace).outcome == "cancelled"
    until(lambda: tasks() <= before)
