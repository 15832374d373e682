"""The tool `execution`: run an operation, list runs, see the record of one, end one."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from mcp_types import CallToolResult

from host.core.names import Reference, looks_like_oci
from host.core.strict_json import Json, parse_object
from host.errors import Forbidden, HostError, InputError, NotFound
from host.oci.reference import OciReference
from host.runtime.host import Catalyst
from host.runtime.workspace import Workspace
from host.server.http_errors import status_of
from host.server.mcp import results
from host.server.mcp.operation_tools import with_attachments
from host.server.mcp.run_tool import run_tool
from host.server.mcp.tool import BuiltIn, ToolCall, parameters, text
from host.service.catalog import Catalog, check_model, operations_of
from host.service.dispatch import Dispatch, OperationRequest
from host.store.audit_log.records import Record, RunSummary, run, runs

MOST_LISTED: Final = 200
_DESCRIPTION = """\
Run an operation of a catalyst in a sandbox of its own, or look at such runs.

run: `reference` says which catalyst, `input` is what it takes, like {"operation": "models.list", "params": {}}. The \
answer is {"status", "data"} or {"status", "error"}, with the `execution_id` of the run.
list: your latest runs, and whether they go on. logs: the record of the run `run`. cancel: end the run `run`."""
_REFERENCE: Final[dict[str, Json]] = {
    "description": "Of run: the catalyst, like c:local.openai or c:local.openai:0.1.0; without a version, the latest",
    "oneOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                "registry": text("An installed catalyst, like catalyst:local.openai:0.1.0"),
                "local": text("The same, like c:local.openai"),
                "oci": text("Where it was pulled from, like oci://registry.example/name:0.1.0"),
            },
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
        },
    ],
}
_PARAMETERS: Final = parameters(
    action={"enum": ["run", "list", "logs", "cancel"], "description": "What to do"},
    reference=_REFERENCE,
    input={
        "type": ["object", "string"],
        "description": "Of run: what the catalyst takes; most take an operation",
        "examples": [{"operation": "models.list", "params": {}}],
    },
    type={"enum": ["catalyst"], "description": "Of run: what the reference names"},
    run=text("Of logs and cancel: the execution_id of a run", minLength=1, maxLength=200),
    limit={"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "description": "Of list: how many at most"},
)


class Execution:
    """`only` narrows to some catalysts."""

    def __init__(
        self, catalog: Catalog, runner: Dispatch, workspace: Workspace, only: Collection[Reference] = ()
    ) -> None:
        self._catalog = catalog
        self._runner = runner
        self._workspace = workspace
        self._only = only

    def tool(self) -> BuiltIn:
        return BuiltIn(
            name="execution",
            description=_DESCRIPTION,
            parameters=_PARAMETERS,
            scopes=("run", "runs"),
            call=self,
        )

    async def __call__(self, call: ToolCall) -> CallToolResult:
        match call.arguments["action"]:
            case "run":
                return await self._run(call)
            case "list":
                return await self._list(call)
            case "logs":
                return await self._logs(call)
        return await self._cancel(call)

    async def _run(self, call: ToolCall) -> CallToolResult:
        call.principal.require("run")
        try:
            given = _input(call.arguments.get("input"))
            catalyst = await self._catalyst(call)
            ask = self._asked(call, catalyst, given)
            done = await run_tool(self._runner, call, ask)
        except Forbidden:
            raise  # which goes on record
        except HostError as error:
            return results.of_error(error, status_of(error))
        return results.of_execution(done, catalyst.reference, catalyst.operation(ask.operation))

    async def _catalyst(self, call: ToolCall) -> Catalyst:
        named = _reference(call.arguments.get("reference"))
        reference = await self._pulled(call, named) if isinstance(named, OciReference) else named
        if reference.type != "catalyst":
            raise InputError(f"{reference} is no catalyst", field="reference")
        there = call.view.component(reference).reference
        call.principal.require_catalyst(there)
        if self._only and not {there, there.any_version} & set(self._only):
            raise NotFound(f"there is no {reference} here", field="reference")
        catalyst = await self._catalog.catalyst(call.view, reference)
        call.principal.require_catalyst(
            Reference.parse(catalyst.reference)
        )  # which may be newer than what was looked up
        return catalyst

    async def _pulled(self, call: ToolCall, named: OciReference) -> Reference:
        """What came from there already; to fetch it now is for whoever manages. Raises HostError."""
        known = await self._catalog.off_loop(lambda: self._workspace.components.from_source(str(named)))
        if known is not None:
            return known.reference
        if not call.principal.may("manage"):
            raise NotFound(
                f"nothing was pulled from {named} yet",
                field="reference.oci",
                hint=f"the operator does: host pull {named}",
            )
        return (await self._catalog.installed(str(named))).reference

    def _asked(self, call: ToolCall, catalyst: Catalyst, given: dict[str, Json]) -> OperationRequest:
        """Raises Forbidden, InputError."""
        schema = catalyst.manifest.schemas.get("input", True) if catalyst.manifest else True
        known: dict[str, Any] = {"request": call.request, "via": "mcp", "large": call.large}
        if not _is_operation(given, schema):
            more = check_model(call.principal, call.view, None, given, schema)
            return OperationRequest(call.principal, catalyst, "", {}, more=more, **known)
        envelope = _Envelope.read(given)
        spec = catalyst.operation(envelope.operation)
        if spec is None and not catalyst.operations:
            spec = operations_of(call.view.component(Reference.parse(catalyst.reference))).get(envelope.operation)
        params = check_model(call.principal, call.view, spec, envelope.params)
        stream = envelope.stream
        if spec is not None and spec.stream and params.get("stream") is True:  # where OpenAI's API has it
            del params["stream"]
            stream = True
        lifted, attachments = with_attachments(spec, params)
        more = {name: value for name, value in given.items() if name not in ("operation", "params", "stream")}
        return OperationRequest(
            call.principal, catalyst, envelope.operation, lifted, stream, attachments, more=more, **known
        )

    async def _list(self, call: ToolCall) -> CallToolResult:
        call.principal.require("runs")
        key = None if call.principal.may("manage") else call.principal.id
        limit = int(call.arguments.get("limit", 20))
        found = await self._catalog.off_loop(lambda: runs(self._workspace.database, limit=limit, key=key))
        now = time.time()
        return results.of_json({"runs": [_summary(one, now) for one in found]})

    async def _logs(self, call: ToolCall) -> CallToolResult:
        call.principal.require("runs")
        summary, records = await self._own(call)
        return results.of_json({"run": _summary(summary, time.time()), "records": [_record(one) for one in records]})

    async def _cancel(self, call: ToolCall) -> CallToolResult:
        """Here at once; in another process as soon as it looks."""
        call.principal.require("run")
        summary, _ = await self._own(call)
        goes_on = summary.running(time.time())
        if goes_on:
            self._runner.cancel([summary.id])
            await self._catalog.off_loop(lambda: self._workspace.cancellations.ask(summary.id))
        return results.of_json({"execution_id": summary.id, "cancelled": goes_on, "outcome": summary.outcome})

    async def _own(self, call: ToolCall) -> tuple[RunSummary, list[Record]]:
        """The run that is named, if it is his: of one of somebody else's he is told what he is told of none. Raises
        NotFound."""
        ident = call.arguments.get("run")
        if not isinstance(ident, str):
            raise InputError("run is missing: which one?", field="run", hint="its execution_id; action list has them")
        none = NotFound(f"there is no run {ident[:80]!r} of yours", field="run", hint="action list has them")
        try:
            summary, records = await self._catalog.off_loop(lambda: run(self._workspace.database, ident))
        except InputError:
            raise none from None
        if summary is None or summary.id != ident:
            raise none
        if summary.key != call.principal.id and not call.principal.may("manage"):
            raise none
        return summary, records


@dataclass(frozen=True, slots=True)
class _Envelope:
    operation: str
    params: dict[str, Json]
    stream: bool

    @classmethod
    def read(cls, given: dict[str, Json]) -> _Envelope:
        """Raises InputError."""
        params, stream = given.get("params", {}), given.get("stream", False)
        if not isinstance(params, dict):
            raise InputError("input.params is not an object", field="input.params")
        if not isinstance(stream, bool):
            raise InputError("input.stream is neither true nor false", field="input.stream")
        return cls(str(given["operation"]), params, stream)


def _is_operation(given: dict[str, Json], schema: Json) -> bool:
    """Whether `given` is the operation envelope: not where the catalyst's schema has an `operation` of its own kind,
    without `params`. Raises InputError."""
    if "operation" not in given:
        return False
    if not isinstance(given["operation"], str):
        raise InputError("input.operation is not a string", field="input.operation")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return "params" in given or not isinstance(properties, dict) or "params" in properties


def _input(given: Json) -> dict[str, Json]:
    if given is None:
        raise InputError(
            "input is missing", field="input", hint='what the catalyst takes, like {"operation": "models.list"}'
        )
    if isinstance(given, dict):
        return given
    try:
        return parse_object(given, "input")
    except InputError as error:
        raise InputError(error.message, field="input") from None


def _reference(given: Json) -> Reference | OciReference:
    """Raises InputError, which names the field."""
    if given is None:
        hint = 'like {"registry": "catalyst:local.openai:0.1.0"}'
        raise InputError("reference is missing: which catalyst?", field="reference", hint=hint)
    kind, named = ("", given) if isinstance(given, str) else next(iter(given.items()))
    field = f"reference.{kind}" if kind else "reference"
    try:
        if kind == "oci" or (not kind and looks_like_oci(named)):
            return OciReference.parse(named)
        return Reference.parse(named)
    except InputError as error:
        raise InputError(f"{field}: {error.message}", field=field, hint=error.hint) from None


def _summary(one: RunSummary, now: float) -> dict[str, Json]:
    return {
        "execution_id": one.id,
        "reference": one.reference,
        "operation": one.caller.get("operation"),
        "started_at": one.started_at,
        "duration_s": one.duration_s,
        "running": one.running(now),
        "outcome": one.outcome,
        "requests": one.requests,
        "denied": one.denied,
        "key": one.caller.get("name"),
    }


def _record(one: Record) -> dict[str, Json]:
    return {
        name: value for name, value in one.as_dict().items() if name in ("at", "kind", "decision", "rule", "detail")
    }
