"""A request to the server without a socket."""

from __future__ import annotations

import asyncio
from typing import Any

from host.server import Application


async def ask(
    application: Application, method: str, path: str, body: bytes, content_type: str = "application/json"
) -> tuple[int, bytes]:
    """Status and body of the answer, by ASGI (HTTP 2.5), from the loopback interface."""
    sent: list[dict[str, Any]] = []
    given = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        if (message := next(given, None)) is None:
            await asyncio.Event().wait()  # the client stays
        assert message is not None
        return message

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", content_type.encode()), (b"accept", b"*/*")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await application(scope, receive, send)
    return int(sent[0]["status"]), b"".join(message.get("body", b"") for message in sent[1:])
