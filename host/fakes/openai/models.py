"""Models (platform.openai.com/docs/api-reference/models): a list for show, since generation takes every model's name,
and those that fine-tuning has made."""

from __future__ import annotations

from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors
from host.fakes.openai.call import ApiCall, EndpointTable
from host.fakes.openai.store import CREATED

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
FINE_TUNED = "/v1/models"  # where the store has those that fine-tuning made


def list_models(call: ApiCall) -> FakeResponse:
    own = [one.fields for one in call.store.all(FINE_TUNED)]
    return FakeResponse.json({"object": "list", "data": [*(_model(name) for name in MODELS), *own]})


def retrieve_model(call: ApiCall) -> FakeResponse:
    name = call.path["model"]
    if (own := call.store.find(FINE_TUNED, name)) is not None:
        return FakeResponse.json(own.fields)
    if name not in MODELS:
        raise _unknown(name)
    return FakeResponse.json(_model(name))


def delete_model(call: ApiCall) -> FakeResponse:
    """Deletes a model that fine-tuning made. Raises ApiError: 404 for an unknown one, 403 for OpenAI's own."""
    name = call.path["model"]
    if name in MODELS:
        raise errors.ApiError(403, f"You have insufficient permissions to delete the model '{name}'.", param="model")
    if call.store.find(FINE_TUNED, name) is None:
        raise _unknown(name)
    call.store.remove(FINE_TUNED, name)
    return FakeResponse.json({"id": name, "object": "model", "deleted": True})


def _unknown(name: str) -> errors.ApiError:
    message = f"The model '{name}' does not exist or you do not have access to it."
    return errors.not_found(message, param="model", code="model_not_found")


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "openai"}


ENDPOINTS: EndpointTable = {
    "/v1/models": {"GET": list_models},
    "/v1/models/{model}": {"GET": retrieve_model, "DELETE": delete_model},
}
