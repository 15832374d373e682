"""POST /v1/chat/completions (platform.openai.com/docs/api-reference/chat)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors
from host.fakes.openai.call import ApiCall, Params
from host.fakes.openai.parameters import CHAT, check_types
from host.fakes.openai.store import CREATED, Stored
from host.fakes.openai.structured import forced_function, function_arguments, function_of, instance
from host.fakes.openai.text import (
    DONE,
    GeneratedText,
    alternatives,
    check_sampling,
    completion_usage,
    count,
    event,
    event_stream,
    generate_text,
    identifier,
    requested_words,
    seed_of,
    sentence,
    tokens,
)

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


@dataclass(frozen=True)
class _Choice:
    """One choice: text, or a function call in its place."""

    index: int
    written: GeneratedText
    call: dict[str, Any] | None
    top_logprobs: int | None  # None: without log probabilities

    @property
    def finish_reason(self) -> str:
        return "tool_calls" if self.call else self.written.finish

    @property
    def tokens_spent(self) -> int:
        return max(1, count(self.call["function"]["arguments"])) if self.call else len(self.written.tokens)

    def logprobs(self, words: list[str]) -> dict[str, Any] | None:
        if self.top_logprobs is None:
            return None
        return {"content": [_token_logprob(word, self.top_logprobs) for word in words], "refusal": None}

    def message(self) -> dict[str, Any]:
        return {
            "role": "assistant",
            "content": None if self.call else self.written.text,
            "refusal": None,
            "annotations": [],
            **({"tool_calls": [self.call]} if self.call else {}),
        }

    def whole(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "message": self.message(),
            "logprobs": None if self.call else self.logprobs(self.written.tokens),
            "finish_reason": self.finish_reason,
        }

    def deltas(self) -> Iterator[dict[str, Any]]:
        """Yields the choice of each chunk: the role, then words or pieces of the arguments, then the finish reason."""
        opening = {"role": "assistant", "content": None if self.call else "", "refusal": None}
        if self.call:
            function = {**self.call["function"], "arguments": ""}
            yield self._delta({**opening, "tool_calls": [{"index": 0, **self.call, "function": function}]})
            for piece in tokens(self.call["function"]["arguments"]):
                yield self._delta({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        else:
            yield self._delta(opening)
            for word in self.written.tokens:
                yield {**self._delta({"content": word}), "logprobs": self.logprobs([word])}
        yield {**self._delta({}), "finish_reason": self.finish_reason}

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"index": self.index, "delta": delta, "logprobs": None, "finish_reason": None}


def create_chat_completion(call: ApiCall) -> FakeResponse:
    params = call.params
    model = params.required_text("model")
    check_types(params, CHAT)
    messages = _messages(params)
    check_sampling(params)
    seed = seed_of("chat", model, messages, params.integer("seed", None, low=-(2**63)))
    kept = params.flag("store")
    choices = _choices(params, messages, seed)
    usage = completion_usage(sum(count(text) for text in _texts(messages)), sum(c.tokens_spent for c in choices))
    shared = {
        "id": identifier("chatcmpl-", seed_of(seed.hex(), call.store.next_number()) if kept else seed),
        "created": CREATED,
        "model": model,
        "service_tier": "default",
        "system_fingerprint": identifier("fp_", seed_of(model), 10),
    }
    answered = [choice.whole() for choice in choices]
    if kept:
        whole = {
            "object": "chat.completion",
            "choices": answered,
            "usage": usage,
            "metadata": params.mapping("metadata"),
        }
        call.store.put(call.request.path, Stored({**shared, **whole}))
    if params.flag("stream"):
        with_usage = params.mapping("stream_options").get("include_usage") is True
        return event_stream(_events(shared, choices, usage if with_usage else None))
    if "stream_options" in params:
        raise errors.wrong_value("stream_options", "it is only allowed when 'stream' is enabled.")
    return FakeResponse.json({**shared, "object": "chat.completion", "choices": answered, "usage": usage})


def _events(shared: dict[str, Any], choices: list[_Choice], usage: dict[str, Any] | None) -> Iterator[bytes]:
    """Choices take turns, as a client must expect. With usage, every chunk has the key and the last the numbers."""
    chunk = {**shared, "object": "chat.completion.chunk", **({"usage": None} if usage else {})}
    for delta in chain.from_iterable(zip_longest(*(choice.deltas() for choice in choices))):
        if delta is not None:
            yield event({**chunk, "choices": [delta]})
    if usage:
        yield event({**chunk, "choices": [], "usage": usage})
    yield DONE


def _choices(params: Params, messages: list[dict[str, Any]], seed: bytes) -> list[_Choice]:
    stops = params.texts("stop", at_most=4)
    limit = params.integer("max_completion_tokens", params.integer("max_tokens", None))
    top_logprobs = params.integer("top_logprobs", 0, low=0, high=20)
    if top_logprobs and not params.flag("logprobs"):
        raise errors.wrong_value("top_logprobs", "it is only allowed when 'logprobs' is enabled.")
    function = forced_function([function_of(tool) for tool in params.objects("tools")], params.raw("tool_choice"))
    choices: list[_Choice] = []
    for index in range(params.integer("n", 1, high=128)):
        own = seed_of(seed.hex(), index)
        content = "" if function else _content(params, messages, own)
        choices.append(
            _Choice(
                index=index,
                written=generate_text(content, limit=limit, stops=stops),
                call=_tool_call(function, own) if function else None,
                top_logprobs=top_logprobs if params.flag("logprobs") else None,
            )
        )
    return choices


def _content(params: Params, messages: list[dict[str, Any]], seed: bytes) -> str:
    wanted = params.mapping("response_format")
    text = sentence(seed, requested_words(" ".join(_texts(messages[-1:]))))
    match wanted.get("type", "text"):
        case "text":
            return text
        case "json_object":
            return json.dumps({"answer": text}, ensure_ascii=False)
        case "json_schema":
            schema = wanted.get("json_schema")
            if not isinstance(schema, dict) or "name" not in schema:
                raise errors.missing("response_format.json_schema.name")
            return json.dumps(instance(schema.get("schema", {}), sentence(seed, 1)[:-1]), ensure_ascii=False)
        case other:
            raise errors.unsupported("response_format.type", str(other), ("text", "json_object", "json_schema"))


def _tool_call(function: dict[str, Any], seed: bytes) -> dict[str, Any]:
    return {
        "id": identifier("call_", seed),
        "type": "function",
        "function": {"name": function["name"], "arguments": function_arguments(function, seed)},
    }


def _messages(params: Params) -> list[dict[str, Any]]:
    params.required("messages")
    messages = params.objects("messages")
    if not messages:
        raise errors.wrong_value("messages", "empty array. Expected an array with minimum length 1.")
    for index, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role is None:
            raise errors.missing(f"messages[{index}].role")
        if role not in _ROLES:
            raise errors.unsupported(f"messages[{index}].role", str(role), _ROLES)
        if content is None and role != "assistant":
            raise errors.missing(f"messages[{index}].content")
        if content is not None and not isinstance(content, str | list):
            raise errors.wrong_type(f"messages[{index}].content", "a string or an array of objects", content)
    return messages


def _texts(messages: list[dict[str, Any]]) -> Iterator[str]:
    for message in messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        for part in parts:
            text = part.get("text") if isinstance(part, dict) else None
            if isinstance(text, str):
                yield text


def _token_logprob(token: str, how_many: int) -> dict[str, Any]:
    ranked = [
        {"token": word, "logprob": logprob, "bytes": list(word.encode("utf-8", "backslashreplace"))}
        for word, logprob in alternatives(token, how_many)
    ]
    return {**ranked[0], "top_logprobs": ranked[:how_many]}
