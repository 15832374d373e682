"""Sessions of agents: what is said in one starts a turn, which the fake answers at once with a message.

The events of a session can be had again and again, from the first one on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors, rest
from host.fakes.openai.call import ApiCall, EndpointTable, Params
from host.fakes.openai.specification import operations
from host.fakes.openai.store import Stored
from host.fakes.openai.text import count, event, event_stream, identifier, requested_words, seed_of, sentence, tokens

_SESSIONS = "/v1/agents/sessions"
_SESSION = f"{_SESSIONS}/{{session_id}}"
_TURNS = f"{_SESSION}/turns"
_ITEMS = f"{_SESSION}/items"
_EVENTS = f"{_SESSION}/events"


def create_session(call: ApiCall) -> FakeResponse:
    params = rest.body(call)
    agent = rest.find(call, "/v1/agents", params.text("agent_id", "")).fields if "agent_id" in params else None
    given = {**params.all(), "agent": agent or params.mapping("agent"), "last_active_at": call.store.now}
    session = rest.make(call, _SESSIONS, given)
    session.fields["events"] = []
    call.path["session_id"] = session.id
    _tell(call, session, "created")
    for message in _messages(params):
        _take_turn(call, session, message)
    if params.flag("stream"):
        return event_stream(list(session.fields["events"]))
    return rest.answer(call, session.fields)


def _messages(params: Params) -> list[dict[str, Any]]:
    """The user's messages in `input`. A string is one."""
    if isinstance(text := params.raw("input"), str):
        return [{"content": [{"type": "input_text", "text": text}]}]
    return params.objects("input")


def create_events(call: ApiCall) -> FakeResponse:
    """Each message starts a turn. What else is sent, such as the output of a function, is noted and needs no answer."""
    session = rest.found(call, _SESSION)
    for one in rest.body(call).objects("events"):
        if one.get("type", "message") == "message":
            _take_turn(call, session, one)
    return FakeResponse(200)


def stream_events(call: ApiCall) -> FakeResponse:
    return event_stream(list(rest.found(call, _SESSION).fields["events"]))


def _tell(call: ApiCall, session: Stored, kind: str, **fields: Any) -> None:
    """Adds an event of the session, as its model has it."""
    told: list[bytes] = session.fields["events"]
    name = f"agent.session.{kind}"
    own = {"event_id": identifier("event_", seed_of(session.id, len(told))), "session_id": session.id}
    shown = {key: value for key, value in session.fields.items() if key != "events"}
    whole = {"type": name, **own, "session": shown, **fields}
    told.append(event(rest.shown(call, whole, operations()["GET", _EVENTS].answer), name))


def _take_turn(call: ApiCall, session: Stored, message: dict[str, Any]) -> None:
    content = message.get("content")
    if not isinstance(content, list):
        raise errors.missing("input[].content")
    said = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    turn = rest.make(call, _TURNS, {"agent_id": session.fields["agent"].get("id", "")}, object="agent.session.turn")
    asked = _item(call, turn, role="user", content=content)
    _tell(call, session, "in_progress")
    _tell(call, session, "turn.created", turn=turn.fields, turn_id=turn.id)
    _tell(call, session, "turn.in_progress", turn=turn.fields, turn_id=turn.id)
    within = {"turn_id": turn.id, "output_index": 0}
    _tell(call, session, "turn.item.added", item=asked.fields, **within)
    text = sentence(seed_of("turn", said), requested_words(said))
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    answer = _item(call, turn, role="assistant", content=[part], phase="final_answer")
    _tell(call, session, "turn.item.added", item={**answer.fields, "status": "in_progress", "content": []}, **within)
    for name, fields in _spoken(text, part):
        _tell(call, session, f"turn.{name}", item_id=answer.id, content_index=0, **within, **fields)
    _tell(call, session, "turn.item.done", item=answer.fields, **within)
    turn.become(status="completed", completed_at=call.store.now, usage=_usage(count(said), count(text)))
    _tell(call, session, "turn.completed", turn=turn.fields, turn_id=turn.id, usage=turn.fields["usage"])
    session.become(status="idle", last_active_at=call.store.now)
    _tell(call, session, "idle")


def _spoken(text: str, part: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "content_part.added", {"part": {**part, "text": ""}}
    for word in tokens(text):
        yield "output_text.delta", {"delta": word}
    yield "output_text.done", {"text": text}
    yield "content_part.done", {"part": part}


def _item(call: ApiCall, turn: Stored, **fields: Any) -> Stored:
    """Keeps an item of the session and of its turn."""
    item = rest.make(call, _ITEMS, {"type": "message", "status": "completed", "turn_id": turn.id, **fields})
    call.store.put(f"{rest.collection(call, _TURNS)}/{turn.id}/items", item)
    return item


def _usage(read: int, spent: int) -> dict[str, Any]:
    return {"input_tokens": read, "output_tokens": spent, "total_tokens": read + spent}


ENDPOINTS: EndpointTable = {
    _SESSIONS: {"POST": create_session},
    _EVENTS: {"POST": create_events, "GET": stream_events},
}
