"""One run for a tool: begun, its events gathered and told of as they come, and ended whatever becomes of its caller."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio

from host.core.operation import Result
from host.core.strict_json import Json, parse_json
from host.errors import InputError, OperationFailed, TooLarge
from host.server.mcp.tool import ToolCall
from host.service.dispatch import Dispatch, OperationRequest, Running

MOST_BYTES = 16 * 1024 * 1024  # of a result, and of the events that one is made of
_TEXT_EVENTS = ("response.output_text.delta", "transcript.text.delta")


@dataclass(frozen=True, slots=True)
class ToolRun:
    """A run that ended with `result`. `events` are JSON texts."""

    run: str
    result: Result
    events: Sequence[str] = ()


async def run_tool(runner: Dispatch, call: ToolCall, ask: OperationRequest) -> ToolRun:
    """Raises HostError. Where the task is cancelled, so is the run, and it has ended when this returns."""
    running = await runner.start(ask)
    async with _held(running):
        call.known.update({"run": running.id, "catalyst": ask.catalyst.reference, "operation": ask.operation})
        events: list[str] = []
        size = 0
        try:
            while texts := await running.texts():
                size += sum(map(len, texts))
                if size > MOST_BYTES:
                    raise TooLarge(f"the run's events are more than {MOST_BYTES} bytes")
                events += texts
                if call.report is not None:
                    await call.report(running.events, "".join(map(_text_of, texts)))
            result = await running.result()
        except OperationFailed:
            result = await running.result()
    return ToolRun(running.id, _with_events(result, events) if ask.stream else result, events)


@asynccontextmanager
async def _held(running: Running) -> AsyncIterator[None]:
    """The run's end is waited for, also where the caller has gone: so that nothing of it is left behind."""
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await running.__aexit__(None, None, None)


def _with_events(result: Result, events: Sequence[str]) -> Result:
    """A stream's result as the sandbox would have gathered it, which does not keep events that it could hand out."""
    data = result.data
    if not result.ok or not isinstance(data, dict) or data.get("chunks"):
        return result
    chunks = [_event(text) for text in events]
    combined = data.get("combined_text") or "".join(map(_text_of, events))
    return replace(result, data={**data, "chunks": chunks, "combined_text": combined}, document=None)


def _event(text: str) -> Json:
    try:
        return parse_json(text, "the event")
    except InputError:
        return {"raw": text}


def _text_of(event: str) -> str:
    """What it adds to the text, of OpenAI's events: a choice's delta, or that of a text event."""
    document = _event(event)
    if not isinstance(document, dict):
        return ""
    if document.get("type") in _TEXT_EVENTS:
        return _text(document.get("delta"))
    choices = document.get("choices")
    return "".join(map(_of_choice, choices)) if isinstance(choices, list) else ""


def _of_choice(choice: Json) -> str:
    if not isinstance(choice, dict):
        return ""
    delta = choice.get("delta")
    return _text(delta.get("content") if isinstance(delta, dict) else choice.get("text"))


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""
