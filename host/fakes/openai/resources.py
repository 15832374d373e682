"""Files and models (platform.openai.com/docs/api-reference/files and …/models)."""

from __future__ import annotations

from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors
from host.fakes.openai.call import ApiCall
from host.fakes.openai.text import CREATED, identifier, page, seed_of

# files: two uploads of the same bytes are two files

_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


def create_file(call: ApiCall) -> FakeResponse:
    form = call.form
    upload = form.file("file")
    form.params.required("purpose")
    file_id = identifier("file-", seed_of("file", call.state.next_number()))
    lifetime_s = form.params.integer("expires_after[seconds]", None, low=3600, high=2_592_000)
    shown = {
        "id": file_id,
        "object": "file",
        "bytes": len(upload.content),
        "created_at": CREATED,
        **({"expires_at": CREATED + lifetime_s} if lifetime_s else {}),
        "filename": upload.filename,
        "purpose": form.params.choice("purpose", _PURPOSES, ""),
        "status": "processed",
    }
    call.state.files[file_id] = (shown, upload.content)
    return FakeResponse.json(shown)


def list_files(call: ApiCall) -> FakeResponse:
    purpose = call.query.text("purpose", None)
    shown = [file for file, _ in call.state.files.values() if purpose in {None, file["purpose"]}]
    return FakeResponse.json(page(shown, call.query, default=10_000, most=10_000))


def retrieve_file(call: ApiCall) -> FakeResponse:
    return FakeResponse.json(_file(call)[0])


def delete_file(call: ApiCall) -> FakeResponse:
    file, _ = _file(call)
    del call.state.files[file["id"]]
    return FakeResponse.json({"id": file["id"], "object": "file", "deleted": True})


def file_content(call: ApiCall) -> FakeResponse:
    return FakeResponse(200, {"content-type": "application/octet-stream"}, _file(call)[1])


def _file(call: ApiCall) -> tuple[dict[str, Any], bytes]:
    file_id = call.path["file_id"]
    if file_id not in call.state.files:
        raise errors.not_found(f"No such File object: {file_id}", param="id")
    return call.state.files[file_id]


# models: a list for show, since generation accepts every model's name

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


def list_models(call: ApiCall) -> FakeResponse:
    del call
    return FakeResponse.json({"object": "list", "data": [_model(name) for name in MODELS]})


def retrieve_model(call: ApiCall) -> FakeResponse:
    name = call.path["model"]
    if name not in MODELS:
        message = f"The model '{name}' does not exist or you do not have access to it."
        raise errors.not_found(message, param="model", code="model_not_found")
    return FakeResponse.json(_model(name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "openai"}
