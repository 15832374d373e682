"""POST /v1/completions (platform.openai.com/docs/api-reference/completions), the legacy one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors
from host.fakes.openai.call import ApiCall, Params
from host.fakes.openai.parameters import COMPLETIONS, check_types
from host.fakes.openai.store import CREATED
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

_DEFAULT_MAX_TOKENS = 16  # OpenAI's, and small enough that answers end by it


def create_completion(call: ApiCall) -> FakeResponse:
    params = call.params
    model = params.required_text("model")
    check_types(params, COMPLETIONS)
    prompts = _prompts(params)
    check_sampling(params)
    n = params.integer("n", 1, high=128)
    if params.integer("best_of", n, high=20) < n:
        raise errors.wrong_value("best_of", "it must be at least 'n'.")
    top = params.integer("logprobs", None, low=0, high=5)
    seed = seed_of("completion", model, prompts, params.text("suffix", ""), params.integer("seed", None, low=-(2**63)))
    answers = [
        _answer(params, prompt, seed_of(seed.hex(), at, turn)) for at, prompt in enumerate(prompts) for turn in range(n)
    ]
    echoed = [tokens(prompt) if params.flag("echo") else [] for prompt in prompts for _ in range(n)]
    spent = sum(len(answer.tokens) for answer in answers)
    usage = completion_usage(sum(count(prompt) for prompt in prompts), spent)
    shared = {
        "id": identifier("cmpl-", seed),
        "object": "text_completion",
        "created": CREATED,
        "model": model,
        "system_fingerprint": identifier("fp_", seed_of(model), 10),
    }
    texts = list(zip(echoed, answers, strict=True))
    if params.flag("stream"):
        with_usage = params.mapping("stream_options").get("include_usage") is True
        return event_stream(_events(shared, texts, top, usage if with_usage else None))
    choices = [
        _choice(index, [*echo, *answer.tokens], 0, top, answer.finish) for index, (echo, answer) in enumerate(texts)
    ]
    return FakeResponse.json({**shared, "choices": choices, "usage": usage})


def _events(
    shared: dict[str, Any], texts: list[tuple[list[str], GeneratedText]], top: int | None, usage: dict[str, Any] | None
) -> Iterator[bytes]:
    chunk = {**shared, **({"usage": None} if usage else {})}
    for index, (echo, answer) in enumerate(texts):
        offset = 0
        for word in [*echo, *answer.tokens]:
            yield event({**chunk, "choices": [_choice(index, [word], offset, top, None)]})
            offset += len(word)
        yield event({**chunk, "choices": [_choice(index, [], offset, None, answer.finish)]})
    if usage:
        yield event({**chunk, "choices": [], "usage": usage})
    yield DONE


def _choice(index: int, words: list[str], offset: int, top: int | None, finish: str | None) -> dict[str, Any]:
    """`offset` is the place of the first word in the whole text, in characters."""
    logprobs = None
    if top is not None:
        ranked = [alternatives(word, top) for word in words]
        logprobs = {
            "tokens": words,
            "token_logprobs": [alternative[0][1] for alternative in ranked],
            "top_logprobs": [dict(alternative[:top]) for alternative in ranked],
            "text_offset": list(accumulate((len(word) for word in words), initial=offset))[:-1],
        }
    return {"text": "".join(words), "index": index, "logprobs": logprobs, "finish_reason": finish}


def _answer(params: Params, prompt: str, seed: bytes) -> GeneratedText:
    limit = params.integer("max_tokens", _DEFAULT_MAX_TOKENS, low=0)
    text = sentence(seed, requested_words(prompt))
    separator = " " if prompt and not prompt[-1].isspace() else ""
    return generate_text(separator + text, limit=limit, stops=params.texts("stop", at_most=4))


def _prompts(params: Params) -> list[str]:
    """A string, strings, token numbers, or arrays of token numbers: one prompt each. Numbers become words."""
    prompt = params.required("prompt")
    match prompt:
        case str():
            return [prompt]
        case [str(), *_] if all(isinstance(item, str) for item in prompt):
            return list(prompt)
        case [int(), *_] if all(isinstance(item, int) for item in prompt):
            return [" ".join(map(str, prompt))]
        case [list(), *_] if all(isinstance(item, list) for item in prompt):
            return [" ".join(map(str, item)) for item in prompt]
        case _:
            raise errors.wrong_type("prompt", "a string, or a non-empty array of strings or tokens", prompt)
