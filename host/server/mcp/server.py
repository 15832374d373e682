"""The SDK's server: lists the tools of a caller, and calls one."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
)

from host.core.names import Reference
from host.errors import Forbidden, HostError, InputError
from host.runtime.workspace import Workspace
from host.server.asgi import RequestContext, context_of
from host.server.http_errors import note_failure
from host.server.mcp import results
from host.server.mcp.component_tool import ComponentTool
from host.server.mcp.execution_tool import ExecutionTool
from host.server.mcp.management_tools import Management
from host.server.mcp.operation_tools import MOST_TOOLS, OperationCalls, Operations, OperationTool
from host.server.mcp.tool import BuiltIn, Report, ToolCall, off_loop
from host.server.mcp.tool_search import DOTTED, ToolSearch
from host.server.mcp.tool_search import NAME as SEARCH
from host.service.catalog import Catalog, View
from host.service.dispatch import Dispatch
from host.service.principal import Principal

NAME = "catalyst-host"
_INSTRUCTIONS = """\
Each tool named after a catalyst runs one of its operations in a sandbox of its own, which reaches only what the \
operator granted; a denial says what would allow it. `execution` runs any operation by name, and shows and ends runs; \
`component` finds catalysts and shows what they can reach; `tools_search`, where it is listed, finds further tools."""

_log = logging.getLogger(__name__)


class ToolServer:
    """One per process. `local` is the caller where there is no HTTP request: the user of this process. `only` narrows
    to some catalysts; empty: all. `listed` are the globs of `Operations`."""

    def __init__(
        self,
        catalog: Catalog,
        dispatch: Dispatch,
        workspace: Workspace,
        *,
        local: Principal | None = None,
        only: Collection[Reference] = (),
        listed: Sequence[str] = (),
    ) -> None:
        self._catalog = catalog
        self._dispatch = dispatch
        self._local = local
        self._only = only
        self._listed = listed
        own = [
            ExecutionTool(catalog, dispatch, workspace, only).tool(),
            ComponentTool(catalog, workspace, only).tool(),
            *Management(catalog, workspace).tools(),
        ]
        self._own = {one.name: one for one in own}
        self._search = ToolSearch(catalog, self._of).tool()
        self._calls = OperationCalls(catalog, dispatch)
        self._operations: tuple[View, Operations] | None = None
        self.server: Server[Any] = Server(
            NAME,
            version=version(NAME),
            title="Catalyst Host",
            instructions=_INSTRUCTIONS,
            on_list_tools=self._on_list,
            on_call_tool=self._on_call,
            get_tool_input_schema=_no_headers,
        )
        self.server.middleware.clear()  # the host has its own spans, around each request and each run

    async def _on_list(self, ctx: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
        del params
        principal, _ = self._asker(ctx)
        try:
            view = await self._catalog.current()
            listed = self._tools(view, principal)
            if not all(isinstance(one, BuiltIn) or one.is_read for one in listed):
                await self._catalog.off_loop(lambda: [one.shown for one in listed])
            return ListToolsResult(tools=[one.shown for one in listed])
        except HostError as error:
            shown = results.facts_of(error)
            raise MCPError(INTERNAL_ERROR, str(shown["message"]), shown) from None
        except Exception as error:
            _log.exception("the call failed")
            raise _failed() from error

    async def _on_call(self, ctx: Any, params: CallToolRequestParams) -> CallToolResult:
        principal, context = self._asker(ctx)
        try:
            view = await self._catalog.current()
            arguments = context.arguments or params.arguments or {}
            return await self._answered(params.name, ToolCall(view, principal, arguments, context, _report(ctx)))
        except Forbidden as error:
            note_failure(context, error)
            return results.of_error(await self._refused(context, error))
        except HostError as error:
            note_failure(context, error)
            return results.of_error(error)
        except MCPError:
            raise
        except Exception as error:
            _log.exception("the call failed")
            raise _failed() from error

    async def _answered(self, name: str, call: ToolCall) -> CallToolResult:
        """Raises HostError; MCPError for an unknown tool, and for arguments that do not fit it."""
        own = self._search if name in (SEARCH, DOTTED) else self._own.get(name)
        if own is not None:
            own.require(call.principal)
            await off_loop(call, partial(_check, own, call))
            return await own.call(call)
        tool = self._of(call.view).find(name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"there is no tool {name[:80]!r}", {"field": "name"})
        return await self._calls(tool, call)

    def _tools(self, view: View, principal: Principal) -> list[BuiltIn | OperationTool]:
        own = [one for one in self._own.values() if one.listed(principal)]
        operations, whole = self._of(view).listed(principal, MOST_TOOLS - len(own))
        return [*own, *operations] if whole else [*own, self._search, *operations]

    def _of(self, view: View) -> Operations:
        if self._operations is None or self._operations[0] is not view:
            self._operations = view, Operations(view, {*self._own, SEARCH}, self._only, self._listed)
        return self._operations[1]

    def _asker(self, ctx: Any) -> tuple[Principal, RequestContext]:
        if ctx.request is not None:
            context = context_of(ctx.request.scope)
        else:
            context = RequestContext(route="host mcp", principal=self._local)
        if context.principal is None:
            raise MCPError(INVALID_PARAMS, "the caller is unknown")  # neither a request nor a local user
        return context.principal, context

    async def _refused(self, context: RequestContext, error: Forbidden) -> HostError:
        ident, route = context.request_id, context.route
        try:
            return await self._dispatch.refused(error, context.principal, request_id=ident, route=route)
        except HostError as unwritten:
            _log.warning("a refusal could not be recorded: %s", unwritten.code)
            return error


def _check(tool: BuiltIn, call: ToolCall) -> None:
    try:
        tool.schema.check(dict(call.arguments))
    except InputError as error:
        raise MCPError(INVALID_PARAMS, error.message, {"field": error.field}) from None


def _report(ctx: Any) -> Report | None:
    """None where the caller gave no token for progress."""
    if ctx.meta is None or ctx.meta.get("progress_token") is None:
        return None

    async def report(events: int, text: str) -> None:
        await ctx.session.report_progress(events, message=text or None)

    return report


def _failed() -> MCPError:
    """For a fault of ours. Its words are for the log; the SDK would send them to the client."""
    return MCPError(INTERNAL_ERROR, "the server failed")


def _no_headers(name: str) -> None:
    """No parameter is repeated in a header (2026-07-28, `Mcp-Param-*`), so the SDK has none to compare."""
    del name
