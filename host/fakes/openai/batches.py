"""Batches (platform.openai.com/docs/api-reference/batch): the requests of a JSONL file, answered by the fake itself.

A batch goes on by one step each time that somebody looks at it: validating, in_progress, finalizing, completed. The
requests are answered when it gets to `finalizing`; until then it can be cancelled without any.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from host.fakes.messages import FakeRequest, FakeResponse, encode_json
from host.fakes.openai import errors, files, rest
from host.fakes.openai.call import ApiCall, EndpointTable
from host.fakes.openai.store import Stored
from host.fakes.openai.text import identifier, seed_of

_BATCHES = "/v1/batches"
_WINDOW_S = 86_400
_MOST_REQUESTS = 50_000
_COUNTS = ("total", "completed", "failed")


def create_batch(call: ApiCall) -> FakeResponse:
    params = rest.body(call)
    source = files.file(call, params.required_text("input_file_id"))
    if source.fields["purpose"] != "batch":
        raise errors.wrong_value("input_file_id", "the file's purpose has to be 'batch'.")
    counts = dict.fromkeys(_COUNTS, 0)
    expires = {"expires_at": call.store.now + _WINDOW_S}
    stored = rest.make(call, _BATCHES, params.all(), status="validating", request_counts=counts, **expires)
    stored.steps = _Work(call, stored, source.content).steps()
    return rest.answer(call, stored.fields)


def cancel_batch(call: ApiCall) -> FakeResponse:
    """A batch on its way is `cancelling`, and `cancelled` when it is looked at again."""
    stored = rest.found(call, f"{_BATCHES}/{{batch_id}}")
    rest.check_not_ended(stored, "cancel")
    stored.become(status="cancelling", cancelling_at=call.store.now)
    stored.steps = [lambda: stored.become(status="cancelled", cancelled_at=call.store.now)]
    return rest.answer(call, stored.fields)


@dataclass(frozen=True)
class _Work:
    call: ApiCall
    batch: Stored
    source: bytes

    def steps(self) -> list[Callable[[], object]]:
        return [self._validate, self._answer, self._complete]

    def _validate(self) -> None:
        """Counts the lines; a file with a wrong one fails the batch, and names each of them."""
        wrong = list(self._mistakes())
        if wrong:
            self.batch.steps.clear()
            mistakes = {"object": "list", "data": wrong}
            self.batch.become(status="failed", failed_at=self.call.store.now, errors=mistakes)
            return
        self.batch.become(status="in_progress", in_progress_at=self.call.store.now)
        self.batch.fields["request_counts"]["total"] = len(self._lines())

    def _lines(self) -> list[bytes]:
        return [line for line in self.source.split(b"\n") if line.strip()]

    def _mistakes(self) -> list[dict[str, Any]]:
        wrong: list[dict[str, Any]] = []
        known: set[str] = set()
        lines = self._lines()
        if not lines or len(lines) > _MOST_REQUESTS:
            message = f"the file has {len(lines)} requests, and a batch has from 1 to {_MOST_REQUESTS}."
            wrong.append({"code": "empty_file" if not lines else "too_many_requests", "message": message})
        for number, line in enumerate(lines[:_MOST_REQUESTS], start=1):
            code, message = self._mistake(line, known)
            if code:
                wrong.append({"code": code, "message": message, "line": number})
        return wrong

    def _mistake(self, line: bytes, known: set[str]) -> tuple[str, str]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return "invalid_json_line", "This line is not parseable as valid JSON."
        match row:
            case {"custom_id": str() as name, "method": "POST", "url": str() as url, "body": dict()}:
                if url != self.batch.fields["endpoint"]:
                    return "mismatched_url", f"The URL '{url}' is not the batch's endpoint."
                if name in known:
                    return "duplicate_custom_id", f"The custom_id '{name}' is that of an earlier request."
                known.add(name)
                return "", ""
            case _:
                return "invalid_request", "A request has a custom_id, the method POST, a url and a body."

    def _answer(self) -> None:
        """Asks the fake each of the requests. An answer with an error goes to the other file."""
        done: dict[bool, list[bytes]] = {True: [], False: []}
        for number, line in enumerate(self._lines()):
            row = json.loads(line)
            status, body = self._ask(row)
            own = identifier("batch_req_", seed_of(self.batch.id, number))
            response = {"status_code": status, "request_id": own, "body": body}
            written = {"id": own, "custom_id": row["custom_id"], "response": response, "error": None}
            done[status == 200].append(encode_json(written))
        counts = self.batch.fields["request_counts"]
        counts.update(completed=len(done[True]), failed=len(done[False]))
        self.batch.become(status="finalizing", finalizing_at=self.call.store.now)
        for good, name in ((True, "output_file_id"), (False, "error_file_id")):
            if done[good]:
                self.batch.become(**{name: self._write(done[good], name)})

    def _ask(self, row: dict[str, Any]) -> tuple[int, Any]:
        own = self.call.request
        request = FakeRequest("POST", row["url"], "", own.headers, encode_json(row["body"]), own.server_url)
        if self.call.api is None or row["body"].get("stream"):
            return 400, errors.wrong_value("stream", "a batch has no streams.").body()
        response = self.call.api(request)
        content = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        return response.status, json.loads(content)

    def _write(self, lines: list[bytes], name: str) -> str:
        content = b"".join(line + b"\n" for line in lines)
        lasts = self.batch.fields.get("output_expires_after") or {}
        filename = f"{self.batch.id}_{name.partition('_')[0]}.jsonl"
        return files.store_file(self.call, filename, content, "batch_output", lasts.get("seconds")).id

    def _complete(self) -> None:
        self.batch.become(status="completed", completed_at=self.call.store.now)


ENDPOINTS: EndpointTable = {
    _BATCHES: {"POST": create_batch},
    f"{_BATCHES}/{{batch_id}}/cancel": {"POST": cancel_batch},
}
