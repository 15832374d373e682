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
from host.core.operation import Result, strict_data
from host.core.strict_json import Json
from host.runtime.catalyst import Catalyst
from host.service import views
from host.service.operations import operations_of
from host.service.views import Facts, picked
from host.store.access.usage import Used
from host.store.audit_log.records import Record, RunSummary
from host.store.components import Component

_SHOWN_BYTES: Final = 4 * 1024 * 1024  # of one attachment: larger ones have their size alone
_COMPONENT: Final = (
    *("reference", "subject", "version", "digest", "size", "description", "license", "homepage"),
    *("source", "registered_at", "approved", "serves", "pinned", "imports"),
)
_RUN: Final = (
    *("seq", "id", "reference", "digest", "state", "outcome", "started_at", "duration_s"),
    *("requests", "denied", "caller", "operation", "model", "input_tokens", "output_tokens"),
)
_RECORD: Final = ("seq", "at", "kind", "decision", "rule", "detail")
_OPERATION: Final = (
    *("name", "description", "method", "path", "request", "response"),
    *("stream", "websocket", "secret"),
)


def of_run(run: RunSummary, now: float) -> Facts:
    return picked(views.of_run(run, now), *_RUN)


def of_record(record: Record) -> Facts:
    return picked(views.of_record(record), *_RECORD)


def of_component(component: Component) -> Facts:
    """`example` is the operation of the manifest's first example: one to begin with."""
    operations = [_listed(one) for one in operations_of(component).values()]
    inputs = [one.get("input") for one in (component.manifest.examples if component.manifest else ())]
    example = next((str(one["operation"]) for one in inputs if isinstance(one, dict) and "operation" in one), "")
    return {**picked(views.of_component(component), *_COMPONENT), "operations": operations, "example": example}


def of_catalyst(catalyst: Catalyst) -> Facts:
    return picked(views.of_catalyst(catalyst), "authority", "isolation", "limits", "methods")


def of_operation(manifest: Manifest | None, spec: OperationSpec) -> Facts:
    """With its schema, and parameters to begin with."""
    return {**_listed(spec), "schema": spec.params, "starting": dict(starting(manifest, spec))}


def _listed(spec: OperationSpec) -> Facts:
    return picked(views.of_operation(spec, whole=False), *_OPERATION)


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
    shown = {"status": result.status, "data": strict_data(result)} if result.ok else result.as_dict()
    return {**shown, "attachments": attached}


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
    """Parameters to begin with, for the operation `spec` of the catalyst with this manifest: an example of the
    manifest, or each field that the schema requires, with a value that fits. The schema is a stranger's and may be
    anything: the work is bounded, and a value that cannot be worked out is null."""
    names = {spec.name, *spec.aliases}
    for example in manifest.examples if manifest else ():
        given = example.get("input")
        if isinstance(given, dict) and given.get("operation") in names and isinstance(given.get("params"), dict):
            params: dict[str, Json] = given["params"]
            return params
    made = _Maker(spec.params).value(spec.params, _DEPTH)
    return made if isinstance(made, dict) else dict.fromkeys(spec.in_path, "")


class _Maker:
    """Makes values for the schemas below `root`, a bounded number of them."""

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
        """The schema that a `{"$ref": "#/$defs/name"}` names, also through several of them."""
        for _ in range(_DEPTH):
            name = schema.get("$ref") if isinstance(schema, dict) else None
            if not isinstance(name, str):
                return schema
            schema = self._root if name.startswith("#/") else None
            for step in name[2:].split("/"):
                schema = schema.get(step) if isinstance(schema, dict) else None
        return None
