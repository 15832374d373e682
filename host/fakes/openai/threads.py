"""Threads and their messages, of the Assistants API (platform.openai.com/docs/api-reference/threads)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors, rest
from host.fakes.openai.call import ApiCall, EndpointTable
from host.fakes.openai.store import Stored

THREADS = "/v1/threads"
MESSAGES = "/v1/threads/{thread_id}/messages"
RUNS = "/v1/threads/{thread_id}/runs"
_ROLES = ("user", "assistant")


def create_thread(call: ApiCall) -> FakeResponse:
    params = rest.body(call)
    return rest.answer(call, make_thread(call, params.all(), params.objects("messages")).fields)


def make_thread(call: ApiCall, given: dict[str, Any], messages: Iterable[dict[str, Any]]) -> Stored:
    """Keeps a new thread with its first messages. The path of the call then has its identifier."""
    thread = rest.make(call, THREADS, {"metadata": given.get("metadata") or {}}, **_resources(given))
    call.path["thread_id"] = thread.id
    for message in messages:
        add_message(call, message)
    return thread


def _resources(given: dict[str, Any]) -> dict[str, Any]:
    return {"tool_resources": given["tool_resources"]} if given.get("tool_resources") else {}


def create_message(call: ApiCall) -> FakeResponse:
    rest.find(call, THREADS, call.path["thread_id"])
    check_idle(call)
    return rest.answer(call, add_message(call, rest.body(call).all()).fields)


def check_idle(call: ApiCall) -> None:
    """Raises ApiError (400) while a run of the thread goes on."""
    for run in call.store.all(rest.collection(call, RUNS)):
        if not run.has_ended:
            message = f"Thread {call.path['thread_id']} already has an active run {run.id}."
            raise errors.ApiError(400, message, code="invalid_state")


def add_message(call: ApiCall, given: dict[str, Any], **more: Any) -> Stored:
    """Adds a message to the thread of the call."""
    if given.get("role") not in _ROLES:
        raise errors.unsupported("role", str(given.get("role")), _ROLES)
    match given.get("content"):
        case str() as text:
            content = [text_of(text)]
        case [*parts]:
            content = [_block(part, at) for at, part in enumerate(parts)]
        case _:
            raise errors.missing("content")
    fields = {"object": "thread.message", "status": "completed", **given, "content": content}
    return rest.make(call, MESSAGES, fields, **more)


def text_of(value: str) -> dict[str, Any]:
    return {"type": "text", "text": {"value": value, "annotations": []}}


def _block(part: Any, at: int) -> dict[str, Any]:
    match part:
        case {"type": "text", "text": str() as text}:
            return text_of(text)
        case {"type": "image_url" | "image_file"}:
            return dict(part)
        case _:
            raise errors.wrong_type(f"content[{at}]", "a part of text or an image", part)


def said_in(messages: Iterable[Stored]) -> list[str]:
    """The texts of messages, in order."""
    blocks = (block for message in messages for block in message.fields["content"])
    return [block["text"]["value"] for block in blocks if block["type"] == "text"]


ENDPOINTS: EndpointTable = {THREADS: {"POST": create_thread}, MESSAGES: {"POST": create_message}}
