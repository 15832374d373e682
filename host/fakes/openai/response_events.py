"""A finished response, told as the events in which it would have come (platform.openai.com/docs/api-reference/
responses-streaming): each named, each with its `sequence_number`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from host.fakes.openai.shapes import event
from host.fakes.openai.text import tokens

_Event = tuple[str, dict[str, Any]]


def response_events(response: dict[str, Any]) -> Iterator[bytes]:
    for number, (name, fields) in enumerate(_told(response)):
        kind = f"response.{name}"
        yield event({"type": kind, "sequence_number": number, **fields}, kind)


def _told(response: dict[str, Any]) -> Iterator[_Event]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield "created", {"response": begun}
    yield "in_progress", {"response": begun}
    for index, item in enumerate(response["output"]):
        inside = {"item_id": item["id"], "output_index": index}
        is_call = item["type"] == "function_call"
        empty: dict[str, Any] = {"arguments": ""} if is_call else {"content": []}
        yield "output_item.added", {"output_index": index, "item": {**item, "status": "in_progress", **empty}}
        yield from _call(item, inside) if is_call else _message(item, inside)
        yield "output_item.done", {"output_index": index, "item": item}
    yield response["status"], {"response": response}


def _call(item: dict[str, Any], inside: dict[str, Any]) -> Iterator[_Event]:
    for piece in tokens(item["arguments"]):
        yield "function_call_arguments.delta", {**inside, "delta": piece}
    yield "function_call_arguments.done", {**inside, "name": item["name"], "arguments": item["arguments"]}


def _message(item: dict[str, Any], inside: dict[str, Any]) -> Iterator[_Event]:
    for index, part in enumerate(item["content"]):
        within = {**inside, "content_index": index}
        yield "content_part.added", {**within, "part": {**part, "text": ""}}
        for word in tokens(part["text"]):
            yield "output_text.delta", {**within, "delta": word, "logprobs": []}
        yield "output_text.done", {**within, "text": part["text"], "logprobs": []}
        yield "content_part.done", {**within, "part": part}
