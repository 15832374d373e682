"""Vector stores (platform.openai.com/docs/api-reference/vector-stores): files with attributes, in batches or one by
one, and a search.

A file is indexed when it is looked at for the first time. Its content is searched for the words of the query: the
score is the part of them that the chunk has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors, files, rest
from host.fakes.openai.call import ApiCall, EndpointTable
from host.fakes.openai.store import Stored

_STORES = "/v1/vector_stores"
_STORE = "/v1/vector_stores/{vector_store_id}"
_FILES = f"{_STORE}/files"
_BATCHES = f"{_STORE}/file_batches"
_BATCH = f"{_BATCHES}/{{batch_id}}"
_CHUNK = 800  # characters
_WORD = re.compile(r"\w+")
_AUTO = {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}
_COUNTED = ("in_progress", "completed", "failed", "cancelled")


def create_store(call: ApiCall) -> FakeResponse:
    params = rest.body(call)
    named = [files.file(call, name) for name in params.texts("file_ids", at_most=500)]
    store = rest.make(call, _STORES, {"name": "", **params.all()}, status="open", last_active_at=call.store.now)
    call.path["vector_store_id"] = store.id
    for one in named:
        _attach(call, one, params.all())
    return rest.answer(call, _shown(call, store))


def _shown(call: ApiCall, store: Stored) -> dict[str, Any]:
    """A store with the counts of its files: `in_progress` while one is not indexed."""
    own = call.store.all(f"{_STORES}/{store.id}/files")
    counts = _counts(own)
    used = sum(one.fields["usage_bytes"] for one in own)
    status = "in_progress" if counts["in_progress"] else "completed"
    if store.fields["status"] == "expired":
        status = "expired"
    return {**store.fields, "file_counts": counts, "usage_bytes": used, "status": status}


def _counts(own: list[Stored]) -> dict[str, int]:
    counts = {name: sum(one.fields["status"] == name for one in own) for name in _COUNTED}
    return {**counts, "total": len(own)}


def list_stores(call: ApiCall) -> FakeResponse:
    return rest.listing(call, [_shown(call, one) for one in rest.every(call, _STORES)])


def retrieve_store(call: ApiCall) -> FakeResponse:
    """Looking at a store goes on with its files."""
    store = rest.found(call, _STORE)
    for one in call.store.all(f"{_STORES}/{store.id}/files"):
        rest.look(one)
    return rest.answer(call, _shown(call, store))


def update_store(call: ApiCall) -> FakeResponse:
    store = rest.found(call, _STORE)
    params = rest.body(call)
    store.become(**params.all())
    if isinstance(days := params.mapping("expires_after").get("days"), int):
        store.become(expires_at=call.store.now + days * 86_400)
    return rest.answer(call, _shown(call, store))


# files


def add_file(call: ApiCall) -> FakeResponse:
    params = rest.body(call)
    rest.found(call, _STORE)
    stored = _attach(call, files.file(call, params.required_text("file_id")), params.all())
    return rest.answer(call, stored.fields)


def _attach(call: ApiCall, source: Stored, given: Mapping[str, Any], batch_id: str | None = None) -> Stored:
    """Puts a file into the store of the call. It is indexed at the first look."""
    fields = {"attributes": given.get("attributes") or {}, "chunking_strategy": _strategy(given)}
    more = {"object": "vector_store.file", "usage_bytes": len(source.content), "batch_id": batch_id}
    stored = rest.make(call, _FILES, fields, **more, status="in_progress", id=source.id)
    stored.content = source.content
    stored.fields["filename"] = source.fields["filename"]
    stored.steps = [lambda: stored.become(status="completed")]
    return stored


def _strategy(given: Mapping[str, Any]) -> Any:
    asked = given.get("chunking_strategy")
    return asked if isinstance(asked, dict) and asked.get("type") == "static" else _AUTO


def update_file(call: ApiCall) -> FakeResponse:
    stored = rest.found(call)
    stored.become(attributes=rest.body(call).mapping("attributes"))
    return rest.answer(call, stored.fields)


def file_content(call: ApiCall) -> FakeResponse:
    """The text in chunks: one page of all of them."""
    stored = rest.look(rest.found(call, f"{_FILES}/{{file_id}}"))
    chunks = [{"type": "text", "text": text} for text in _chunks(stored)]
    return FakeResponse.json({"object": "vector_store.file_content.page", "data": chunks, "has_more": False})


def _chunks(stored: Stored) -> list[str]:
    text = stored.content.decode("utf-8", "replace")
    return [text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK)]


# batches of files


def create_batch(call: ApiCall) -> FakeResponse:
    params = rest.body(call)
    rest.found(call, _STORE)
    if ("file_ids" in params) is ("files" in params):
        raise errors.missing("file_ids")
    rows = params.objects("files") or [{"file_id": name} for name in params.texts("file_ids", at_most=2_000)]
    named = [(files.file(call, str(row.get("file_id"))), {**params.all(), **row}) for row in rows]
    batch = rest.make(call, _BATCHES, {}, object="vector_store.files_batch", status="in_progress")
    for source, given in named:
        _attach(call, source, given, batch.id)
    batch.steps = [lambda: _finish(call, batch)]
    return rest.answer(call, _batch(call, batch))


def _files_of(call: ApiCall, batch: Stored) -> list[Stored]:
    own = call.store.all(rest.collection(call, _FILES))
    return [one for one in own if one.fields["batch_id"] == batch.id]


def _finish(call: ApiCall, batch: Stored) -> None:
    for one in _files_of(call, batch):
        rest.look(one)
    batch.become(status="completed")


def _batch(call: ApiCall, batch: Stored) -> dict[str, Any]:
    return {**batch.fields, "file_counts": _counts(_files_of(call, batch))}


def retrieve_batch(call: ApiCall) -> FakeResponse:
    return rest.answer(call, _batch(call, rest.look(rest.found(call, _BATCH))))


def cancel_batch(call: ApiCall) -> FakeResponse:
    batch = rest.found(call, _BATCH)
    rest.check_not_ended(batch, "cancel")
    batch.steps.clear()
    batch.become(status="cancelled")
    for one in _files_of(call, batch):
        if one.steps:
            one.steps.clear()
            one.become(status="cancelled")
    return rest.answer(call, _batch(call, batch))


def list_batch_files(call: ApiCall) -> FakeResponse:
    return rest.listing(call, [one.fields for one in _files_of(call, rest.found(call, _BATCH))])


# search


def search(call: ApiCall) -> FakeResponse:
    """The chunks that have words of the query, best first, of the files whose attributes pass the filter."""
    store = rest.found(call, _STORE)
    params = rest.body(call)
    asked = params.texts("query", at_most=20)
    wanted = {word.lower() for query in asked for word in _WORD.findall(query)}
    most = params.integer("max_num_results", 10, high=50)
    found = []
    for stored in call.store.all(f"{_STORES}/{store.id}/files"):
        attributes = stored.fields["attributes"]
        if "filters" in params and not _passes(params.mapping("filters"), attributes):
            continue
        for text in _chunks(stored):
            score = len(wanted & {word.lower() for word in _WORD.findall(text)}) / max(1, len(wanted))
            if score:
                shown = {"file_id": stored.id, "filename": stored.fields["filename"], "attributes": attributes}
                found.append({**shown, "score": score, "content": [{"type": "text", "text": text}]})
    best = sorted(found, key=lambda one: -one["score"])[:most]
    page = {"object": "vector_store.search_results.page", "search_query": asked, "data": best}
    return FakeResponse.json({**page, "has_more": False, "next_page": None})


def _passes(rule: Any, attributes: Mapping[str, Any]) -> bool:
    """Raises ApiError (400) for a filter that is none."""
    match rule:
        case {"type": "and", "filters": [*rules]}:
            return all(_passes(one, attributes) for one in rules)
        case {"type": "or", "filters": [*rules]}:
            return any(_passes(one, attributes) for one in rules)
        case {"type": str() as kind, "key": str() as key, "value": value} if kind in _COMPARISONS:
            return key in attributes and _compares(kind, attributes[key], value)
        case _:
            raise errors.wrong_value("filters", "a filter has a type, a key and a value, or a type and filters.")


_COMPARISONS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin")


def _compares(kind: str, has: Any, value: Any) -> bool:
    match kind:
        case "eq":
            return bool(has == value)
        case "ne":
            return bool(has != value)
        case "in" | "nin" if isinstance(value, list):
            return (has in value) is (kind == "in")
        case _ if isinstance(has, int | float) and isinstance(value, int | float):
            return {"gt": has > value, "gte": has >= value, "lt": has < value, "lte": has <= value}.get(kind, False)
        case _:
            return False


ENDPOINTS: EndpointTable = {
    _STORES: {"POST": create_store, "GET": list_stores},
    _STORE: {"GET": retrieve_store, "POST": update_store},
    _FILES: {"POST": add_file},
    f"{_FILES}/{{file_id}}": {"POST": update_file},
    f"{_FILES}/{{file_id}}/content": {"GET": file_content},
    _BATCHES: {"POST": create_batch},
    _BATCH: {"GET": retrieve_batch},
    f"{_BATCH}/cancel": {"POST": cancel_batch},
    f"{_BATCH}/files": {"GET": list_batch_files},
    f"{_STORE}/search": {"POST": search},
}
