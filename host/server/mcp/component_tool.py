"""The tool `component`: installed catalysts, and their permissions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from mcp_types import CallToolResult

from host.component.manifest import Manifest
from host.component.operations import OperationSpec
from host.core.names import Reference, looks_like_oci
from host.core.strict_json import Json
from host.errors import InputError, NotFound
from host.policy.explain import without_destination
from host.runtime.catalyst import Catalyst
from host.runtime.workspace import Installed, Workspace
from host.server.mcp import results
from host.server.mcp.tool import BuiltIn, ToolCall, in_turn, parameters, text
from host.service import views
from host.service.catalog import Catalog
from host.service.operations import MOST_LISTED, described, kinds_of, matching
from host.service.principal import Principal
from host.service.views import picked
from host.store.components import Component

_DESCRIPTION = """\
Find catalysts, and see what they can reach.

search: those with every word of `query` in their name, description, imports or secrets; without one, all.
inspect: what `reference` is, what it imports, and what it may do: its imports, as far as its manifest asks for that \
and the operator granted it; and its operations."""
_PARAMETERS: Final = parameters(
    action={"enum": ["search", "inspect"], "description": "What to do"},
    query=text("Of search: words", maxLength=500),
    reference=text("Of inspect: like c:local.openai or c:local.openai:0.1.0"),
    operation=text("Of inspect: the name of an operation, to see its parameters as well; or a pattern, like files.*"),
)


class ComponentTool:
    """`only` narrows to some catalysts; empty: all."""

    def __init__(self, catalog: Catalog, workspace: Workspace, only: Collection[Reference] = ()) -> None:
        self._catalog = catalog
        self._workspace = workspace
        self._only = only

    def tool(self) -> BuiltIn:
        return BuiltIn(
            name="component",
            description=_DESCRIPTION,
            parameters=_PARAMETERS,
            scopes=("components",),
            call=self,
            reads_only=True,
        )

    async def __call__(self, call: ToolCall) -> CallToolResult:
        call.principal.require("components")
        if call.arguments["action"] == "search":
            return await self._search(call)
        return await self._inspect(call)

    async def _search(self, call: ToolCall) -> CallToolResult:
        query = str(call.arguments.get("query", ""))
        found = await in_turn(
            call, lambda seconds: self._catalog.off_loop(lambda: self._workspace.components.search(query), seconds)
        )
        shown = [_listed(one) for one in found if self._may_see(call.principal, one.reference)]
        return results.of_json({"components": shown})

    async def _inspect(self, call: ToolCall) -> CallToolResult:
        if "reference" not in call.arguments:
            raise InputError("reference is missing: which component?", field="reference", hint="action search has them")
        reference = Reference.parse(str(call.arguments["reference"]))
        component = call.view.component(reference)
        if not self._may_see(call.principal, component.reference):
            call.principal.require_catalyst(component.reference)
            raise NotFound(f"there is no {reference} here", field="reference")
        installed, catalyst, versions = await in_turn(call, lambda _: self._read(call, component))
        operation = call.arguments.get("operation")
        facts = await self._catalog.off_loop(lambda: _inspected(installed, catalyst, operation))
        if not call.principal.may("manage"):  # where the operator sends requests is not for others
            facts["authority"] = [
                {**row, "granted": list(map(without_destination, row["granted"]))} for row in facts["authority"]
            ]
        seen = [one for one in versions if self._may_see(call.principal, one.reference)]
        facts["versions"] = list(dict.fromkeys(one.reference.version for one in seen))
        facts["waiting"] = [picked(views.of_component(one), "reference", "digest") for one in seen if not one.approved]
        source = component.source
        if looks_like_oci(source):  # a path is for this machine alone
            facts["source"] = source
        return results.of_json(facts)

    async def _read(self, call: ToolCall, component: Component) -> tuple[Installed, Catalyst, list[Component]]:
        """The component, its permissions, and all its versions."""
        installed = await self._catalog.installed(component.reference, approved=False)
        catalyst = call.view.loaded(component.reference) or await self._catalog.inspected(installed)
        named = component.reference.any_version
        return installed, catalyst, await self._catalog.off_loop(lambda: self._workspace.components.versions(named))

    def _may_see(self, principal: Principal, reference: Reference) -> bool:
        among = not self._only or bool({reference, reference.any_version} & set(self._only))
        return among and principal.may_use(reference)


_LISTED: Final = ("reference", "description", "approved", "serves", "digest", "imports")
_INSTALLED: Final = ("reference", "registered_at", "approved", "serves", "pinned", "signers")
_CATALYST: Final = ("digest", "size", "imports", "exports", "authority", "limits")
_MANIFEST: Final = ("id", "type", "version", "description", "license", "authors", "homepage", "source")
_MORE_OF_MANIFEST: Final = ("wasi", "domains", "secrets")
_OPERATION: Final = ("name", "description", "method", "path", "stream")


def _listed(component: Component) -> dict[str, Json]:
    operations = component.manifest.operations if component.manifest else {}
    return {**picked(views.of_component(component), *_LISTED), **_names(operations)}


def _names(operations: Mapping[str, OperationSpec]) -> dict[str, Json]:
    """Of many operations, how many of each kind there are."""
    if len(operations) > MOST_LISTED:
        return {"operation_kinds": dict(kinds_of(operations))}
    return {"operations": list(operations)}


def _inspected(installed: Installed, catalyst: Catalyst, operation: Json) -> dict[str, Any]:
    manifest = None if catalyst.manifest is None else _manifest(catalyst.manifest, operation)
    known = picked(views.of_installed(installed), *_INSTALLED)
    return {**known, **picked(views.of_catalyst(catalyst), *_CATALYST), "manifest": manifest}


def _manifest(manifest: Manifest, wanted: Json) -> dict[str, Any]:
    """Of the operations, only one that is `wanted` by its name has its parameters: they are long. Of many, those are
    listed that it is a pattern of. Raises NotFound."""
    facts, operations = views.of_manifest(manifest) or {}, manifest.operations
    shown = {**picked(facts, *_MANIFEST, *_MORE_OF_MANIFEST)}
    if wanted is None:
        many = len(operations) > MOST_LISTED
        return {**shown, **(_names(operations) if many else {"operations": list(map(_row, operations.values()))})}
    if any(char in str(wanted) for char in "*?["):
        return {**shown, "operations": list(map(_row, matching(operations, str(wanted))))}
    return {**shown, "operations": [_row(described(operations, str(wanted), "it"), whole=True)]}


def _row(spec: OperationSpec, *, whole: bool = False) -> dict[str, Json]:
    return picked(views.of_operation(spec, whole=whole), *_OPERATION, *(("params",) if whole else ()))
