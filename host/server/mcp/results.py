"""A run's result, or an error, as the result of a tool: for the model that reads it, and for the program around it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from math import ceil
from typing import Any, Final

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    TextContent,
)

from host.core.strict_json import Json, clean_text, foreign_text, write_json
from host.errors import HostError, LimitExceeded, OperationFailed, TooLarge
from host.openai.messages import whole
from host.server import http_errors
from host.server.asgi import JSON
from host.server.mcp.run_tool import MOST_BYTES, ToolRun
from host.service import views

RUN: Final = "catalyst-host/run"
"""In a result's `_meta`: the id of the run, for the tool `execution`."""


def of_json(
    value: Mapping[str, Json], *, failed: bool = False, more: list[ContentBlock] | None = None
) -> CallToolResult:
    """An object, as structured content and as text. Raises TooLarge."""
    text = TextContent(text=_bounded(write_json(value)))
    return CallToolResult(content=[text, *(more or [])], structured_content=dict(value), is_error=failed)


def named(run: str) -> dict[str, Json]:
    """The id of a run as results have it: `run`, as `execution` takes it, and `execution_id`, its first name."""
    return {"run": run, "execution_id": run}


def of_operation(done: ToolRun) -> CallToolResult:
    """The result of an operation's own tool: its data alone. Raises TooLarge."""
    result, resolved = done.result, done.resolved
    if not result.ok:
        return of_json({**result.as_dict(), **named(done.run)}, failed=True)
    body, media_type = whole(result, resolved.spec)
    if len(body) > MOST_BYTES:
        raise _too_large(len(body))
    structured: Json = None
    block: ContentBlock
    if media_type == JSON or result.document is not None:
        unread = result.brief is not None and result.data == {"raw": foreign_text(body)}  # strict readers refuse it
        structured = result.data if isinstance(result.data, dict) and not unread else None
        text = resolved.dialect.text_of_document(structured) if done.events else ""
        block = TextContent(text=text or clean_text(foreign_text(body)))
    elif media_type.startswith("text/"):
        block = TextContent(text=body.decode("utf-8", "replace"))
    else:
        block = binary(body, media_type, done.run)
    return CallToolResult(content=[block], structured_content=structured, _meta={RUN: done.run})


def of_execution(done: ToolRun) -> CallToolResult:
    """The contract's envelope, with the facts of the run. Bytes stand beside it where they are the whole answer, and in
    base64 inside where they are a part of it. Raises TooLarge."""
    result = done.result
    shown = result.as_dict()
    more: list[ContentBlock] = []
    if result.ok and result.attachments:
        match result.data:
            case {"$attachment": str(ident)} if ident in result.attachments:
                body, media_type = whole(result, done.resolved.spec)
                if len(body) > MOST_BYTES:
                    raise _too_large(len(body))
                more.append(binary(body, media_type, done.run))
                shown["data"] = {"content_type": media_type, "size": len(body)}
            case _:
                shown["data"] = views.with_bytes(result.data, result)
    facts = {**named(done.run), "reference": done.catalyst, "duration_s": round(result.execution.duration_s, 6)}
    return of_json({**shown, **facts}, failed=not result.ok, more=more)


def of_error(error: HostError, status: int | None = None) -> CallToolResult:
    """With `status`, as the contract's envelope."""
    shown: dict[str, Json] = {} if status is None else {"status": status}
    if isinstance(error, OperationFailed):
        shown |= {"error": error.result.error}
    else:
        shown |= {"error": facts_of(error)}
    if error.execution is not None:
        shown |= named(error.execution.id)
    return of_json(shown, failed=True)


def facts_of(error: HostError) -> dict[str, Any]:
    """An error as callers of tools see it, with what they can do about it."""
    shown = http_errors.shown_outside(error)
    if isinstance(error, LimitExceeded):
        again = max(1, ceil(error.retry_after_s))
        return {**shown, "retry_after_s": again, "hint": f"try again in {again} s"}
    if error.blame == "guest" and error.execution is not None:
        shown["hint"] = "the tool execution, action logs, has the run's record"
    return shown


def binary(body: bytes, media_type: str, run: str) -> ContentBlock:
    """Audio and images as such; other bytes as an embedded resource."""
    data = base64.b64encode(body).decode("ascii")
    if media_type.startswith("audio/"):
        return AudioContent(data=data, mime_type=media_type)
    if media_type.startswith("image/"):
        return ImageContent(data=data, mime_type=media_type)
    at = f"catalyst-host://runs/{run}/answer"
    return EmbeddedResource(resource=BlobResourceContents(uri=at, mime_type=media_type, blob=data))


def _bounded(text: str) -> str:
    if len(text) > MOST_BYTES:
        raise _too_large(len(text))
    return text


def _too_large(size: int) -> TooLarge:
    return TooLarge(
        f"the result has {size} bytes, and a tool's has at most {MOST_BYTES}",
        hint="ask for less at once",
    )
