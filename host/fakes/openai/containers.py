"""Containers' files (platform.openai.com/docs/api-reference/container-files): uploads, and copies of stored files."""

from __future__ import annotations

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors, files, rest
from host.fakes.openai.call import ApiCall, EndpointTable
from host.fakes.openai.store import Stored

_CONTAINERS = "/v1/containers"
_CONTAINER = f"{_CONTAINERS}/{{container_id}}"
_FILES = f"{_CONTAINER}/files"


def create_container(call: ApiCall) -> FakeResponse:
    """It expires `expires_after` its last use, by default 20 minutes."""
    params = rest.body(call)
    sources = [files.file(call, name) for name in params.texts("file_ids", at_most=500)]
    usual = {"expires_after": {"anchor": "last_active_at", "minutes": 20}, "memory_limit": "1g"}
    container = rest.make(call, _CONTAINERS, {**usual, **params.all()}, last_active_at=call.store.now)
    call.path["container_id"] = container.id
    for source in sources:
        _add(call, source.fields["filename"], source.content)
    return rest.answer(call, container.fields)


def add_file(call: ApiCall) -> FakeResponse:
    container = rest.found(call, _CONTAINER)
    if container.has_ended:
        raise errors.ApiError(400, f"Container {container.id} has expired.", code="container_expired")
    params = rest.body(call)
    container.become(last_active_at=call.store.now, expires_at=call.store.now + _lifetime_s(container))
    if (part := call.files.get("file")) is not None:
        return rest.answer(call, _add(call, part.filename or "file", part.content).fields)
    source = files.file(call, params.required_text("file_id"))
    return rest.answer(call, _add(call, source.fields["filename"], source.content).fields)


def _lifetime_s(container: Stored) -> int:
    return 60 * int(container.fields["expires_after"]["minutes"])


def _add(call: ApiCall, name: str, content: bytes) -> Stored:
    shown = {"path": f"/mnt/data/{name}", "bytes": len(content), "source": "user"}
    stored = rest.make(call, _FILES, shown, object="container.file")
    stored.content = content
    return stored


ENDPOINTS: EndpointTable = {_CONTAINERS: {"POST": create_container}, _FILES: {"POST": add_file}}
