"""Views: one JSON-ready dictionary for each noun that people and programs see. A face picks the fields that it shows.

A view holds every field that any face shows, and no secret. A field has one name and one form in all faces.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from host.component.manifest import Manifest
from host.component.operations import OperationSpec
from host.core.wit import EXPORTS
from host.policy.explain import list_permissions

if TYPE_CHECKING:
    from host.core.operation import Result
    from host.core.strict_json import Json
    from host.runtime.catalyst import Catalyst
    from host.runtime.workspace import Installed
    from host.store.access.api_keys import ApiKey
    from host.store.audit_log.records import Record, RunSummary
    from host.store.components import Component

Facts: TypeAlias = dict[str, Any]


def picked(facts: Mapping[str, Any], *names: str) -> Facts:
    """These fields, in this order."""
    return {name: facts[name] for name in names}


def of_component(component: Component) -> Facts:
    """An installed component, without its manifest, which is long: see `of_manifest`."""
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
        "imports": list(component.imports),
        "source": component.source,
        "registered_at": component.registered_at,
        "approved": component.approved,
        "serves": component.serves,
        "pinned": component.pinned,
    }


def of_installed(installed: Installed) -> Facts:
    """A component that was verified, with the ids of the keys that signed it."""
    return {**of_component(installed.component), "signers": list(installed.signers)}


def of_manifest(manifest: Manifest | None, *, whole: bool = False) -> Facts | None:
    """The operations in it have their schemas only where it is asked for `whole`: they are long."""
    if manifest is None:
        return None
    facts = asdict(replace(manifest, operations={}, apart=None))
    del facts["apart"]
    operations = {name: of_operation(one, whole=whole) for name, one in manifest.operations.items()}
    return {**facts, "operations": operations}


_NOT_SHOWN = ("schema", "is_apart", "outside_body")  # the first is long, the others follow from the rest


def of_operation(spec: OperationSpec, *, whole: bool = True) -> Facts:
    """With the schema of its `params`, if `whole`."""
    facts = {one.name: getattr(spec, one.name) for one in fields(spec) if one.name not in _NOT_SHOWN}
    return {**facts, "params": spec.params} if whole else facts


def of_catalyst(catalyst: Catalyst) -> Facts:
    """A loaded catalyst: its imports and exports, its permissions and its limits."""
    return {
        "digest": str(catalyst.digest),
        "size": catalyst.size,
        "imports": list(catalyst.imports),
        "exports": list(EXPORTS),
        "authority": [asdict(row) for row in list_permissions(catalyst.imports, catalyst.grant)],
        "isolation": catalyst.grant.isolation,
        "limits": asdict(catalyst.grant.limits),
        "methods": sorted(catalyst.grant.methods),
    }


def of_run(run: RunSummary, now: float) -> Facts:
    """`state` is "running", "ok", "failed", or "lost": the run has no end, and its time is over."""
    if running := run.running(now):
        state = "running"
    elif run.status is None and run.error is None:
        state = "lost"
    else:
        state = "failed" if run.failed else "ok"
    asked = {"operation": run.operation, "model": run.model}
    return {
        **asdict(run), **asked, "caller": dict(run.caller), "outcome": run.outcome, "state": state, "running": running,
    }  # fmt: skip


def of_record(record: Record) -> Facts:
    """An entry of the audit log."""
    return record.as_dict()


def of_key(key: ApiKey, now: float) -> Facts:
    """An API key, without its text: that is shown once, when it is made."""
    return {**key.as_dict(), "state": key.state(now)}


def with_bytes(value: Json, result: Result) -> Json:
    """A part of the result's data, with the size and the base64 of each attachment that it mentions."""
    match value:
        case {"$attachment": str(ident), **more} if ident in result.attachments:
            held = result.attachments[ident]
            known = {"content_type": held.content_type, "size": len(held.data), **more}
            return {**known, "base64": base64.b64encode(held.data).decode("ascii")}
        case dict():
            return {key: with_bytes(inner, result) for key, inner in value.items()}
        case list():
            return [with_bytes(inner, result) for inner in value]
    return value
