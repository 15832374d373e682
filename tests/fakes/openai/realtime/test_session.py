"""How a session of /v1/realtime behaves: its conversation, its buffer of sound, its responses, and the client's
mistakes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from host.fakes import FakeOpenAI
from tests.fakes.openai.realtime.conftest import Dial
from tests.fakes.openai.realtime.test_events import APPEND, ASK, COMMIT, IN_TEXT, Event, said, talk


@pytest.fixture
def line(dial: Dial) -> ClientConnection:
    connected: ClientConnection = dial("/realtime?model=gpt-realtime")
    assert json.loads(connected.recv())["type"] == "session.created"
    return connected


def item(ident: str, **more: Any) -> Event:
    return {**said(ident), "item": {**said(ident)["item"], "id": ident}, **more}


def test_a_conversation_keeps_its_items_in_their_order(line: ClientConnection) -> None:
    created = [item("a"), item("b"), item("c", previous_item_id="a"), item("d", previous_item_id="root")]
    after = []
    for one in created:
        heard = list(talk(line, [one], "conversation.item.done"))
        assert [event["type"] for event in heard] == ["conversation.item.added", "conversation.item.done"]
        after.append(heard[0].get("previous_item_id"))
    assert after == [None, "a", "a", None]


def test_an_item_is_read_cut_and_deleted_by_its_id(line: ClientConnection) -> None:
    list(talk(line, [item("a")], "conversation.item.done"))
    *_, read = talk(line, [{"type": "conversation.item.retrieve", "item_id": "a"}], "conversation.item.retrieved")
    assert read["item"]["content"] == [{"type": "input_text", "text": "a"}]
    *_, done = talk(line, [ASK], "response.done")
    cut = {"type": "conversation.item.truncate", "item_id": done["response"]["output"][0]["id"]}
    where = {"content_index": 0, "audio_end_ms": 100}
    *_, truncated = talk(line, [{**cut, **where}], "conversation.item.truncated")
    assert where.items() <= truncated.items()
    list(talk(line, [{"type": "conversation.item.delete", "item_id": "a"}], "conversation.item.deleted"))
    *_, error = talk(line, [{"type": "conversation.item.retrieve", "item_id": "a"}], "error")
    assert error["error"]["code"] == "item_not_found"


MISTAKES: dict[str, tuple[Any, str | None, str]] = {
    "no JSON": ("{", None, "invalid_json"),
    "no object": ("[1]", None, "invalid_json"),
    "a binary message": (b"{}", None, "invalid_message"),
    "no type": ({}, "type", "missing_required_parameter"),
    "an unknown type": ({"type": "session.delete"}, "type", "invalid_value"),
    "sound that is no base64": ({**APPEND, "audio": "%%"}, "audio", "invalid_value"),
    "no sound": ({"type": "input_audio_buffer.append"}, "audio", "missing_required_parameter"),
    "an empty buffer": (COMMIT, None, "input_audio_buffer_commit_empty"),
    "no session": ({"type": "session.update"}, "session", "missing_required_parameter"),
    "a session of no type": ({"type": "session.update", "session": {}}, "session.type", "missing_required_parameter"),
    "an unknown setting": (
        {"type": "session.update", "session": {"type": "realtime", "colour": "red"}},
        "session.colour",
        "unknown_parameter",
    ),
    "another model": (
        {"type": "session.update", "session": {"type": "realtime", "model": "other"}},
        "session.model",
        "cannot_update_model",
    ),
    "no role": (
        {"type": "conversation.item.create", "item": {"type": "message", "content": []}},
        "item.role",
        "invalid_value",
    ),
    "an item behind one that is not there": (item("a", previous_item_id="b"), "previous_item_id", "item_not_found"),
    "nothing to cancel": ({"type": "response.cancel"}, None, "response_cancel_not_active"),
    "modalities that there are not": (
        {"type": "response.create", "response": {"output_modalities": ["smell"]}},
        "response.output_modalities",
        "invalid_value",
    ),
}


@pytest.mark.parametrize("of", MISTAKES)
def test_a_mistake_of_the_client_is_an_error_event_and_the_session_goes_on(line: ClientConnection, of: str) -> None:
    sent, param, code = MISTAKES[of]
    if isinstance(sent, dict):
        sent = json.dumps({**sent, "event_id": "mine"})
    line.send(sent)
    error = json.loads(line.recv(timeout=30))
    assert error["type"] == "error"
    assert error["error"].get("param") == param
    assert error["error"]["code"] == code
    assert error["error"].get("event_id") == (None if of in ("no JSON", "no object", "a binary message") else "mine")
    *_, done = talk(line, [IN_TEXT], "response.done")
    assert done["response"]["status"] == "completed"


def test_a_response_is_cancelled_between_two_deltas(fake: FakeOpenAI, dial: Dial) -> None:
    fake.script([{"path": "/v1/realtime", "event_delay_s": 0.01}])
    line = dial("/realtime?model=gpt-realtime")
    list(talk(line, [said("Say hello in 5000 words"), IN_TEXT], "response.output_text.delta"))
    *_, refused = talk(line, [IN_TEXT, {"type": "response.cancel"}], "response.done")
    assert refused["response"]["status"] == "cancelled"
    assert refused["response"]["usage"]["output_tokens"] < 5_000
    *_, error = talk(line, [], "error")
    assert error["error"]["code"] == "conversation_already_has_active_response"


def test_sound_is_counted_and_spoken(line: ClientConnection) -> None:
    *_, done = talk(line, [APPEND, COMMIT, ASK], "response.done")
    usage = done["response"]["usage"]
    assert usage["input_token_details"]["audio_tokens"] == 2
    assert usage["output_token_details"]["audio_tokens"] == usage["output_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_a_response_beside_the_conversation_leaves_no_item_in_it(line: ClientConnection) -> None:
    aside = {"type": "response.create", "response": {"conversation": "none", "output_modalities": ["text"]}}
    heard = list(talk(line, [aside], "response.done"))
    assert not [event for event in heard if event["type"].startswith("conversation.")]
    assert "conversation_id" not in heard[-1]["response"]


def test_responses_go_on_from_one_another_over_one_connection(dial: Dial) -> None:
    line = dial("/responses")
    ask: Event = {"type": "response.create", "model": "gpt-4o", "input": "Say hello"}
    *_, first = talk(line, [ask], "response.completed")
    *_, second = talk(line, [{**ask, "previous_response_id": first["response"]["id"]}], "response.completed")
    assert second["response"]["previous_response_id"] == first["response"]["id"]
    *_, error = talk(line, [{**ask, "previous_response_id": "resp_none"}], "error")
    assert (error["status"], error["error"]["code"]) == (400, "previous_response_not_found")


def test_a_fragmented_message_is_one_event(line: ClientConnection) -> None:
    line.send(iter(['{"type": "response.', 'create", "response": {"output_modalities"', ': ["text"]}}']))
    *_, done = talk(line, [], "response.done")
    assert done["response"]["status"] == "completed"


def test_sound_over_the_bound_of_an_event_is_refused(line: ClientConnection) -> None:
    line.send(
        json.dumps({**APPEND, "audio": base64.b64encode(bytes(15 * 1024 * 1024 + 1)).decode()[: 16 * 1024 * 1024]})
    )
    with pytest.raises(Exception, match="1009"):
        line.recv(timeout=30)
