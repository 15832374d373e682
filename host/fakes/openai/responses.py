"""/v1/responses (platform.openai.com/docs/api-reference/responses), whole or as a stream of events.

A stream is made from the finished response (…/responses-streaming): named events with a `sequence_number`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import conversations, errors
from host.fakes.openai.call import ApiCall, EndpointTable, Params, StoredResponse
from host.fakes.openai.parameters import RESPONSES, check_types
from host.fakes.openai.store import CREATED
from host.fakes.openai.structured import forced_function, function_arguments, function_of, instance
from host.fakes.openai.text import (
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
    if response["background"]:
        yield "created", {"response": {**started, "status": "queued"}}
        yield "queued", {"response": {**started, "status": "queued"}}
    else:
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


_BACKGROUND = ("queued", "in_progress")


def create_response(call: ApiCall) -> FakeResponse:
    params = call.params
    params.required_text("model")
    check_types(params, RESPONSES)
    check_sampling(params)
    items = _input_items(params.required("input"))
    before, conversation_id = _before(call)
    instructions = params.text("instructions", None)
    seed = seed_of("response", params.raw("model"), instructions, [_without_ids(item) for item in (*before, *items)])
    own_seed = seed_of(seed.hex(), call.state.next_number())
    function = forced_function([function_of(tool) for tool in params.objects("tools")], params.raw("tool_choice"))
    answer = "" if function else _answer_text(params, items, seed)
    text = generate_text(answer, limit=params.integer("max_output_tokens", None))
    item = _call_item(function, seed, own_seed) if function else _message_item(text, own_seed)
    spent = count(item["arguments"]) if function else len(text.tokens)
    response = _response(params, own_seed, [item], _usage(_read(instructions, (*before, *items)), spent))
    stored = StoredResponse(response, _numbered(items, own_seed), [*before, *items, item])
    if conversation_id is not None:
        response["conversation"] = {"id": conversation_id}
        conversations.add_items(call, conversation_id, [*items, item])
    if kept := "store" not in params or params.flag("store"):
        call.state.keep(stored)
    if params.flag("background"):
        if not kept:
            raise errors.wrong_value("background", "a response in the background has to be stored.")
        stored.before = [] if params.flag("stream") else list(_BACKGROUND)
    return event_stream(_events(response)) if params.flag("stream") else FakeResponse.json(_as_it_is(stored))


def _before(call: ApiCall) -> tuple[list[dict[str, Any]], str | None]:
    """The items before those of the request, and the conversation that they are of."""
    match call.params.raw("conversation"):
        case None:
            return (_previous(call).conversation if "previous_response_id" in call.params else []), None
        case {"id": str() as name} | (str() as name):
            if "previous_response_id" in call.params:
                raise errors.wrong_value("previous_response_id", "it is not allowed together with 'conversation'.")
            return conversations.items_of(call, name), name
        case other:
            raise errors.wrong_type("conversation.id", "a string", other)


def _numbered(items: list[dict[str, Any]], own_seed: bytes) -> list[dict[str, Any]]:
    """Items with identifiers, their texts as parts."""
    numbered = []
    for at, item in enumerate(items):
        content = item.get("content")
        parts = {"content": [{"type": "input_text", "text": content}]} if isinstance(content, str) else {}
        numbered.append({"id": identifier("msg_", seed_of(own_seed.hex(), at)), **item, **parts})
    return numbered


def _read(instructions: str | None, items: Iterable[dict[str, Any]]) -> int:
    """The tokens of what the model reads."""
    return count(instructions or "") + sum(count(said) for each in items for said in _texts(each))


def _as_it_is(stored: StoredResponse) -> dict[str, Any]:
    """The response as it is by now: without output while it is made in the background."""
    if not stored.before:
        return stored.response
    unfinished = {name: value for name, value in stored.response.items() if name != "usage"}
    return {**unfinished, "status": stored.before[0], "output": [], "incomplete_details": None}


def retrieve_response(call: ApiCall) -> FakeResponse:
    stored = _stored(call)
    if call.query.flag("stream"):
        stored.before = []
        return event_stream(_events(stored.response, call.query.integer("starting_after", -1, low=0)))
    if stored.before:
        stored.before.pop(0)
    return FakeResponse.json(_as_it_is(stored))


def cancel_response(call: ApiCall) -> FakeResponse:
    """Ends a response in the background. One that has ended stays as it is."""
    stored = _stored(call)
    if not stored.response["background"]:
        raise errors.ApiError(400, "Cannot cancel a synchronous response.", param="response_id")
    if stored.before:
        stored.response = {**_as_it_is(stored), "status": "cancelled"}
        stored.before = []
    return FakeResponse.json(stored.response)


def delete_response(call: ApiCall) -> FakeResponse:
    response_id = _stored(call).response["id"]
    del call.state.responses[response_id]
    return FakeResponse.json({"id": response_id, "object": "response", "deleted": True})


def list_input_items(call: ApiCall) -> FakeResponse:
    return FakeResponse.json(page(_stored(call).input, call.query, default=20, most=100))


def count_input_tokens(call: ApiCall) -> FakeResponse:
    params = call.params if call.request.body else Params({})
    items = _input_items(params.raw("input")) if "input" in params else []
    before = _before(call)[0] if call.request.body else []
    tokens_read = _read(params.text("instructions", None), (*before, *items))
    return FakeResponse.json({"object": "response.input_tokens", "input_tokens": tokens_read})


def compact(call: ApiCall) -> FakeResponse:
    """One item in place of all that was said."""
    params = call.params
    params.required_text("model")
    items = [*_before(call)[0], *(_input_items(params.raw("input")) if "input" in params else [])]
    own_seed = seed_of("compaction", call.state.next_number())
    hidden = identifier("", seed_of("compacted", items), 64)
    item = {"id": identifier("cmp_", own_seed), "type": "compaction", "encrypted_content": hidden}
    return FakeResponse.json(
        {
            "id": identifier("resp_", own_seed),
            "object": "response.compaction",
            "created_at": call.store.now,
            "output": [item],
            "usage": _usage(_read(params.text("instructions", None), items), 1),
        }
    )


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
        "background": params.flag("background"),
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


ENDPOINTS: EndpointTable = {
    "/v1/responses": {"POST": create_response},
    "/v1/responses/compact": {"POST": compact},
    "/v1/responses/input_tokens": {"POST": count_input_tokens},
    "/v1/responses/{response_id}": {"GET": retrieve_response, "DELETE": delete_response},
    "/v1/responses/{response_id}/cancel": {"POST": cancel_response},
    "/v1/responses/{response_id}/input_items": {"GET": list_input_items},
}
