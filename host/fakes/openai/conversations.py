"""Conversations and their items (platform.openai.com/docs/api-reference/conversations). Responses add to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors, rest
from host.fakes.openai.call import ApiCall, EndpointTable
from host.fakes.openai.store import Stored
from host.fakes.openai.text import identifier, seed_of

_CONVERSATIONS = "/v1/conversations"
_ITEMS = "/v1/conversations/{conversation_id}/items"
_PREFIXES = {"message": "msg_", "function_call": "fc_", "reasoning": "rs_"}
_MOST_AT_ONCE = 20
_SPOKEN = {"assistant": "output_text"}


def create_conversation(call: ApiCall) -> FakeResponse:
    params = rest.body(call)
    items = _items(call)
    stored = rest.make(call, _CONVERSATIONS, {"metadata": params.mapping("metadata")})
    add_items(call, stored.id, items)
    return rest.answer(call, stored.fields)


def create_items(call: ApiCall) -> FakeResponse:
    conversation = rest.find(call, _CONVERSATIONS, call.path["conversation_id"])
    rest.body(call)
    items = _items(call)
    if not items:
        raise errors.wrong_value("items", "empty array. Expected an array with minimum length 1.")
    added = add_items(call, conversation.id, items)
    return rest.answer(call, {"data": added, "first_id": added[0]["id"], "last_id": added[-1]["id"], "has_more": False})


def _items(call: ApiCall) -> list[dict[str, Any]]:
    items = rest.body(call).objects("items")
    if len(items) > _MOST_AT_ONCE:
        raise errors.wrong_value("items", f"at most {_MOST_AT_ONCE} can be added at once.")
    return items


def delete_item(call: ApiCall) -> FakeResponse:
    """The answer is the conversation."""
    conversation = rest.find(call, _CONVERSATIONS, call.path["conversation_id"])
    item = rest.found(call)
    call.store.remove(rest.collection(call, _ITEMS), item.id)
    return rest.answer(call, conversation.fields)


def add_items(call: ApiCall, conversation_id: str, items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Adds items to the end of a conversation. Returns them with their identifiers."""
    place, added = f"{_CONVERSATIONS}/{conversation_id}/items", []
    for item in items:
        kind = item.get("type", "message")
        own = identifier(_PREFIXES.get(kind, "item_"), seed_of(place, call.store.next_number()))
        fields = {"id": own, "type": kind, "status": "completed", **item}
        if isinstance(text := fields.get("content"), str):
            fields["content"] = [{"type": _SPOKEN.get(str(item.get("role")), "input_text"), "text": text}]
        call.store.put(place, Stored(fields))
        added.append(fields)
    return added


def items_of(call: ApiCall, conversation_id: str) -> list[dict[str, Any]]:
    """The items of a conversation, oldest first. Raises ApiError (404) if it is unknown."""
    rest.find(call, _CONVERSATIONS, conversation_id)
    return [one.fields for one in call.store.all(f"{_CONVERSATIONS}/{conversation_id}/items")]


ENDPOINTS: EndpointTable = {
    "/v1/conversations": {"POST": create_conversation},
    _ITEMS: {"POST": create_items},
    f"{_ITEMS}/{{item_id}}": {"DELETE": delete_item},
}
