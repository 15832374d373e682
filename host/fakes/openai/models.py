"""GET /v1/models and /v1/models/{model} (platform.openai.com/docs/api-reference/models). A list for show: generation
takes any model's name."""

from __future__ import annotations

from typing import Any

from host.fakes.messages import Response
from host.fakes.openai import errors
from host.fakes.openai.call import Call
from host.fakes.openai.text import CREATED

MODELS = (
    "gpt-4",
    "gpt-4-turbo",
    "gpt-4-turbo-preview",
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4o-mini-tts",
    "gpt-4o-transcribe",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-5",
    "gpt-5-mini",
    "gpt-5.1",
    "gpt-3.5-turbo",
    "gpt-3.5-turbo-16k",
    "gpt-3.5-turbo-instruct",
    "text-embedding-ada-002",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "dall-e-2",
    "dall-e-3",
    "gpt-image-1",
    "tts-1",
    "tts-1-hd",
    "whisper-1",
    "omni-moderation-latest",
)


def index(call: Call) -> Response:
    del call
    return Response.json({"object": "list", "data": [_model(name) for name in MODELS]})


def retrieve(call: Call) -> Response:
    name = call.path["model"]
    if name not in MODELS:
        message = f"The model '{name}' does not exist or you do not have access to it."
        raise errors.not_found(message, param="model", code="model_not_found")
    return Response.json(_model(name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "openai"}
