"""The objects of OpenAI's API for batches and their files, from what is kept of them, and how that changes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from host.core.strict_json import Json, write_json
from host.errors import InputError
from host.service.batches.answers import BatchAnswer
from host.service.batches.lines import BatchLine, custom_id_of, idempotency_key
from host.store.access.batches import KeptBatch, KeptFile, with_facts

_STEPS: Final = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


def file_object(file: KeptFile) -> dict[str, Json]:
    known: dict[str, Json] = {"id": file.id, "object": "file", "bytes": file.bytes, "created_at": int(file.made_at)}
    return {**known, "expires_at": int(file.expires_at), **file.facts, "status": "processed"}


def batch_object(batch: KeptBatch) -> dict[str, Json]:
    facts, (total, completed, failed) = batch.facts, counts_of(batch)
    tokens = facts["tokens"]
    used = [one for one in tokens if isinstance(one, int)] if isinstance(tokens, list) else [0, 0]
    expires_at = facts["expires_at"]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": facts["endpoint"],
        "errors": facts.get("errors"),
        "input_file_id": facts["input_file_id"],
        "completion_window": "24h",
        "status": facts["status"],
        "output_file_id": facts.get("output_file_id"),
        "error_file_id": facts.get("error_file_id"),
        "created_at": int(batch.made_at),
        "expires_at": int(expires_at) if isinstance(expires_at, int | float) else None,
        **{f"{name}_at": facts.get(f"{name}_at") for name in _STEPS},
        "request_counts": {"total": total, "completed": completed, "failed": failed},
        "usage": {
            "input_tokens": used[0],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": used[1],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": sum(used),
        },
        "metadata": facts["metadata"],
    }


def counts_of(batch: KeptBatch) -> list[int]:
    """Lines in all, completed, failed."""
    given = batch.facts["counts"]
    return [one for one in given if isinstance(one, int)] if isinstance(given, list) else [0, 0, 0]


def counted(batch: KeptBatch, *, answers: Sequence[BatchAnswer], tokens: tuple[int, int]) -> KeptBatch:
    total, completed, failed = counts_of(batch)
    more = sum(one.failed for one in answers)
    before = batch.facts["tokens"]
    used = [one for one in before if isinstance(one, int)] if isinstance(before, list) else [0, 0]
    counts: list[Json] = [total, completed + len(answers) - more, failed + more]
    size = batch.answers_bytes + sum(len(one.text) + 1 for one in answers)
    return with_facts(batch, counts=counts, tokens=[used[0] + tokens[0], used[1] + tokens[1]], bytes=size)


def in_status(batch: KeptBatch, status: str, **facts: Json) -> KeptBatch:
    """In another state, unless it is being cancelled."""
    if status == "in_progress" and batch.facts["status"] == "cancelling":
        return with_facts(batch, **facts)
    times: dict[str, Json] = {f"{status}_at": batch.facts.get(f"{status}_at") or int(time.time())}
    return with_facts(batch, status=status, **times, **facts)


def ended(batch: KeptBatch, *, status: str, **facts: Json) -> KeptBatch:
    """One that is being cancelled ends in that, also where all of its lines had been run."""
    if status == "completed" and batch.facts["status"] == "cancelling":
        status = "cancelled"
    if status == "completed":
        facts = {"finalizing_at": int(time.time()), **facts}
    return replace(in_status(batch, status, **facts), ended=True)


def expired_answer(batch: str, line: BatchLine) -> BatchAnswer:
    error: dict[str, Json] = {
        "code": "batch_expired",
        "message": "This request could not be executed before the completion window expired.",
    }
    custom_id: Json = custom_id_of(line) or None
    own = idempotency_key(batch, line.number)
    text = write_json({"id": own, "custom_id": custom_id, "response": None, "error": error})
    return BatchAnswer(line.number, text.encode(), failed=True)


def mistake_object(code: str, message: str, line: int | None = None, param: str | None = None) -> dict[str, Json]:
    return {"code": code, "message": message, "line": line, "param": param}


def mistakes_object(found: Sequence[dict[str, Json]]) -> Json:
    return {"object": "list", "data": [*found]}


def read_metadata(given: Json) -> Json:
    """Raises InputError."""
    if given is None:
        return None
    if not isinstance(given, dict) or len(given) > 16 or not all(isinstance(one, str) for one in given.values()):
        raise InputError("metadata has up to 16 texts", field="metadata")
    if any(len(name) > 64 or len(str(one)) > 512 for name, one in given.items()):
        raise InputError("metadata has names of 64 characters and texts of 512 at most", field="metadata")
    return given


def read_lifetime(given: Json) -> Json:
    """`{"anchor": "created_at", "seconds": n}` -> n. Raises InputError."""
    if given is None:
        return None
    seconds = given.get("seconds") if isinstance(given, dict) else None
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 3_600 <= seconds <= 2_592_000:
        raise InputError("output_expires_after has `seconds` from 3600 to 2592000", field="output_expires_after")
    return seconds
