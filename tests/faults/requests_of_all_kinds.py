"""A program: a server that gets one request of each kind, and says what was imported for them. `python -m
tests.faults.requests_of_all_kinds STATE`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from host.server import Application
from tests.asgi import ask

BOUNDARY = "x1x2x3"
FORM = (
    f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="a.mp3"\r\n'
    f"content-type: audio/mpeg\r\n\r\nabc\r\n--{BOUNDARY}--\r\n"
).encode()
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
CALL = {
    "jsonrpc": "2.0", "id": 2, "method": "tools/call",
    "params": {"name": "openai_chat_completions_create", "arguments": CHAT},
}  # fmt: skip
LARGE = {**CHAT, "messages": [{"role": "user", "content": "x" * 100_000}]}
KINDS: list[tuple[str, str, Any]] = [
    ("GET", "/health", None),
    ("GET", "/ready", None),
    ("GET", "/metrics", None),
    ("GET", "/", None),
    ("GET", "/console/api/overview", None),
    ("GET", "/nothing", None),
    ("GET", "/v1/models", None),
    ("POST", "/v1/chat/completions", CHAT),
    ("POST", "/v1/chat/completions", {**CHAT, "stream": True}),
    ("POST", "/v1/chat/completions", {**CHAT, "temperature": "hot"}),
    ("POST", "/v1/chat/completions", {**CHAT, "n": [1]}),
    ("POST", "/v1/chat/completions", {"model": "gpt-4o-mini"}),
    ("POST", "/v1/chat/completions", LARGE),
    ("POST", "/v1/chat/completions", b"{"),
    ("POST", "/v1/embeddings", {"model": "text-embedding-3-small", "input": "x"}),
    ("POST", "/v1/responses", {"model": "gpt-4o-mini", "input": "x"}),
    ("POST", "/v1/audio/transcriptions", FORM),
    ("POST", "/v1/images/generations", {"model": "gpt-image-1", "prompt": "x"}),
    ("POST", "/mcp", LIST),
    ("POST", "/mcp", CALL),
]


async def status_of(application: Application, method: str, path: str, body: Any) -> int:
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    kind = f"multipart/form-data; boundary={BOUNDARY}" if body is FORM else "application/json"
    return (await ask(application, method, path, content, kind))[0]


async def main(state: str) -> None:
    application = Application(state_dir=state)
    async with application.alive():
        before = set(sys.modules)
        answers = [(path, await status_of(application, method, path, body)) for method, path, body in KINDS]
        print(json.dumps({"answers": answers, "imported": sorted(set(sys.modules) - before)}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
