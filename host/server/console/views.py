"""What the console shows of components, runs and keys: fields of `host.service.views`; and usage and results."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from host.component.manifest import Manifest
from host.component.operations import OperationSpec
from host.core.operation import Result
from host.runtime.catalyst import Catalyst
from host.server.console.starting import starting
from host.service import views
from host.service.operations import operations_of
from host.service.views import Facts, picked
from host.store.access.usage import Used
from host.store.audit_log.records import Record, RunSummary
from host.store.components import Component

_SHOWN_BYTES: Final = 4 * 1024 * 1024  # of one attachment: larger ones have their size alone
_COMPONENT: Final = (
    *("reference", "subject", "version", "digest", "size", "description", "license", "homepage"),
    *("source", "registered_at", "approved", "imports"),
)
_RUN: Final = (
    *("seq", "id", "reference", "digest", "state", "outcome", "started_at", "duration_s"),
    *("requests", "denied", "caller"),
)
_RECORD: Final = ("seq", "at", "kind", "decision", "rule", "detail")
_OPERATION: Final = ("name", "description", "method", "path", "request", "response", "stream")


def of_run(run: RunSummary, now: float) -> Facts:
    return picked(views.of_run(run, now), *_RUN)


def of_record(record: Record) -> Facts:
    return picked(views.of_record(record), *_RECORD)


def of_component(component: Component) -> Facts:
    operations = [_listed(one) for one in operations_of(component).values()]
    return {**picked(views.of_component(component), *_COMPONENT), "operations": operations}


def of_catalyst(catalyst: Catalyst) -> Facts:
    return picked(views.of_catalyst(catalyst), "authority", "limits", "methods")


def of_operation(manifest: Manifest | None, spec: OperationSpec) -> Facts:
    """With its schema, and parameters to begin with."""
    return {**_listed(spec), "schema": spec.params, "starting": dict(starting(manifest, spec))}


def _listed(spec: OperationSpec) -> Facts:
    return picked(views.of_operation(spec), *_OPERATION)


def of_usage(rows: Iterable[Used], days: int) -> Facts:
    """The rows of the last `days` days, and the names of all these days, the newest last."""
    return {"days": list(_days(days)), "rows": [asdict(one) for one in rows]}


def today(rows: Iterable[Used]) -> Facts:
    total = {"requests": 0, "failed": 0, "tokens": 0}
    for row in rows:
        total["requests"] += row.requests
        total["failed"] += row.failed
        total["tokens"] += row.input_tokens + row.output_tokens
    return total


def first_day(days: int) -> str:
    return next(_days(days))


def _days(count: int) -> Iterator[str]:
    last = datetime.fromtimestamp(time.time(), UTC).date()
    return ((last - timedelta(days=back)).isoformat() for back in reversed(range(count)))


def of_result(result: Result) -> Mapping[str, Any]:
    """With its attachments, in base64 unless they are too large for that."""
    attached = {
        ident: {
            "size": len(one.data),
            "content_type": one.content_type,
            "filename": one.filename,
            "data": base64.b64encode(one.data).decode() if len(one.data) <= _SHOWN_BYTES else None,
        }
        for ident, one in result.attachments.items()
    }
    return {**result.as_dict(), "attachments": attached}
