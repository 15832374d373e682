"""The tool `execution`: run an operation, list runs, show the records of a run, cancel one."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final, TypeVar

from mcp_types import CallToolResult

from host.core.names import Reference, looks_like_oci
from host.core.operation import with_written_params
from host.core.strict_json import Json, WrittenObject
from host.errors import Forbidden, HostError, InputError, NotFound
from host.oci.reference import OciReference
from host.runtime.workspace import Workspace
from host.server.asgi import SMALL_BYTES
from host.server.http_errors import note_failure, status_of
from host.server.mcp import results
from host.server.mcp.run_tool import run_tool
from host.server.mcp.tool import BuiltIn, ToolCall, in_turn, off_loop, parameters, text
from host.service import views
from host.service.catalog import Catalog
from host.service.dispatch import Dispatch
from host.service.principal import MAX_VALUES, weight
from host.service.request import OperationRequest
from host.service.views import picked
from host.store.audit_log.records import Record, RunSummary, failure, run, runs

T = TypeVar("T")

MOST_LISTED: Final = 200
_DESCRIPTION = """\
Run an operation of a catalyst in a sandbox of its own, or look at such runs.

run: `reference` says which catalyst, `input` is what it takes, like {"operation": "models.list", "params": {}}. The \
answer is {"status", "data"} or {"status", "error"}, with the id of the run in `run`.
list: your latest runs, and whether they go on. logs: the record of the run `run`, and why it failed, with what \
it logged. cancel: end the run `run`."""
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
        "description": 'Of run: what the catalyst takes; most take an operation, like {"operation": "models.list"}',
    },
    type={"enum": ["catalyst"], "description": "Of run: what the reference names"},
    run=text("Of logs and cancel: the id of a run, as run and list answer it", minLength=1, maxLength=200),
    execution_id=text("The same as run", minLength=1, maxLength=200),
    limit={"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "description": "Of list: how many at most"},
)


class ExecutionTool:
    """`only` narrows to some catalysts; empty: all."""

    def __init__(
        self, catalog: Catalog, dispatch: Dispatch, workspace: Workspace, only: Collection[Reference] = ()
    ) -> None:
        self._catalog = catalog
        self._dispatch = dispatch
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
            request = await self._request(call)
            resolved = await off_loop(call, lambda: self._dispatch.resolve(request, call.view))
            if not self._offers(resolved.component.reference):
                raise NotFound(f"there is no {resolved.reference} here", field="reference")
            done = await run_tool(self._dispatch, call, resolved)
        except Forbidden:
            raise  # it is recorded
        except HostError as error:
            note_failure(call.context, error)
            return results.of_error(error, status_of(error))
        return results.of_execution(done)

    async def _request(self, call: ToolCall) -> OperationRequest:
        """Raises HostError."""
        text, arguments = call.arguments.get("input"), call.arguments
        if isinstance(text, str):
            await _reserve(call, text)
        elif isinstance(text, dict) and isinstance(arguments, WrittenObject):
            text = arguments.part("input")
        given = await off_loop(call, lambda: _input(text))
        named = _reference(call.arguments.get("reference"))
        reference = await self._pulled(call, named) if isinstance(named, OciReference) else named
        if reference.type != "catalyst":
            raise InputError(f"{reference} is no catalyst", field="reference")
        return OperationRequest(
            principal=call.principal,
            target=reference,
            more=given,
            inline_files=True,
            request_id=call.context.request_id,
            via="mcp",
            large=call.context.large,
            admitted=call.context.admitted,
        )

    def _offers(self, reference: Reference) -> bool:
        return not self._only or bool({reference, reference.any_version} & set(self._only))

    async def _pulled(self, call: ToolCall, named: OciReference) -> Reference:
        """The component that came from there earlier; only a caller who may manage pulls one now. Raises HostError."""
        known = await self._read(call, lambda: self._workspace.components.from_source(str(named)))
        if known is not None:
            return known.reference
        if not call.principal.may("manage"):
            raise NotFound(
                f"nothing was pulled from {named} yet",
                field="reference.oci",
                hint=f"the operator does: host pull {named}",
            )
        return (await self._catalog.installed(str(named))).reference

    async def _list(self, call: ToolCall) -> CallToolResult:
        call.principal.require("runs")
        key = None if call.principal.may("manage") else call.principal.id
        limit = int(call.arguments.get("limit", 20))
        found = await self._read(call, lambda: runs(self._workspace.database, limit=limit, key=key))
        now = time.time()
        return results.of_json({"runs": [_summary(one, now) for one in found]})

    async def _logs(self, call: ToolCall) -> CallToolResult:
        call.principal.require("runs")
        summary, records = await self._own(call)
        return results.of_json(
            {
                "run": _summary(summary, time.time()),
                "failure": failure(records),
                "records": [_record(one, call) for one in records if one.kind != "run.failed"],
            }
        )

    async def _cancel(self, call: ToolCall) -> CallToolResult:
        """Cancels a run of this process at once, one of another process as soon as that looks."""
        call.principal.require("run")
        summary, _ = await self._own(call)
        goes_on = summary.running(time.time())
        if goes_on:
            self._dispatch.cancel([summary.id])
            await self._read(call, lambda: self._workspace.cancellations.ask(summary.id))
        return results.of_json({**results.named(summary.id), "cancelled": goes_on, "outcome": summary.outcome})

    async def _read(self, call: ToolCall, work: Callable[[], T]) -> T:
        return await in_turn(call, lambda seconds: self._catalog.off_loop(work, seconds))

    async def _own(self, call: ToolCall) -> tuple[RunSummary, list[Record]]:
        """The run that the arguments name, with its records. Raises NotFound for unknown runs and for other keys' runs
        alike."""
        ident = call.arguments.get("run", call.arguments.get("execution_id"))
        if not isinstance(ident, str):
            raise InputError("run is missing: which one?", field="run", hint="its id; action list has them")
        none = NotFound(f"there is no run {ident[:80]!r} of yours", field="run", hint="action list has them")
        try:
            summary, records = await self._read(call, lambda: run(self._workspace.database, ident))
        except InputError:
            raise none from None
        if summary is None or summary.id != ident:
            raise none
        if summary.key != call.principal.id and not call.principal.may("manage"):
            raise none
        return summary, records


async def _reserve(call: ToolCall, text: str) -> None:
    """Hold the memory of the values in an input that is given as text: the body's own weight shows only some of them.
    Raises LimitExceeded, Busy."""
    admitted = call.context.admitted
    if admitted is not None and len(text) > SMALL_BYTES:
        admitted.reserve(admitted.bytes + await off_loop(call, lambda: weight(text)))


def _input(given: Json) -> dict[str, Json]:
    if given is None:
        raise InputError(
            "input is missing", field="input", hint='what the catalyst takes, like {"operation": "models.list"}'
        )
    if isinstance(given, dict):
        return given
    try:
        return with_written_params(WrittenObject.read(given, "input", most=MAX_VALUES))
    except InputError as error:
        raise InputError(error.message, field="input", hint=error.hint) from None


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


_RUN: Final = (
    *("reference", "operation", "model", "started_at", "duration_s", "running", "outcome", "requests", "denied"),
    *("input_tokens", "output_tokens"),
)
_RECORD: Final = ("at", "kind", "decision", "rule", "detail")


def _summary(one: RunSummary, now: float) -> dict[str, Json]:
    return {**results.named(one.id), **picked(views.of_run(one, now), *_RUN), "key": one.caller.get("name")}


def _record(one: Record, call: ToolCall) -> dict[str, Json]:
    """Where the operator sends requests is for callers who manage."""
    shown = picked(views.of_record(one), *_RECORD)
    if call.principal.may("manage") or "sent_to" not in one.detail:
        return shown
    detail = {name: value for name, value in one.detail.items() if name not in ("sent_to", "instead_of", "value_of")}
    return {**shown, "detail": detail, "rule": "failed" if one.decision is None else one.rule}
