"""One run for a tool; it has ended when the tool returns. A caller that asked for progress hears of it meanwhile.

Where the input asks for a stream they hear of its events, which are gathered, and else how long the run has gone on.
The answer is the same as without.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio

from host.core.operation import Result, strict_data
from host.core.strict_json import Json, parse_json
from host.errors import InputError, OperationFailed, TooLarge
from host.runtime.threads import aside
from host.server.http_errors import note_failure
from host.server.mcp.tool import ToolCall
from host.service.dispatch import Dispatch, Running
from host.service.request import Resolved

MOST_BYTES = 16 * 1024 * 1024  # of a result, and of the events that one is made of
_EVERY_S = 2.0  # how often a caller hears that its run goes on


@dataclass(frozen=True, slots=True)
class ToolRun:
    """A run that ended with `result`. `run` is its id, `catalyst` the reference of the catalyst that ran."""

    run: str
    catalyst: str
    resolved: Resolved
    result: Result
    events: Sequence[Json] = ()


async def run_tool(dispatch: Dispatch, call: ToolCall, resolved: Resolved) -> ToolRun:
    """Raises HostError. Where the task is cancelled the run is, too, and it has ended when this returns."""
    running = await dispatch.start(resolved, call.view)
    async with _held(running), _reported(call, resolved):
        context = call.context
        context.run, context.catalyst, context.operation = running.id, running.catalyst.reference, resolved.operation
        events: list[Json] = []
        try:
            async for some in _events(running):
                events += some
                if call.report is not None and resolved.stream:
                    await call.report(running.events, "".join(map(resolved.dialect.text_of_event, some)))
        except OperationFailed:
            pass  # the result has the status, too
        result = await running.result()
        context.run = running.id  # another one where the upstream was asked once more
        if not result.ok:
            note_failure(context, result)
        if result.brief is not None:  # a long document is parsed here, and not where it is first looked at
            result = replace(result, data=await aside(strict_data, result))
    result = _with_events(result, resolved, events) if resolved.stream else result
    return ToolRun(running.id, running.catalyst.reference, resolved, result, events)


async def _events(running: Running) -> AsyncIterator[list[Json]]:
    """The events as they come, some at a time. Raises TooLarge, HostError."""
    size = 0
    while texts := await running.texts():
        size += sum(map(len, texts))
        if size > MOST_BYTES:
            raise TooLarge(f"the run's events are more than {MOST_BYTES} bytes")
        yield [_event(text) for text in texts]


@asynccontextmanager
async def _held(running: Running) -> AsyncIterator[None]:
    """At its end the run has ended, even where the caller has gone: nothing of it is left behind."""
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await running.__aexit__(None, None, None)


@asynccontextmanager
async def _reported(call: ToolCall, resolved: Resolved) -> AsyncIterator[None]:
    """Meanwhile the caller hears how long a run without events has gone on."""
    if call.report is None or resolved.stream:
        yield
        return
    told, began = call.report, time.monotonic()
    await told(0, f"{resolved.operation or 'the run'} has begun")

    async def tell_on() -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            seconds = int(time.monotonic() - began)
            await told(seconds, f"it has run for {seconds} s")

    telling = asyncio.create_task(tell_on())
    try:
        yield
    finally:
        telling.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(telling, return_exceptions=True)  # a caller that has gone ends the run elsewhere


def _with_events(result: Result, resolved: Resolved, events: Sequence[Json]) -> Result:
    """The result with its events in it: the sandbox gathers only events that it cannot hand out. A document that came
    in place of events is the result."""
    if not result.ok or result.document is not None:
        return result
    data = result.data
    if not isinstance(data, dict) or resolved.dialect.events_of(data) or not (events or "chunks" in data):
        return result
    return replace(result, data=resolved.dialect.gathered(data, events), document=None)


def _event(text: str) -> Json:
    try:
        return parse_json(text, "the event")
    except InputError:
        return {"raw": text}
