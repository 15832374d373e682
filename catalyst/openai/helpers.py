"""Operations that are more than one request, as in the official SDK: uploads in parts, and waiting for work to end."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from catalyst.sdk.errors import Invalid, UpstreamError

PART_SIZE = 24 * 1024 * 1024  # with the rest of its form in one request of a host's default limit, 32 MiB
_MOST_PART_SIZE = 64 * 1024 * 1024  # that the API takes as one part
_OF_AN_UPLOAD = ("bytes", "filename", "mime_type", "purpose")
_PURPOSE = "assistants"  # of a file for a vector store
_DEFAULT_WAIT_MS = 1_000
_LONGEST_WAIT_MS = 600_000
_EVEN_LOOKS = 20  # then each wait is longer than the one before, since a run has a number of requests (64 by default)
_GROWTH = 1.1
_GROWTH_AFTER_UPLOADS = 1.15  # which took some of them
_PENDING = {  # statuses that will change, by the operation that gives them
    "vector_stores.files.retrieve": ("in_progress",),
    "vector_stores.file_batches.retrieve": ("in_progress",),
    "beta.threads.runs.retrieve": ("queued", "in_progress", "cancelling"),
    "videos.retrieve": ("queued", "in_progress"),
    "batches.retrieve": ("validating", "in_progress", "finalizing", "cancelling"),
    "files.retrieve": ("uploaded", "pending", "running"),
}


class Session(Protocol):
    """Performs operations for a helper. `sizes` has the size of each attachment that the caller handed over."""

    sizes: Mapping[str, int]

    def ask(self, operation: str, params: dict[str, Any], after_ms: int = 0) -> dict[str, Any]:
        """The result `{"status", "data", "headers"?}` of an operation, `after_ms` from now. Raises CatalystError."""
        ...


Helper: TypeAlias = Callable[[Session, dict[str, Any]], dict[str, Any]]


def polled(retrieve: str, *ids: str, create: str = "", new: str = "", growth: float = _GROWTH, **asked: Any) -> Helper:
    """The helper that asks for an object (`retrieve`, with the parameters `ids`) until its status stays. With `create`
    it makes the object first, with the parameters `asked` beside the caller's; `new` is the name of its id in `ids`,
    if the caller does not give that. `growth` is that of the waits."""

    def run(session: Session, params: dict[str, Any]) -> dict[str, Any]:
        given = dict(params)
        interval = _milliseconds(given.pop("poll_interval_ms", None))
        if create:
            made = _object(session.ask(create, {**asked, **given}))
            given = {"thread_id": made.get("thread_id"), **given, **({new: made.get("id")} if new else {})}
        return _settled(session, retrieve, {name: given.get(name) for name in ids}, interval, growth)

    return run


def upload_to_vector_store(session: Session, params: dict[str, Any]) -> dict[str, Any]:
    given = dict(params)
    given["file_id"] = _uploaded(session, given.pop("file", None))
    return session.ask("vector_stores.files.create", given)


def upload_to_vector_store_and_poll(session: Session, params: dict[str, Any]) -> dict[str, Any]:
    given = dict(params)
    interval = _milliseconds(given.pop("poll_interval_ms", None))
    added = _object(upload_to_vector_store(session, given))
    ids = {"vector_store_id": given["vector_store_id"], "file_id": added.get("id")}
    return _settled(session, "vector_stores.files.retrieve", ids, interval, _GROWTH_AFTER_UPLOADS)


def upload_batch_and_poll(session: Session, params: dict[str, Any]) -> dict[str, Any]:
    given = dict(params)
    given.pop("max_concurrency", None)  # a sandbox sends one request after the other
    files, ids = given.pop("files", None), given.pop("file_ids", None) or []
    if not isinstance(files, list) or not files:
        raise Invalid("files", "files must be an array of files")
    if not isinstance(ids, list):
        raise Invalid("file_ids", "file_ids must be an array")
    given["file_ids"] = [*ids, *(_uploaded(session, file) for file in files)]
    polls = polled(
        "vector_stores.file_batches.retrieve",
        "vector_store_id",
        "batch_id",
        create="vector_stores.file_batches.create",
        new="batch_id",
        growth=_GROWTH_AFTER_UPLOADS,
    )
    return polls(session, given)


def upload_in_parts(session: Session, params: dict[str, Any]) -> dict[str, Any]:
    """A large file as an upload of several parts: its bytes stay with the host, which takes each part out of them."""
    given = dict(params)
    file, part_size, md5 = given.pop("file", None), given.pop("part_size", None) or PART_SIZE, given.pop("md5", None)
    if not isinstance(file, dict):
        raise Invalid("file", 'file must be a file: {"$attachment": id} or {"data": base64}')
    if "range" in file:
        raise Invalid("file", "file has a range: the whole file goes up; make an attachment of the part")
    if not isinstance(part_size, int) or isinstance(part_size, bool) or not 3 <= part_size <= _MOST_PART_SIZE:
        raise Invalid("part_size", f"part_size must be a number of bytes, at most {_MOST_PART_SIZE}")
    size = _size(session, file, given.get("bytes"))
    filename = given.get("filename") or file.get("filename")
    if not filename:
        raise Invalid("filename", "filename is required: the file has no name of its own")
    given = {**given, "bytes": size, "filename": filename}
    given = {**dict.fromkeys(_OF_AN_UPLOAD), **given}  # in the order of the official SDK
    upload = _id(session.ask("uploads.create", given))
    parts = [
        _id(session.ask("uploads.parts.create", {"upload_id": upload, "data": part}))
        for part in _parts(file, size, part_size)
    ]
    completed = {"upload_id": upload, "part_ids": parts, **({"md5": md5} if md5 else {})}
    return session.ask("uploads.complete", completed)


def _parts(file: dict[str, Any], size: int, part_size: int) -> list[dict[str, Any]]:
    """Each part as a file. Of base64, four characters are three bytes."""
    if "$attachment" in file:
        starts = range(0, size, part_size)
        return [{"$attachment": file["$attachment"], "range": [at, min(at + part_size, size)]} for at in starts]
    step = part_size // 3 * 4
    return [{"data": file["data"][at : at + step]} for at in range(0, len(file["data"]), step)]


def _size(session: Session, file: dict[str, Any], told: Any) -> int:
    if isinstance(data := file.get("data"), str):
        return len(data) // 4 * 3 - data[-2:].count("=")
    size = session.sizes.get(str(file.get("$attachment")), told)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise Invalid("bytes", "bytes is required, the size of the file: this host does not say it")
    return size


def _uploaded(session: Session, file: Any) -> str:
    return _id(session.ask("files.create", {"file": file, "purpose": _PURPOSE}))


def _settled(
    session: Session, retrieve: str, ids: dict[str, Any], interval: int | None, growth: float
) -> dict[str, Any]:
    """The first answer whose status will not change. The run's deadline ends the wait. After some looks the waits grow,
    also those that the caller or the API asked for."""
    result = session.ask(retrieve, ids)
    longer, looks = 1.0, 0
    while _object(result).get("status") in _PENDING[retrieve]:
        looks += 1
        longer *= growth if looks > _EVEN_LOOKS and longer < _LONGEST_WAIT_MS else 1
        wait = (interval or _asked(result) or _DEFAULT_WAIT_MS) * longer
        result = session.ask(retrieve, ids, after_ms=min(int(wait), _LONGEST_WAIT_MS))
    return result


def _asked(result: dict[str, Any]) -> int:
    """The wait that the API asks for, or 0."""
    told = result.get("headers", {}).get("openai-poll-after-ms", "")
    return min(int(told), _LONGEST_WAIT_MS) if told.isascii() and told.isdigit() else 0


def _milliseconds(given: Any) -> int | None:
    if given is None:
        return None
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= _LONGEST_WAIT_MS:
        raise Invalid("poll_interval_ms", f"poll_interval_ms must be an integer from 1 to {_LONGEST_WAIT_MS}")
    return given


def _object(result: dict[str, Any]) -> dict[str, Any]:
    if isinstance(data := result["data"], dict):
        return data
    raise UpstreamError(502, {"type": "upstream_error", "message": "the answer is no JSON object"})


def _id(result: dict[str, Any]) -> str:
    if isinstance(found := _object(result).get("id"), str):
        return found
    raise UpstreamError(502, {"type": "upstream_error", "message": "the answer has no id"})


_FILE_IN_STORE = ("vector_stores.files.retrieve", "vector_store_id", "file_id")
_BATCH_IN_STORE = ("vector_stores.file_batches.retrieve", "vector_store_id", "batch_id")
_RUN = ("beta.threads.runs.retrieve", "thread_id", "run_id")

HELPERS: dict[str, Helper] = {
    "batches.poll": polled("batches.retrieve", "batch_id"),
    "beta.threads.create_and_run_poll": polled(*_RUN, create="beta.threads.create_and_run", new="run_id", stream=False),
    "beta.threads.runs.create_and_poll": polled(*_RUN, create="beta.threads.runs.create", new="run_id", stream=False),
    "beta.threads.runs.poll": polled(*_RUN),
    "beta.threads.runs.submit_tool_outputs_and_poll": polled(
        *_RUN, create="beta.threads.runs.submit_tool_outputs", new="run_id", stream=False
    ),
    "files.wait_for_processing": polled("files.retrieve", "file_id"),
    "uploads.upload_file_chunked": upload_in_parts,
    "vector_stores.file_batches.create_and_poll": polled(
        *_BATCH_IN_STORE, create="vector_stores.file_batches.create", new="batch_id"
    ),
    "vector_stores.file_batches.poll": polled(*_BATCH_IN_STORE),
    "vector_stores.file_batches.upload_and_poll": upload_batch_and_poll,
    "vector_stores.files.create_and_poll": polled(*_FILE_IN_STORE, create="vector_stores.files.create"),
    "vector_stores.files.poll": polled(*_FILE_IN_STORE),
    "vector_stores.files.upload": upload_to_vector_store,
    "vector_stores.files.upload_and_poll": upload_to_vector_store_and_poll,
    "videos.create_and_poll": polled("videos.retrieve", "video_id", create="videos.create", new="video_id"),
    "videos.poll": polled("videos.retrieve", "video_id"),
}
