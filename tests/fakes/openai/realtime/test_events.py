"""Every event of every WebSocket is what the official SDK's models say."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any

import openai
import pytest
from openai.types import live, realtime
from openai.types import responses as sdk_responses
from openai.types.beta import realtime as beta
from websockets.sync.client import ClientConnection

from tests.fakes.openai.realtime.conftest import Dial
from tests.fakes.openai.strictness import mistakes
from tests.fakes.openai.test_specification import FLAT_TOOL

SOUND = base64.b64encode(bytes(9_600)).decode()  # 200 ms
TOOL = {key: value for key, value in FLAT_TOOL.items() if key != "strict"}
# What OpenAI's own examples have, and the SDK's models have not, or let be null.
OF_EXAMPLES = {".session.object is not known", ".session.id is not known", ".session.expires_at is not known"}
WITHOUT_SPEECH_DETECTION = {".session.turn_detection is null", ".session.audio.input.turn_detection is null"}

Event = dict[str, Any]


def said(text: str) -> Event:
    content = [{"type": "input_text", "text": text}]
    return {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}


ASK = {"type": "response.create"}
IN_TEXT = {"type": "response.create", "response": {"output_modalities": ["text"]}}
APPEND = {"type": "input_audio_buffer.append", "audio": SOUND}
COMMIT = {"type": "input_audio_buffer.commit"}
TRANSCRIBING = {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}
START = {"type": "session.start", "session": {"model": "gpt-live-1", "instructions": "Be brief."}}

# Name: the path with its query, the events of the client, the last event of the server, and the SDK's model.
TALKS: dict[str, tuple[str, Sequence[Event], str, Any]] = {
    "speech": ("/realtime?model=gpt-realtime", [said("Say hello"), ASK], "rate_limits.updated", realtime.RealtimeServerEvent),
    "text": ("/realtime?model=gpt-realtime", [said("Say hello"), IN_TEXT], "rate_limits.updated", realtime.RealtimeServerEvent),
    "a text that is cut": (
        "/realtime?model=m", [{"type": "response.create", "response": {"max_output_tokens": 3}}], "rate_limits.updated",
        realtime.RealtimeServerEvent,
    ),
    "a function": (
        "/realtime?model=gpt-realtime",
        [{"type": "session.update", "session": {"type": "realtime", "tools": [TOOL], "tool_choice": "required"}}, ASK],
        "rate_limits.updated", realtime.RealtimeServerEvent,
    ),
    "sound": (
        "/realtime?model=gpt-realtime",
        [
            {"type": "session.update", "session": {"type": "realtime", "audio": TRANSCRIBING}},
            APPEND, {"type": "input_audio_buffer.clear"}, APPEND, COMMIT,
        ],
        "conversation.item.input_audio_transcription.completed", realtime.RealtimeServerEvent,
    ),
    "a transcription": (
        "/realtime?intent=transcription",
        [{"type": "session.update", "session": {"type": "transcription", "audio": TRANSCRIBING}}, APPEND, COMMIT],
        "conversation.item.input_audio_transcription.completed", realtime.RealtimeServerEvent,
    ),
    "a call": ("/realtime?call_id=rtc_1", [IN_TEXT], "rate_limits.updated", realtime.RealtimeServerEvent),
    "a mistake": ("/realtime?model=m", [{"type": "response.made"}], "error", realtime.RealtimeServerEvent),
    "a translation": (
        "/realtime/translations?model=gpt-realtime-translate",
        [
            {"type": "session.update", "session": {"audio": {"output": {"language": "fr"}}}},
            {"type": "session.input_audio_buffer.append", "audio": SOUND}, {"type": "session.close"},
        ],
        "session.closed", realtime.RealtimeTranslationServerEvent,
    ),
    "a live session": (
        "/live/sessions",
        [
            START,
            {"type": "session.update", "session": {}},
            {"type": "session.input_audio.append", "audio": SOUND, "event_id": "e1"},
            {"type": "session.input_audio.mute"}, {"type": "session.input_audio.unmute"},
            {"type": "session.output_audio.fixture.play", "audio": SOUND},
            *({"type": f"session.{what}.append", "content": "Hm."} for what in ("instructions", "thinking", "commentary")),
            {"type": "decision.item.create", "item": {"role": "user", "content": "A or B?"}},
            {"type": "decision.create"}, {"type": "response.create"}, {"type": "session.close"},
        ],
        "session.closed", live.ServerEvent,
    ),
    "responses": (
        "/responses", [{"type": "response.create", "model": "gpt-4o", "input": "Say hello"}], "response.completed",
        sdk_responses.ResponsesServerEvent,
    ),
    "responses with a name": (
        "/responses", [{"type": "response.create", "model": "gpt-4o", "input": "Hi", "stream_id": "s1"}], "response.completed",
        sdk_responses.ResponsesServerEvent,
    ),
    "a mistake in responses": (
        "/responses", [{"type": "response.create", "input": "Say hello"}], "error", sdk_responses.ResponsesServerEvent,
    ),
}  # fmt: skip
BETA: dict[str, tuple[str, Sequence[Event], str, Any]] = {
    "speech": ("/realtime?model=gpt-4o-realtime-preview", [said("Say hello"), ASK], "rate_limits.updated", beta.RealtimeServerEvent),
    "text": (
        "/realtime?model=gpt-4o-realtime-preview",
        [{"type": "session.update", "session": {"modalities": ["text"]}}, ASK], "rate_limits.updated", beta.RealtimeServerEvent,
    ),
    "a transcription": (
        "/realtime?intent=transcription", [{"type": "transcription_session.update", "session": {}}, APPEND, COMMIT],
        "conversation.item.created", beta.RealtimeServerEvent,
    ),
}  # fmt: skip


def talk(line: ClientConnection, events: Sequence[Event], last: str) -> Iterator[Event]:
    """What the server says to `events`, until it has said `last`."""
    for event in events:
        line.send(json.dumps(event))
    while True:
        heard = json.loads(line.recv(timeout=30))
        yield heard
        if heard["type"] == last:
            return


@pytest.mark.parametrize("of", TALKS)
def test_each_event_is_what_the_sdk_s_model_says(dial: Dial, of: str) -> None:
    path, events, last, kind = TALKS[of]
    for heard in talk(dial(path), events, last):
        assert set(mistakes(heard, kind)) <= OF_EXAMPLES | WITHOUT_SPEECH_DETECTION, heard


@pytest.mark.parametrize("of", BETA)
def test_each_event_of_the_beta_is_what_the_sdk_s_model_says(dial: Dial, of: str) -> None:
    path, events, last, kind = BETA[of]
    for heard in talk(dial(path, **{"openai-beta": "realtime=v1"}), events, last):
        if heard["type"] == "transcription_session.created":  # which the SDK has no model of
            heard["type"] = "transcription_session.updated"
        assert set(mistakes(heard, kind)) <= OF_EXAMPLES | WITHOUT_SPEECH_DETECTION, heard


@pytest.mark.parametrize("role", ["fork", "attach"])
def test_a_live_session_has_forks_and_connections_beside_it(dial: Dial, role: str) -> None:
    kind = live.ForkServerEvent if role == "fork" else live.ConnectServerEvent
    events: list[Event] = [{"type": "session.start", "session": {"store": False}}] if role == "fork" else []
    if role == "attach":
        events = [{"type": "transport.dtmf.send", "event": "1"}]
    ident = next(talk(dial("/live/sessions"), [START], "session.started"))["session"]["id"]
    beside = dial(f"/live/sessions/{ident}/{role}")
    for heard in talk(beside, [*events, {"type": "session.close"}], "session.closed"):
        assert mistakes(heard, kind) == []


def test_equal_talks_are_equal(dial: Dial) -> None:
    path, events, last, _ = TALKS["speech"]
    assert list(talk(dial(path), events, last)) == list(talk(dial(path), events, last))


def test_the_sdk_s_client_talks_to_the_fake(client: openai.OpenAI) -> None:
    with client.realtime.connect(model="gpt-realtime") as line:
        line.conversation.item.create(
            item={
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "Say hello in 5 words"}],
            }
        )
        line.response.create(response={"output_modalities": ["text"]})
        words = ""
        for event in line:
            if event.type == "response.output_text.delta":
                words += event.delta
            elif event.type == "response.done":
                break
        assert len(words.split()) == 5
        assert event.response.usage is not None
        assert event.response.usage.output_tokens == 5
