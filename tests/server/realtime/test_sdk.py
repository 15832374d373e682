"""The official SDK's realtime clients, unmodified, through the gateway to the fake."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from host.fakes import FakeOpenAI
from tests.conftest import ROOT, with_packages
from tests.server.conftest import Server, until

NODE = ROOT / "tests" / "server" / "openai" / "node"

SOUND = base64.b64encode(bytes(9_600)).decode()
IN_5_WORDS: Any = {"output_modalities": ["text"], "instructions": "Say hello in 5 words"}


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as made:
        yield made


def test_a_conversation_in_text(client: openai.OpenAI, fake: FakeOpenAI) -> None:
    with client.realtime.connect(model="gpt-realtime") as line:
        assert line.recv().type == "session.created"
        line.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        assert line.recv().type == "session.updated"
        line.response.create(response=IN_5_WORDS)
        said = ""
        for event in line:
            if event.type == "response.output_text.delta":
                said += event.delta
            elif event.type == "response.done":
                break
        assert len(said.split()) == 5
    (seen,) = fake.requests
    assert seen["query"] == {"model": "gpt-realtime"}
    assert "any" not in seen["headers"]["authorization"]
    assert "openai-beta" not in seen["headers"]


def test_sound_in_and_out_and_a_mistake_in_between(client: openai.OpenAI) -> None:
    with client.realtime.connect(model="gpt-realtime") as line:
        line.input_audio_buffer.commit()
        line.input_audio_buffer.append(audio=SOUND)
        line.input_audio_buffer.commit()
        line.response.create()
        kinds = []
        for event in line:
            kinds.append(event.type)
            if event.type == "response.done":
                break
        assert kinds[:3] == ["session.created", "error", "input_audio_buffer.committed"]
        assert {"response.output_audio.delta", "response.output_audio_transcript.done"} <= set(kinds)


def test_the_beta_s_client_gets_the_beta(server: Server, fake: FakeOpenAI) -> None:
    plain = server.url.replace("http", "ws", 1) + "/v1"  # else it takes TLS for granted
    with (
        openai.OpenAI(base_url=server.url + "/v1", websocket_base_url=plain, api_key="any") as client,
        client.beta.realtime.connect(model="gpt-4o-realtime-preview") as line,
    ):
        line.session.update(session={"modalities": ["text"]})
        line.response.create()
        kinds = []
        for event in line:
            kinds.append(event.type)
            if event.type == "response.done":
                break
        assert "response.text.delta" in kinds
    assert fake.requests[0]["headers"]["openai-beta"] == "realtime=v1"


def test_responses_over_a_websocket(client: openai.OpenAI) -> None:
    with client.responses.connect() as line:
        for _ in range(2):
            line.response.create(model="gpt-4o", input="Say hello in 4 words")
            kinds = []
            for event in line:
                kinds.append(event.type)
                if event.type == "response.completed":
                    break
            assert kinds[0] == "response.created"
            assert len(event.response.output_text.split()) == 4


def test_a_translation(client: openai.OpenAI) -> None:
    with client.realtime.translations.connect(model="gpt-realtime-translate") as line:
        line.session.input_audio_buffer.append(audio=SOUND)
        line.session.close()
        assert [event.type for event in line] == [
            *("session.created", "session.input_transcript.delta", "session.output_transcript.delta"),
            *("session.output_audio.delta", "session.closed"),
        ]


def test_a_live_session_and_one_beside_it(client: openai.OpenAI) -> None:
    with client.live.connect() as line:
        line.session.start(session={"model": "gpt-live-1"})
        started = line.recv()
        assert started.type == "session.started"
        with client.live.sideband.connect(session_id=started.session.id) as beside:
            beside.session.update(session={})
            assert beside.recv().type == "session.updated"


def test_many_connections_at_once_from_async_code(server: Server) -> None:
    async def one(client: openai.AsyncOpenAI) -> int:
        async with client.realtime.connect(model="gpt-realtime") as line:
            await line.response.create(response=IN_5_WORDS)
            async for event in line:
                if event.type == "response.done":
                    assert event.response.usage is not None
                    return event.response.usage.output_tokens or 0
        return 0

    async def all_of_them() -> list[int]:
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as client:
            return await asyncio.gather(*(one(client) for _ in range(8)))

    assert asyncio.run(all_of_them()) == [5] * 8
    until(lambda: not server.application.dispatch.running)


@pytest.mark.node
def test_the_node_sdk_s_client_for_browsers(server: Server, key: Callable[..., str], caplog: Any) -> None:
    text = key()
    server.up_to_date()
    place = with_packages("openai-node", NODE)
    program = ["node", "--experimental-websocket", "--no-warnings", "realtime.mjs", f"{server.url}/v1", text]
    done = subprocess.run(program, cwd=place, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["session.created", "5"]
    assert text not in caplog.text
