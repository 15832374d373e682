"""/v1/responses (platform.openai.com/docs/api-reference/responses), whole or as a stream of events.

A stream is made from the finished response (…/responses-streaming): named events with a `sequence_number`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors
from host.fakes.openai.call import ApiCall, Params, StoredResponse
from host.fakes.openai.parameters import RESPONSES, check_types
from host.fakes.openai.structured import forced_function, function_arguments, function_of, instance
from host.fakes.openai.text import (
    CREATED,
    GeneratedText,
    check_sampling,
    count,
    event,
    event_stream,
    generate_text,
    identifier,
    page,
    requested_words,
    seed_of,
    sentence,
    tokens,
)

_Event = tuple[str, dict[str, Any]]


def _events(response: dict[str, Any], after: int = -1) -> Iterator[bytes]:
    """The events of a stream; those after the number `after`, where a client reads it once more."""
    for number, (name, fields) in enumerate(_named_events(response)):
        if number <= after:
            continue
        kind = f"response.{name}"
        yield event({"type": kind, "sequence_number": number, **fields}, kind)


def _named_events(response: dict[str, Any]) -> Iterator[_Event]:
    started = {**response, "status": "in_progress", "output": [], "incomplete_details": None}
    del started["usage"]
    yield "created", {"response": started}
    yield "in_progress", {"response": started}
    for index, item in enumerate(response["output"]):
        inside = {"item_id": item["id"], "output_index": index}
        is_call = item["type"] == "function_call"
        empty: dict[str, Any] = {"arguments": ""} if is_call else {"content": []}
        yield "output_item.added", {"output_index": index, "item": {**item, "status": "in_progress", **empty}}
        yield from _call_events(item, inside) if is_call else _message_events(item, inside)
        yield "output_item.done", {"output_index": index, "item": item}
    yield response["status"], {"response": response}


def _call_events(item: dict[str, Any], inside: dict[str, Any]) -> Iterator[_Event]:
    for piece in tokens(item["arguments"]):
        yield "function_call_arguments.delta", {**inside, "delta": piece}
    yield "function_call_arguments.done", {**inside, "arguments": item["arguments"]}


def _message_events(item: dict[str, Any], inside: dict[str, Any]) -> Iterator[_Event]:
    for index, part in enumerate(item["content"]):
        within = {**inside, "content_index": index}
        yield "content_part.added", {**within, "part": {**part, "text": ""}}
        for word in tokens(part["text"]):
            yield "output_text.delta", {**within, "delta": word, "logprobs": []}
        yield "output_text.done", {**within, "text": part["text"], "logprobs": []}
        yield "content_part.done", {**within, "part": part}


_FORMATS = ("text", "json_object", "json_schema")


def create_response(call: ApiCall) -> FakeResponse:
    params = call.params
    params.required_text("model")
    check_types(params, RESPONSES)
    check_sampling(params)
    items = _input_items(params.required("input"))
    before = _previous(call).conversation if "previous_response_id" in params else []
    instructions = params.text("instructions", None)
    seed = seed_of("response", params.raw("model"), instructions, [_without_ids(item) for item in (*before, *items)])
    own_seed = seed_of(seed.hex(), call.state.next_number())
    function = forced_function([function_of(tool) for tool in params.objects("tools")], params.raw("tool_choice"))
    answer = "" if function else _answer_text(params, items, seed)
    text = generate_text(answer, limit=params.integer("max_output_tokens", None))
    item = _call_item(function, seed, own_seed) if function else _message_item(text, own_seed)
    spent = count(item["arguments"]) if function else len(text.tokens)
    read = count(instructions or "") + sum(count(said) for each in (*before, *items) for said in _texts(each))
    response = _response(params, own_seed, [item], _usage(read, spent))
    if "store" not in params or params.flag("store"):
        numbered = [{"id": identifier("msg_", seed_of(own_seed.hex(), at)), **each} for at, each in enumerate(items)]
        call.state.store(StoredResponse(response, numbered, [*before, *items, item]))
    return event_stream(_events(response)) if params.flag("stream") else FakeResponse.json(response)


def retrieve_response(call: ApiCall) -> FakeResponse:
    response = _stored(call).response
    if call.query.flag("stream"):
        return event_stream(_events(response, call.query.integer("starting_after", -1, low=0)))
    return FakeResponse.json(response)


def delete_response(call: ApiCall) -> FakeResponse:
    response_id = _stored(call).response["id"]
    del call.state.responses[response_id]
    return FakeResponse.json({"id": response_id, "object": "response", "deleted": True})


def list_input_items(call: ApiCall) -> FakeResponse:
    return FakeResponse.json(page(_stored(call).input, call.query, default=20, most=100))


def _stored(call: ApiCall) -> StoredResponse:
    response_id = call.path["response_id"]
    if response_id not in call.state.responses:
        raise errors.not_found(f"Response with id '{response_id}' not found.")
    return call.state.responses[response_id]


def _previous(call: ApiCall) -> StoredResponse:
    response_id = call.params.required_text("previous_response_id")
    if response_id not in call.state.responses:
        message = f"Previous response with id '{response_id}' not found."
        raise errors.ApiError(400, message, param="previous_response_id", code="previous_response_not_found")
    return call.state.responses[response_id]


def _input_items(given: Any) -> list[dict[str, Any]]:
    """The input items. A string is one user message."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise errors.wrong_type("input", "a string or an array of input items", given)
    for at, item in enumerate(given):
        if item.get("type", "message") == "message" and not isinstance(item.get("content"), str | list):
            raise errors.missing(f"input[{at}].content")
    return [{"type": "message", **item} for item in given]


def _without_ids(item: dict[str, Any]) -> dict[str, Any]:
    """`item` without its identifiers, which may come from a counter."""
    return {name: value for name, value in item.items() if name not in {"id", "call_id"}}


def _texts(item: dict[str, Any]) -> Iterator[str]:
    content = item.get("content", item.get("output", item.get("arguments")))
    for part in content if isinstance(content, list) else [{"text": content}]:
        text = part.get("text") if isinstance(part, dict) else None
        if isinstance(text, str):
            yield text


def _answer_text(params: Params, items: list[dict[str, Any]], seed: bytes) -> str:
    text = sentence(seed, requested_words(" ".join(said for item in items[-1:] for said in _texts(item))))
    wanted = params.mapping("text").get("format") or {"type": "text"}
    match wanted:
        case {"type": "text"}:
            return text
        case {"type": "json_object"}:
            return json.dumps({"answer": text}, ensure_ascii=False)
        case {"type": "json_schema", "name": str(), "schema": schema}:
            return json.dumps(instance(schema, sentence(seed, 1)[:-1]), ensure_ascii=False)
        case {"type": "json_schema"}:
            raise errors.missing("text.format.schema" if "name" in wanted else "text.format.name")
        case {"type": str() as other}:
            raise errors.unsupported("text.format.type", other, _FORMATS)
        case _:
            raise errors.wrong_type("text.format", "an object with a type", wanted)


def _message_item(text: GeneratedText, own_seed: bytes) -> dict[str, Any]:
    return {
        "id": identifier("msg_", own_seed),
        "type": "message",
        "status": "completed" if text.finish == "stop" else "incomplete",
        "role": "assistant",
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": text.text}],
    }


def _call_item(function: dict[str, Any], seed: bytes, own_seed: bytes) -> dict[str, Any]:
    return {
        "id": identifier("fc_", own_seed),
        "type": "function_call",
        "status": "completed",
        "call_id": identifier("call_", own_seed),
        "name": function["name"],
        "arguments": function_arguments(function, seed),
    }


def _response(params: Params, own_seed: bytes, output: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
    incomplete = output[0]["status"] == "incomplete"
    return {
        "id": identifier("resp_", own_seed),
        "object": "response",
        "created_at": CREATED,
        "status": "incomplete" if incomplete else "completed",
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if incomplete else None,
        "instructions": params.raw("instructions"),
        "max_output_tokens": params.raw("max_output_tokens"),
        "metadata": params.mapping("metadata"),
        "model": params.raw("model"),
        "output": output,
        "parallel_tool_calls": params.raw("parallel_tool_calls") is not False,
        "previous_response_id": params.raw("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": params.raw("store") is not False,
        "temperature": params.raw("temperature") if "temperature" in params else 1.0,
        "text": {"format": {"type": "text"}, **params.mapping("text")},
        "tool_choice": params.raw("tool_choice") or "auto",
        "tools": params.objects("tools"),
        "top_p": params.raw("top_p") if "top_p" in params else 1.0,
        "truncation": params.text("truncation", "disabled"),
        "usage": usage,
        **({"user": params.raw("user")} if "user" in params else {}),
    }


def _usage(read: int, spent: int) -> dict[str, Any]:
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": spent,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + spent,
    }
