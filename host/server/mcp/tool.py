"""What a tool is, and one call of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias, TypeVar

from mcp_types import CallToolResult, Tool, ToolAnnotations

from host.component.schema import InputSchema
from host.core.strict_json import Json
from host.core.waiting import ANSWER_S
from host.errors import Busy
from host.server.asgi import RequestContext
from host.server.mcp.tool_schemas import ToolSchema
from host.service.catalog import View
from host.service.principal import Principal
from host.store.access.api_keys import KeyScope

T = TypeVar("T")

Report: TypeAlias = Callable[[int, str], Awaitable[None]]
"""Reports progress to the caller: the number of events until now and the text of the latest ones, or seconds and words.
The number grows."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call. `report` is None where the caller did not ask for progress."""

    view: View
    principal: Principal
    arguments: Mapping[str, Json]
    context: RequestContext
    report: Report | None = None


async def off_loop(call: ToolCall, work: Callable[[], T]) -> T:
    """The result of `work`: off the event loop where the arguments are large."""
    admitted = call.context.admitted
    return work() if admitted is None or not call.context.large else await admitted.off_loop(work)


async def in_turn(call: ToolCall, work: Callable[[float], Awaitable[T]]) -> T:
    """The result of `work`, which reads the state or a component within so many seconds: one at a time for each key, so
    that threads are left for others. Raises what it raises, and Busy where the key's turn does not come."""
    admitted = call.context.admitted
    if admitted is None:
        return await work(ANSWER_S)
    until = time.monotonic() + ANSWER_S
    turn = admitted.account.turn
    try:
        await asyncio.wait_for(turn.acquire(), ANSWER_S)
    except TimeoutError:
        raise Busy("the key has too many calls that read the state", hint="wait for answers before the next") from None
    try:
        return await work(until - time.monotonic())
    finally:
        turn.release()


@dataclass(frozen=True)
class BuiltIn:
    """A tool of the host's own, for callers with one of `scopes`. `parameters` is its JSON Schema: `call` gets what
    fits it."""

    name: str
    description: str
    parameters: dict[str, Json]
    scopes: tuple[KeyScope, ...]
    call: Callable[[ToolCall], Awaitable[CallToolResult]] = field(repr=False)
    reads_only: bool = False

    def listed(self, principal: Principal) -> bool:
        return any(map(principal.may, self.scopes))

    def require(self, principal: Principal) -> None:
        """Raises Forbidden."""
        if not self.listed(principal):
            principal.require(self.scopes[0])

    @cached_property
    def shown(self) -> Tool:
        hints = ToolAnnotations(read_only_hint=self.reads_only, open_world_hint=False)
        shown = ToolSchema(self.parameters).shown
        return Tool(name=self.name, description=self.description, input_schema=shown, annotations=hints)

    @cached_property
    def schema(self) -> InputSchema:
        return InputSchema.compile(self.parameters, f"the tool {self.name}")


def parameters(required: tuple[str, ...] = ("action",), /, **properties: Json) -> dict[str, Json]:
    """The schema of an object with these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def text(description: str, **more: Json) -> dict[str, Json]:
    return {"type": "string", "description": description, **more}
