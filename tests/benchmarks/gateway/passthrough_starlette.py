"""What one writes first: Starlette, and httpx2 behind it. Nothing is checked, kept, counted or limited.
`python -m tests.benchmarks.gateway.passthrough_starlette UPSTREAM_PORT PORT`"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

KEY = "sk-bench-0123456789abcdef"


def application(upstream: int) -> Starlette:
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    base = f"http://127.0.0.1:{upstream}"
    client = httpx2.AsyncClient(base_url=base, headers=headers, trust_env=False, timeout=60)

    async def chat(request: Request) -> Response:
        sent = client.build_request("POST", request.url.path, content=await request.body())
        answer = await client.send(sent, stream=True)
        kind = answer.headers["content-type"]
        if kind.startswith("text/event-stream"):
            return StreamingResponse(relayed(answer), answer.status_code, media_type=kind)
        return Response(await answer.aread(), answer.status_code, media_type=kind)

    async def relayed(answer: httpx2.Response) -> AsyncIterator[bytes]:
        try:
            async for piece in answer.aiter_raw():
                yield piece
        finally:
            await answer.aclose()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])], lifespan=lifespan)


if __name__ == "__main__":
    uvicorn.run(application(int(sys.argv[1])), port=int(sys.argv[2]), log_level="error", access_log=False)
