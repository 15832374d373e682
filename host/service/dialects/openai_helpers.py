"""Operations that are several requests of OpenAI's API, as the request that they order their work by.

The official SDK has them, as uploads in parts and as waits for work to end; none has a route of its own. What holds for
the request that makes something, or else for the one that is repeated, holds for the whole: what it costs, which models
it may use, what its answer is. All else that it asks for reads, or stores a file for an assistant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from host.component.operations import OperationSpec, RequestKind, RouteMethod

_IN_PATH = re.compile(r"\{(\w+)\}")
_RUNS = "/threads/{thread_id}/runs"
_STORE = "/vector_stores/{vector_store_id}"

ORDERED: Final[Mapping[str, tuple[RouteMethod, str, RequestKind]]] = {
    "beta.threads.create_and_run_poll": ("POST", "/threads/runs", "json"),
    "beta.threads.runs.create_and_poll": ("POST", _RUNS, "json"),
    "beta.threads.runs.submit_tool_outputs_and_poll": ("POST", f"{_RUNS}/{{run_id}}/submit_tool_outputs", "json"),
    "uploads.upload_file_chunked": ("POST", "/uploads", "json"),
    "vector_stores.file_batches.create_and_poll": ("POST", f"{_STORE}/file_batches", "json"),
    "vector_stores.file_batches.upload_and_poll": ("POST", f"{_STORE}/file_batches", "json"),
    "vector_stores.files.create_and_poll": ("POST", f"{_STORE}/files", "json"),
    "vector_stores.files.upload": ("POST", f"{_STORE}/files", "json"),
    "vector_stores.files.upload_and_poll": ("POST", f"{_STORE}/files", "json"),
    "videos.create_and_poll": ("POST", "/videos", "multipart"),
    "batches.poll": ("GET", "/batches/{batch_id}", "none"),
    "beta.threads.runs.poll": ("GET", f"{_RUNS}/{{run_id}}", "none"),
    "files.wait_for_processing": ("GET", "/files/{file_id}", "none"),
    "vector_stores.file_batches.poll": ("GET", f"{_STORE}/file_batches/{{batch_id}}", "none"),
    "vector_stores.files.poll": ("GET", f"{_STORE}/files/{{file_id}}", "none"),
    "videos.poll": ("GET", "/videos/{video_id}", "none"),
    # no request at all
    "operations.describe": ("GET", "", "none"),
    "operations.list": ("GET", "", "none"),
    "webhooks.unwrap": ("GET", "", "none"),
    "webhooks.verify_signature": ("GET", "", "none"),
}


def ordered(spec: OperationSpec | None) -> OperationSpec | None:
    """The operation with the method and the path of what it orders; one that has a route, or is unknown here, as it is.
    One that sends no request reads, and has no path."""
    if spec is None or spec.path or (found := ORDERED.get(spec.name)) is None:
        return spec
    method, path, request = found
    return replace(spec, method=method, path=path, in_path=tuple(_IN_PATH.findall(path)), request=request)
