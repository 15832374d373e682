"""Chat completions that were made with `store` (platform.openai.com/docs/api-reference/chat): listed, read, changed,
deleted."""

from __future__ import annotations

from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import chat, errors, rest
from host.fakes.openai.call import ApiCall, EndpointTable
from host.fakes.openai.store import Stored
from host.fakes.openai.text import page

_CHATS = "/v1/chat/completions"


def list_chats(call: ApiCall) -> FakeResponse:
    """Oldest first, of one `model` and with `metadata` if the query says so."""
    return rest.listing(call, [one.fields for one in call.store.all(_CHATS)], oldest_first=True)


def retrieve_chat(call: ApiCall) -> FakeResponse:
    return FakeResponse.json(_chat(call).fields)


def update_chat(call: ApiCall) -> FakeResponse:
    stored = _chat(call)
    if "metadata" not in call.params:
        raise errors.missing("metadata")
    stored.become(metadata=call.params.mapping("metadata"))
    return FakeResponse.json(stored.fields)


def delete_chat(call: ApiCall) -> FakeResponse:
    stored = _chat(call)
    call.store.remove(_CHATS, stored.id)
    return FakeResponse.json({"id": stored.id, "object": "chat.completion.deleted", "deleted": True})


def list_messages(call: ApiCall) -> FakeResponse:
    """The answers of the completion, as messages with an identifier each."""
    chosen: list[dict[str, Any]] = [
        {**choice["message"], "id": f"{call.path['completion_id']}-{choice['index']}"}
        for choice in _chat(call).fields["choices"]
    ]
    return FakeResponse.json(page(chosen, call.query, default=20, most=100, oldest_first=True))


def _chat(call: ApiCall) -> Stored:
    completion_id = call.path["completion_id"]
    stored = call.store.find(_CHATS, completion_id)
    if stored is None:
        raise errors.not_found(f"No such chat completion: '{completion_id}'", param="completion_id")
    return stored


ENDPOINTS: EndpointTable = {
    "/v1/chat/completions": {"GET": list_chats, "POST": chat.create_chat_completion},
    "/v1/chat/completions/{completion_id}": {"GET": retrieve_chat, "POST": update_chat, "DELETE": delete_chat},
    "/v1/chat/completions/{completion_id}/messages": {"GET": list_messages},
}
