"""Parameters to begin with: an example of the manifest's, or what its schema requires, with a value of the right kind.

A manifest is somebody else's, so its schema may be anything: what cannot be made out is null, and it ends.

What is kept, as the console's page has it: JSON, in which everything is that a person may want to look at.
"""

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
from host.core.strict_json import Json
from host.policy.explain import list_permissions
from host.runtime.host import Catalyst
from host.service.catalog import operations_of
from host.store.access.api_keys import ApiKey
from host.store.access.usage import Used
from host.store.audit_log.records import Record, RunSummary
from host.store.components import Component

_DEPTH: Final = 8
_VALUES: Final = 200
_EMPTY: Final[Mapping[str, Json]] = {
    "string": "",
    "integer": 0,
    "number": 0,
    "boolean": False,
    "array": [],
    "object": {},
}


def starting(manifest: Manifest | None, spec: OperationSpec) -> Mapping[str, Json]:
    """For the operation `spec` of the catalyst with this manifest."""
    names = {spec.name, *spec.aliases}
    for example in manifest.examples if manifest else ():
        given = example.get("input")
        if isinstance(given, dict) and given.get("operation") in names and isinstance(given.get("params"), dict):
            params: dict[str, Json] = given["params"]
            return params
    made = _Maker(spec.params).value(spec.params, _DEPTH)
    return made if isinstance(made, dict) else dict.fromkeys(spec.in_path, "")


class _Maker:
    """Of values for the schemas below `root`: so many, and no more."""

    def __init__(self, root: Json) -> None:
        self._root = root
        self._left = _VALUES

    def value(self, schema: Json, depth: int) -> Json:
        self._left -= 1
        schema = self._referred(schema)
        if not isinstance(schema, dict) or not depth or self._left < 0:
            return None
        if "const" in schema:
            return schema["const"]
        for name in ("examples", "enum"):
            if isinstance(some := schema.get(name), list) and some:
                return some[0]
        if "default" in schema:
            return schema["default"]
        for name in ("anyOf", "oneOf", "allOf"):
            if isinstance(some := schema.get(name), list) and some and "type" not in schema:
                return self.value(some[0], depth - 1)
        kinds = schema.get("type")
        kind = next((one for one in kinds if one != "null"), "null") if isinstance(kinds, list) else kinds
        if kind == "object" or (kind is None and "properties" in schema):
            return self._object(schema, depth)
        if kind == "array" and schema.get("items"):
            return [self.value(schema["items"], depth - 1)]
        return _EMPTY.get(kind) if isinstance(kind, str) else None

    def _object(self, schema: Mapping[str, Json], depth: int) -> dict[str, Json]:
        properties, required = schema.get("properties"), schema.get("required")
        if not isinstance(properties, dict) or not isinstance(required, list):
            return {}
        names = [name for name in required[:_VALUES] if isinstance(name, str)]
        return {name: self.value(properties.get(name), depth - 1) for name in names if self._left > 0}

    def _referred(self, schema: Json) -> Json:
        """`{"$ref": "#/$defs/name"}` is the schema of that name: those that lead on to others are followed a while."""
        for _ in range(_DEPTH):
            name = schema.get("$ref") if isinstance(schema, dict) else None
            if not isinstance(name, str):
                return schema
            schema = self._root if name.startswith("#/") else None
            for step in name[2:].split("/"):
                schema = schema.get(step) if isinstance(schema, dict) else None
        return None


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
        "authority": [asdict(row) for row in list_permissions(catalyst.imports, catalyst.grant)],
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
