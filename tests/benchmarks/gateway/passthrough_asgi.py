"""As little as a gateway in Python can do: ASGI without a framework, and a bare connection to the upstream behind it.
`python -m tests.benchmarks.gateway.passthrough_asgi UPSTREAM_PORT PORT`"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvicorn

from tests.benchmarks.gateway.client import Connection

KEY = b"sk-bench-0123456789abcdef"
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: upstream\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"


class PassThrough:
    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Connection] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        message = HEAD % (KEY, len(body), body)
        connection = self._idle.pop() if self._idle else await Connection.open(self._port)
        if b'"stream"' in body:
            await self._relay(connection, message, send)
        else:
            answer = await connection.ask(message)
            length = b"%d" % len(answer.body)
            headers = [(b"content-type", b"application/json"), (b"content-length", length)]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})
        self._idle.append(connection)

    async def _relay(self, connection: Connection, message: bytes, send: Any) -> None:
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        asking = asyncio.ensure_future(connection.ask(message, pieces.put_nowait))
        asking.add_done_callback(lambda _: pieces.put_nowait(None))
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while (piece := await pieces.get()) is not None:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        await asking


if __name__ == "__main__":
    uvicorn.run(
        PassThrough(int(sys.argv[1])), port=int(sys.argv[2]), log_level="error", access_log=False, lifespan="off"
    )
