"""An upgrade under way is no outage of a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from host.component.manifest import embedded_text
from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.store.components import Component
from tests.cli.conftest import Upstream
from tests.server.conftest import OPENAI, Server, send_to
from tests.server.engine import SharedLoader
from tests.server.openai.test_gateway import CHAT, EVENT, STREAM_HEAD, Client, with_manifest


@pytest.fixture
def waiting(workspace: Workspace, openai_wasm: bytes) -> Component:
    """A version that asks for more than is approved, and so waits."""
    manifest = json.loads(embedded_text(openai_wasm) or b"")
    manifest |= {"version": "9.9.9", "domains": ["api.openai.com", "elsewhere.example"]}
    loader = SharedLoader()
    try:
        return workspace.register(with_manifest(openai_wasm, manifest, workspace.state_dir / "later.wasm"), loader)
    finally:
        loader.sandbox.close()


def test_each_request_is_answered_before_and_while_and_after_a_version_is_approved_and_pinned(
    serving: Callable[..., Server], state_dir: Path, fake: FakeOpenAI, waiting: Component, workspace: Workspace
) -> None:
    server = serving()
    first = workspace.components.resolve(OPENAI).reference

    def answering() -> str:
        server.up_to_date()
        answer = server.post("/v1/chat/completions", json=CHAT)
        assert answer.status_code == 200
        return str(answer.headers["x-catalyst"])

    with closing(Upstream()) as slow, Workspace.open(state_dir) as operator:  # as another process
        send_to(operator, OPENAI, slow.url)
        server.up_to_date()
        with closing(Client(server, {**CHAT, "stream": True})) as client:
            slow.send(STREAM_HEAD + EVENT % b"one")
            client.read_until(b'"one"')
            send_to(operator, OPENAI, fake.url)
            assert answering() == str(first)
            operator.components.approve(waiting)
            assert answering() == str(OPENAI.at("9.9.9"))
            operator.components.pin(first)
            assert answering() == str(first)
            operator.components.unpin(first)
            operator.components.unregister(first)
            assert answering() == str(OPENAI.at("9.9.9"))
            slow.send(EVENT % b"two" + b"data: [DONE]\n\n")
            slow.close()
            client.read_until(b"[DONE]")
            assert b'"two"' in client.received
