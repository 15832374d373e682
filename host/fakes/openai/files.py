"""/v1/files (platform.openai.com/docs/api-reference/files). Two uploads of the same bytes are two files."""

from __future__ import annotations

from typing import Any

from host.fakes.messages import Response
from host.fakes.openai import errors
from host.fakes.openai.call import Call
from host.fakes.openai.text import CREATED, identifier, page, seed_of

_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


def create(call: Call) -> Response:
    form = call.form
    upload = form.file("file")
    form.params.required("purpose")
    file_id = identifier("file-", seed_of("file", call.store.next_number()))
    lifetime_s = form.params.integer("expires_after[seconds]", None, low=3600, high=2_592_000)
    shown = {
        "id": file_id,
        "object": "file",
        "bytes": len(upload.content),
        "created_at": CREATED,
        "expires_at": CREATED + lifetime_s if lifetime_s else None,
        "filename": upload.filename,
        "purpose": form.params.choice("purpose", _PURPOSES, ""),
        "status": "processed",
        "status_details": None,
    }
    call.store.files[file_id] = (shown, upload.content)
    return Response.json(shown)


def index(call: Call) -> Response:
    purpose = call.query.text("purpose", None)
    shown = [file for file, _ in call.store.files.values() if purpose in {None, file["purpose"]}]
    return Response.json(page(shown, call.query, default=10_000, most=10_000))


def retrieve(call: Call) -> Response:
    return Response.json(_file(call)[0])


def delete(call: Call) -> Response:
    file, _ = _file(call)
    del call.store.files[file["id"]]
    return Response.json({"id": file["id"], "object": "file", "deleted": True})


def content(call: Call) -> Response:
    return Response(200, {"content-type": "application/octet-stream"}, _file(call)[1])


def _file(call: Call) -> tuple[dict[str, Any], bytes]:
    file_id = call.path["file_id"]
    if file_id not in call.store.files:
        raise errors.not_found(f"No such File object: {file_id}", param="id")
    return call.store.files[file_id]
