"""POST /v1/embeddings (platform.openai.com/docs/api-reference/embeddings)."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from typing import Any

from host.fakes.messages import Response
from host.fakes.openai import errors
from host.fakes.openai.call import Call
from host.fakes.openai.params import Params
from host.fakes.openai.text import count, seed_of

DIMENSIONS = 1536
_MAX_DIMENSIONS = 3072
_MAX_INPUTS = 2048


def create(call: Call) -> Response:
    params = call.params
    model = params.required_text("model")
    inputs = _inputs(params)
    dimensions = params.integer("dimensions", DIMENSIONS, high=_MAX_DIMENSIONS)
    as_base64 = params.choice("encoding_format", ("float", "base64"), "float") == "base64"
    data = []
    for index, item in enumerate(inputs):
        packed = vector(seed_of("embedding", model, item), dimensions)
        shown = base64.b64encode(packed).decode() if as_base64 else struct.unpack(f"<{dimensions}f", packed)
        data.append({"object": "embedding", "index": index, "embedding": shown})
    spent = sum(count(item) if isinstance(item, str) else len(item) for item in inputs)
    return Response.json(
        {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": spent, "total_tokens": spent}}
    )


def vector(seed: bytes, dimensions: int) -> bytes:
    """A unit vector as little-endian float32, the bytes of `encoding_format: "base64"`."""
    numbers = struct.unpack(f"<{dimensions}h", hashlib.shake_256(seed).digest(2 * dimensions))
    length = math.hypot(*numbers) or 1.0
    return struct.pack(f"<{dimensions}f", *(number / length for number in numbers))


def _inputs(params: Params) -> list[Any]:
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
