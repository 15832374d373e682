"""How much of our code a request passes through, traced: it may not become more."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from host import Host, Policy, Secret, Workspace
from host.fakes import FakeOpenAI
from host.server import Application
from tests.asgi import ask
from tests.conformance.tracing import Trace, traced
from tests.conftest import KEY
from tests.server.conftest import installed_state, state_dir, workspace  # noqa: F401 - fixtures

CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello in one word"}]}
MOST_FILES_OF_A_REQUEST = 45
MOST_CALLS_OF_A_REQUEST = 685
MOST_FILES_OF_A_RUN = 29  # one of them starts a thread, where that of the run before is not free yet


@pytest.fixture
def chat_by_gateway(
    workspace: Workspace,  # noqa: F811 - the fixture
    state_dir: Path,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> Trace:
    monkeypatch.setattr("host.service.catalog.LOOK_S", 60.0)  # to look for changes is no part of a request
    numbers = count()  # a random id now and then looks like a text in base64, and is read as one, too
    monkeypatch.setattr("secrets.token_hex", lambda size: sha256(b"%d" % next(numbers)).hexdigest()[: 2 * size])
    application = Application(state_dir=state_dir, workspace=workspace)
    with asyncio.Runner() as runner:

        def chat() -> None:
            status, body = runner.run(ask(application, "POST", "/v1/chat/completions", json.dumps(CHAT).encode()))
            assert (status, json.loads(body)["object"]) == (200, "chat.completion")

        trace = traced(chat, warm=5)
        runner.run(application.dispatch.end())
    application.close()

    return trace


def parsed(trace: Trace) -> int:
    return sum(count for (file, name), count in trace.by_function.items() if (file, name) == PARSES)


PARSES = ("core/strict_json.py", "parse_json")
EPOCH = ("sandbox/instance.py", "_on_epoch")
CALLS_OF_A_TICK = 5  # itself, Run.check twice, ComputingTurn.share and Slots.wanted
CHECKS = ("component/schema.py", "InputSchema.check")


def test_a_chat_completion_passes_through_few_files_and_calls(chat_by_gateway: Trace) -> None:
    assert len(chat_by_gateway.files) <= MOST_FILES_OF_A_REQUEST, chat_by_gateway.table()
    ticks = chat_by_gateway.by_function[EPOCH] * CALLS_OF_A_TICK  # a busy machine has more of them
    assert 100 < chat_by_gateway.calls - ticks <= MOST_CALLS_OF_A_REQUEST, chat_by_gateway.table()


def test_each_text_is_parsed_once_and_the_request_checked_once(chat_by_gateway: Trace) -> None:
    """The client's body, the guest's request, the guest's output, and the document of the upstream in it."""
    assert parsed(chat_by_gateway) == 4, chat_by_gateway.table()
    assert chat_by_gateway.by_function[CHECKS] == 2, "the envelope once, and the parameters once"


def test_a_warm_run_passes_through_few_files(openai_wasm: bytes, fake: FakeOpenAI) -> None:
    policy = Policy(allowed_domains=["api.openai.com"], upstreams={"https://api.openai.com": fake.url})
    with Host() as host, asyncio.Runner() as runner:  # a host of its own: its threads start while they are traced
        catalyst = host.load(openai_wasm, policy=policy, secrets={"OPENAI_API_KEY": Secret(KEY)})

        async def chat() -> None:
            assert (await catalyst.arun({"operation": "chat.completions.create", "params": CHAT})).ok

        trace = traced(lambda: runner.run(chat()))
    assert len(trace.files) <= MOST_FILES_OF_A_RUN, trace.table()
    assert 1 <= parsed(trace) <= 3, trace.table()
