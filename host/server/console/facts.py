"""What is kept, as the console's page has it: JSON, in which everything is that a person may want to look at."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from host.envelope import Result
from host.jsontext import Json
from host.manifest import Manifest
from host.operations import OperationSpec
from host.policy.authority import authorities
from host.registry.component import Component
from host.runtime import Catalyst
from host.server.console.starting import starting
from host.server.served import operations_of
from host.state.api_keys import ApiKey
from host.state.records import Record
from host.state.runs import RunSummary
from host.state.usage import Used

_SHOWN_BYTES: Final = 4 * 1024 * 1024  # of one attachment: larger ones have their size alone
Facts = dict[str, Json]


def of_run(run: RunSummary, now: float) -> Facts:
    """`state` is `running`, `ok`, `failed`, or `lost`: it did not end, and its time is over."""
    if run.running(now):
        state = "running"
    elif run.status is None and run.error is None:
        state = "lost"
    else:
        state = "failed" if run.failed else "ok"
    return {
        "seq": run.seq,
        "id": run.id,
        "reference": run.reference,
        "digest": run.digest,
        "state": state,
        "outcome": run.outcome,
        "started_at": run.started_at,
        "duration_s": run.duration_s,
        "requests": run.requests,
        "denied": run.denied,
        "caller": dict(run.caller),
    }


def of_record(record: Record) -> Facts:
    found = record.as_dict()
    del found["run"], found["mac"]
    return found


def of_component(component: Component) -> Facts:
    manifest = component.manifest
    return {
        "reference": str(component.reference),
        "subject": str(component.reference.any_version),
        "version": component.reference.version,
        "digest": str(component.digest),
        "size": component.size,
        "description": component.description,
        "license": manifest.license if manifest else "",
        "homepage": manifest.homepage if manifest else "",
        "source": component.source,
        "registered_at": component.registered_at,
        "approved": component.approved,
        "imports": list(component.imports),
        "operations": [_listed(one) for one in operations_of(component).values()],
    }


def of_authority(catalyst: Catalyst) -> Facts:
    """What `host inspect` shows of it too."""
    return {
        "authority": [asdict(row) for row in authorities(catalyst.imports, catalyst.grant)],
        "limits": asdict(catalyst.grant.limits),
        "methods": sorted(catalyst.grant.methods),
    }


def of_operation(manifest: Manifest | None, spec: OperationSpec) -> Facts:
    return {**_listed(spec), "schema": spec.params, "starting": dict(starting(manifest, spec))}


def _listed(spec: OperationSpec) -> Facts:
    names = ("name", "description", "method", "path", "request", "response", "stream")
    return {name: getattr(spec, name) for name in names}


def of_key(key: ApiKey, now: float) -> Facts:
    return {**key.as_dict(), "state": key.state(now)}


def of_usage(rows: Iterable[Used], days: int) -> Facts:
    """The rows of the last `days` days, of which `days` has all, the newest last."""
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
    """With what is attached to it, in base64 where it is not too large for that."""
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
