"""Embeddings and moderations (platform.openai.com/docs/api-reference/embeddings and …/moderations)."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors
from host.fakes.openai.call import ApiCall, Params
from host.fakes.openai.parameters import EMBEDDINGS, MODERATIONS, check_types
from host.fakes.openai.text import count, identifier, seed_of

# embeddings

DIMENSIONS = 1536
_MAX_DIMENSIONS = 3072
_MAX_INPUTS = 2048


def embed(call: ApiCall) -> FakeResponse:
    params = call.params
    model = params.required_text("model")
    check_types(params, EMBEDDINGS)
    inputs = _embedding_inputs(params)
    dimensions = params.integer("dimensions", DIMENSIONS, high=_MAX_DIMENSIONS)
    as_base64 = params.choice("encoding_format", ("float", "base64"), "float") == "base64"
    data = []
    for index, item in enumerate(inputs):
        packed = vector(seed_of("embedding", model, item), dimensions)
        shown = base64.b64encode(packed).decode() if as_base64 else struct.unpack(f"<{dimensions}f", packed)
        data.append({"object": "embedding", "index": index, "embedding": shown})
    spent = sum(count(item) if isinstance(item, str) else len(item) for item in inputs)
    return FakeResponse.json(
        {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": spent, "total_tokens": spent}}
    )


def vector(seed: bytes, dimensions: int) -> bytes:
    """A unit vector as little-endian float32, the bytes of `encoding_format: "base64"`."""
    numbers = struct.unpack(f"<{dimensions}h", hashlib.shake_256(seed).digest(2 * dimensions))
    length = math.hypot(*numbers) or 1.0
    return struct.pack(f"<{dimensions}f", *(number / length for number in numbers))


def _embedding_inputs(params: Params) -> list[Any]:
    """A string, strings, token numbers, or arrays of token numbers: one item for each vector."""
    given = params.required("input")
    match given:
        case str():
            inputs: list[Any] = [given]
        case [int(), *_] if _is_tokens(given):
            inputs = [given]
        case [_, *_] if all(isinstance(item, str) or _is_tokens(item) for item in given):
            inputs = given
        case _:
            raise errors.wrong_type("input", "a string, or a non-empty array of strings or tokens", given)
    if len(inputs) > _MAX_INPUTS:
        raise errors.wrong_value(
            "input", f"array too long. Expected at most {_MAX_INPUTS} items, but got {len(inputs)}."
        )
    if not all(inputs):
        raise errors.wrong_value("input", "it cannot be an empty string.")
    return inputs


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in value)


# moderations

_TEXT_ONLY = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "sexual/minors",
)
_TEXT_OR_IMAGE = (
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "violence",
    "violence/graphic",
)
# The words that are flagged, as whole words in any case.
TRIGGERS = {
    "kill": "violence",
    "murder": "violence",
    "gore": "violence/graphic",
    "hate": "hate",
    "idiot": "harassment",
    "suicide": "self-harm",
    "porn": "sexual",
    "bomb": "illicit/violent",
}
_WORD = re.compile(r"[a-z]+")


def moderate(call: ApiCall) -> FakeResponse:
    params = call.params
    check_types(params, MODERATIONS)
    model = params.text("model", "omni-moderation-latest")
    inputs = _moderation_inputs(params)
    return FakeResponse.json(
        {
            "id": identifier("modr-", seed_of("moderation", model, inputs)),
            "model": model,
            "results": [_result(item) for item in inputs],
        }
    )


def _result(item: list[dict[str, Any]]) -> dict[str, Any]:
    texts = [part["text"] for part in item if part["type"] == "text"]
    words = {word for text in texts for word in _WORD.findall(text.lower())}
    flagged = {TRIGGERS[word] for word in words & TRIGGERS.keys()}
    seed = seed_of("scores", item)
    kinds = sorted({"text" if part["type"] == "text" else "image" for part in item})
    names = (*_TEXT_ONLY, *_TEXT_OR_IMAGE)
    return {
        "flagged": bool(flagged),
        "categories": {name: name in flagged for name in names},
        "category_scores": {
            name: 0.9 + seed[at] / 2560 if name in flagged else seed[at] / 25600 for at, name in enumerate(names)
        },
        "category_applied_input_types": {
            name: [kind for kind in kinds if kind == "text" or name in _TEXT_OR_IMAGE] for name in names
        },
    }


def _moderation_inputs(params: Params) -> list[list[dict[str, Any]]]:
    """The parts for each result. A string is one result, strings one each, an array of parts is one."""
    given = params.required("input")
    match given:
        case str():
            return [[_text_part(given)]]
        case [str(), *_] if all(isinstance(item, str) for item in given):
            return [[_text_part(item)] for item in given]
        case [dict(), *_] if all(_is_part(item) for item in given):
            return [given]
        case _:
            raise errors.wrong_type("input", "a string, or a non-empty array of strings or parts", given)


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _is_part(item: Any) -> bool:
    match item:
        case {"type": "text", "text": str()} | {"type": "image_url", "image_url": {"url": str()}}:
            return True
        case _:
            return False
