"""Every operation of every catalyst as a tool of its own: for whoever may use it, with the parameters that it takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mcp_types import CallToolResult, Tool, ToolAnnotations

from host.jsontext import Json
from host.names import Reference
from host.operations import OperationSpec
from host.registry.component import Component, latest
from host.server.mcp import results
from host.server.mcp.naming import names
from host.server.mcp.performing import perform
from host.server.mcp.schemas import document_schema, input_schema, with_attachments
from host.server.mcp.tool import ToolCall
from host.server.models import check_model
from host.server.principal import Principal
from host.server.runner import Ask, Runner
from host.server.served import Served, View


@dataclass(frozen=True, slots=True)
class OperationTool:
    """`spec` is None for a catalyst that takes no operations: then the arguments are its whole input."""

    component: Component
    spec: OperationSpec | None
    shown: Tool

    @property
    def reference(self) -> Reference:
        """Without a version, which is the latest: it may not be older than one that was there before."""
        return self.component.reference.any_version


class Operations:
    """Those of one View. `only` narrows to some catalysts; `taken` are names that others have."""

    def __init__(self, view: View, taken: Collection[str], only: Collection[Reference] = ()) -> None:
        listed = list(_operations(view.components))
        named = names(
            ((component.reference.any_version, spec.name if spec else "") for component, spec in listed), taken
        )
        self._by_name: Mapping[str, OperationTool] = {
            name: OperationTool(component, spec, _shown(name, component, spec))
            for component, spec in listed
            if _among(component.reference, only)
            for name in [named[component.reference.any_version, spec.name if spec else ""]]
        }

    def find(self, name: str) -> OperationTool | None:
        return self._by_name.get(name)

    def of(self, principal: Principal) -> list[Tool]:
        """What he may use."""
        if not principal.may("run"):
            return []
        return [one.shown for one in self._by_name.values() if principal.may_use(one.component.reference)]


class OperationCalls:
    """Calls of such tools."""

    def __init__(self, served: Served, runner: Runner) -> None:
        self._served = served
        self._runner = runner

    async def __call__(self, tool: OperationTool, call: ToolCall) -> CallToolResult:
        """Raises HostError."""
        principal, spec = call.principal, tool.spec
        principal.require("run")
        principal.require_catalyst(tool.component.reference)
        given = check_model(principal, call.view, spec, call.arguments, _input(tool.component))
        catalyst = await self._served.catalyst(call.view, tool.reference)
        principal.require_catalyst(Reference.parse(catalyst.reference))  # which may be newer than what was looked up
        if spec is None:
            ask = Ask(principal, catalyst, "", {}, request=call.request, via="mcp", more=given, large=call.large)
        else:
            params, attachments = with_attachments(spec, given)
            params = {name: value for name, value in params.items() if not (spec.stream and name == "stream")}
            stream = spec.stream and call.report is not None
            ask = Ask(
                principal, catalyst, spec.name, params, stream, attachments, call.request, via="mcp", large=call.large
            )
        return results.of_operation(await perform(self._runner, call, ask), spec)


def _operations(components: Iterable[Component]) -> Iterator[tuple[Component, OperationSpec | None]]:
    """Of the latest version of each catalyst, where it is approved. One without operations stands for itself, where its
    manifest says what it takes; what takes operations and does not say which is for the tool `execution`."""
    subjects: dict[str, list[Component]] = {}
    for one in components:
        if one.reference.type == "catalyst":
            subjects.setdefault(one.reference.subject, []).append(one)
    for found in subjects.values():
        component = latest(found)
        if not component.approved or component.manifest is None:
            continue
        if component.manifest.operations:
            for spec in component.manifest.operations.values():
                yield component, spec
        elif (properties := _properties(_input(component))) is not None and "operation" not in properties:
            yield component, None


def _shown(name: str, component: Component, spec: OperationSpec | None) -> Tool:
    catalyst = component.reference.any_version
    if spec is None:
        schema = document_schema(_input(component))
        said = component.description or f"Runs {catalyst}"
        return Tool(name=name, description=said, input_schema=schema, annotations=ToolAnnotations(open_world_hint=True))
    hints = ToolAnnotations(
        read_only_hint=spec.method == "GET",
        destructive_hint=spec.method == "DELETE",
        idempotent_hint=spec.method in ("GET", "PUT", "DELETE"),
        open_world_hint=True,
    )
    return Tool(
        name=name,
        title=f"{component.reference.name}: {spec.name}",
        description=spec.description or f"The operation {spec.name} of {catalyst}",
        input_schema=input_schema(spec),
        annotations=hints,
    )


def _input(component: Component) -> Json:
    return component.manifest.schemas.get("input", True) if component.manifest else True


def _properties(schema: Any) -> Mapping[str, Json] | None:
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else None


def _among(reference: Reference, only: Collection[Reference]) -> bool:
    return not only or reference in only or reference.any_version in only
