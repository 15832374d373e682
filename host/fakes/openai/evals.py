"""Runs of evals (platform.openai.com/docs/api-reference/evals): a run grades each row of its data, and passes all of
them.

A run goes on by one step each time that somebody looks at it: queued, in_progress, completed.
"""

from __future__ import annotations

import json
from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import files, rest
from host.fakes.openai.call import ApiCall, EndpointTable
from host.fakes.openai.store import Stored

_EVAL = "/v1/evals/{eval_id}"
_RUNS = f"{_EVAL}/runs"
_ITEMS = f"{_RUNS}/{{run_id}}/output_items"
_COUNTS = ("total", "passed", "failed", "errored")


def create_run(call: ApiCall) -> FakeResponse:
    params = rest.body(call)
    evaluation = rest.found(call, _EVAL)
    rows = _rows(call, params.mapping("data_source"))
    counts = dict.fromkeys(_COUNTS, 0)
    report = f"https://platform.openai.com/evaluations/{evaluation.id}"
    more = {"object": "eval.run", "status": "queued", "result_counts": counts, "report_url": report}
    run = rest.make(call, _RUNS, {"name": "", "model": "gpt-4o", **params.all()}, **more)
    run.steps = [lambda: run.become(status="in_progress"), lambda: _grade(call, run, evaluation, rows)]
    return rest.answer(call, run.fields)


def _rows(call: ApiCall, source: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the data source: in the request, or in a JSONL file. Raises ApiError (404) for an unknown file."""
    match source.get("source"):
        case {"type": "file_content", "content": [*rows]}:
            return [row for row in rows if isinstance(row, dict)]
        case {"type": "file_id", "id": str() as name}:
            lines = files.file(call, name).content.splitlines()
            return [json.loads(line) for line in lines if line.strip()]
        case _:
            return []


def _grade(call: ApiCall, run: Stored, evaluation: Stored, rows: list[dict[str, Any]]) -> None:
    criteria = [str(one.get("name", "")) for one in evaluation.fields.get("testing_criteria", ())]
    call.path["run_id"] = run.id
    for number, row in enumerate(rows):
        item = row.get("item", row)
        results = [{"name": name, "passed": True, "score": 1.0} for name in criteria]
        shown = {"datasource_item": item, "datasource_item_id": number, "results": results, "status": "pass"}
        rest.make(call, _ITEMS, shown, object="eval.run.output_item", run_id=run.id)
    counts = {**dict.fromkeys(_COUNTS, 0), "total": len(rows), "passed": len(rows)}
    by_criterion = [{"testing_criteria": name, "passed": len(rows), "failed": 0} for name in criteria]
    run.become(status="completed", result_counts=counts, per_testing_criteria_results=by_criterion)


ENDPOINTS: EndpointTable = {_RUNS: {"POST": create_run}}
