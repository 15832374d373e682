"""Files and uploads of large files in parts (platform.openai.com/docs/api-reference/files and …/uploads)."""

from __future__ import annotations

import hashlib

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors, rest
from host.fakes.openai.call import ApiCall, EndpointTable
from host.fakes.openai.store import Stored
from host.fakes.openai.text import page

_FILES = "/v1/files"
_UPLOADS = "/v1/uploads"
_PARTS = "/v1/uploads/{upload_id}/parts"
_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_MAX_PART = 64 * 1024 * 1024
_UPLOAD_LASTS_S = 3600


def create_file(call: ApiCall) -> FakeResponse:
    form = call.form
    upload = form.file("file")
    form.params.required("purpose")
    purpose = form.params.choice("purpose", _PURPOSES, "")
    lifetime_s = form.params.integer("expires_after[seconds]", None, low=3600, high=2_592_000)
    stored = store_file(call, upload.filename or "", upload.content, purpose, lifetime_s)
    stored.media_type = upload.content_type or stored.media_type
    return FakeResponse.json(rest.shown(call, stored.fields))


def store_file(call: ApiCall, filename: str, content: bytes, purpose: str, lifetime_s: int | None = None) -> Stored:
    """Keeps a new file. Two of the same bytes are two files."""
    expires = {"expires_at": call.store.now + lifetime_s} if lifetime_s else {}
    fields = {"filename": filename, "bytes": len(content), "purpose": purpose, "status": "processed", **expires}
    stored = rest.make(call, _FILES, {}, object="file", **fields)
    stored.content = content
    return stored


def file(call: ApiCall, file_id: str) -> Stored:
    """The file of that id. Raises ApiError (404)."""
    stored = call.store.find(_FILES, file_id)
    if stored is None:
        raise errors.not_found(f"No such File object: {file_id}", param="id")
    return stored


def list_files(call: ApiCall) -> FakeResponse:
    purpose = call.query.text("purpose", None)
    files = [one.fields for one in call.store.all(_FILES) if purpose in {None, one.fields["purpose"]}]
    found = page(files, call.query, default=10_000, most=10_000)
    return FakeResponse.json({**found, "data": [rest.shown(call, one) for one in found["data"]]})


def retrieve_file(call: ApiCall) -> FakeResponse:
    return FakeResponse.json(rest.shown(call, file(call, call.path["file_id"]).fields))


def delete_file(call: ApiCall) -> FakeResponse:
    stored = file(call, call.path["file_id"])
    call.store.remove(_FILES, stored.id)
    return FakeResponse.json({"id": stored.id, "object": "file", "deleted": True})


def file_content(call: ApiCall) -> FakeResponse:
    return FakeResponse(200, {"content-type": "application/octet-stream"}, file(call, call.path["file_id"]).content)


# uploads: made, filled by parts in any order, and completed into a file by the order of the parts


def create_upload(call: ApiCall) -> FakeResponse:
    given = rest.body(call).all()
    stored = rest.make(call, _UPLOADS, given, status="pending", expires_at=call.store.now + _UPLOAD_LASTS_S)
    return rest.answer(call, stored.fields)


def add_part(call: ApiCall) -> FakeResponse:
    upload = _pending(call)
    rest.body(call)
    part = call.files.get("data")
    content = part.content if part else call.form.params.required_text("data").encode()
    if len(content) > _MAX_PART:
        raise errors.wrong_value("data", f"a part has at most {_MAX_PART} bytes.")
    stored = rest.make(call, _PARTS, {}, upload_id=upload.id)
    stored.content = content
    return rest.answer(call, stored.fields)


def complete_upload(call: ApiCall) -> FakeResponse:
    upload = _pending(call)
    params = rest.body(call)
    parts = {one.id: one for one in call.store.all(rest.collection(call, _PARTS))}
    named = params.texts("part_ids", at_most=10_000)
    for part_id in named:
        if part_id not in parts:
            raise errors.wrong_value("part_ids", f"no part of this upload has the ID '{part_id}'.")
    content = b"".join(parts[part_id].content for part_id in named)
    if len(content) != upload.fields["bytes"]:
        message = f"the parts have {len(content)} bytes, and the upload was made for {upload.fields['bytes']}."
        raise errors.wrong_value("part_ids", message)
    if "md5" in params and params.text("md5", "") != hashlib.md5(content, usedforsecurity=False).hexdigest():
        raise errors.wrong_value("md5", "it is not that of the parts' bytes.")
    lasts = upload.fields.get("expires_after") or {}
    made = store_file(call, upload.fields["filename"], content, upload.fields["purpose"], lasts.get("seconds"))
    made.media_type = upload.fields["mime_type"]
    upload.become(status="completed", file=dict(made.fields))
    return rest.answer(call, upload.fields)


def cancel_upload(call: ApiCall) -> FakeResponse:
    upload = _pending(call)
    upload.become(status="cancelled")
    return rest.answer(call, upload.fields)


def _pending(call: ApiCall) -> Stored:
    upload = rest.find(call, _UPLOADS, call.path["upload_id"])
    if (status := upload.fields["status"]) != "pending":
        raise errors.ApiError(400, f"Upload {upload.id} is {status}, and takes no more.", code="invalid_state")
    return upload


ENDPOINTS: EndpointTable = {
    "/v1/files": {"GET": list_files, "POST": create_file},
    "/v1/files/{file_id}": {"GET": retrieve_file, "DELETE": delete_file},
    "/v1/files/{file_id}/content": {"GET": file_content},
    "/v1/uploads": {"POST": create_upload},
    "/v1/uploads/{upload_id}/parts": {"POST": add_part},
    "/v1/uploads/{upload_id}/complete": {"POST": complete_upload},
    "/v1/uploads/{upload_id}/cancel": {"POST": cancel_upload},
}
