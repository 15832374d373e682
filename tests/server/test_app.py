"""The server as an application: mounted in another service, and counting where others count."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from host.core.quantities import Quota
from host.runtime.workspace import Workspace
from host.server import ServerSettings, create_app
from host.store.audit_log.records import runs
from tests.cli.conftest import Upstream
from tests.server.conftest import OPENAI, Server
from tests.server.openai.test_gateway import CHAT, EVENT, STREAM_HEAD, Client
from tests.server.test_keys import Holder
from tests.service.limits.redis import running_redis


@pytest.fixture
def mounted(workspace: Workspace, state_dir: Path) -> Iterator[Server]:
    application = create_app(state_dir=state_dir, workspace=workspace)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        async with application.alive():
            yield

    async def own(request: Any) -> PlainTextResponse:
        return PlainTextResponse("the service's own")

    service: Any = Starlette(routes=[Route("/", own), Mount("/ai", app=application)], lifespan=lifespan)
    service.catalog, service.workspace = application.catalog, workspace
    with closing(Server(service)) as server:
        yield server
    application.close()


@pytest.mark.usefixtures("patient_probes")
def test_another_service_has_it_below_a_path_of_its_own(mounted: Server) -> None:
    assert mounted.get("/").text == "the service's own"
    assert mounted.get("/ai/ready").json() == {"status": "ready"}
    with openai.OpenAI(base_url=f"{mounted.url}/ai/v1", api_key="any", max_retries=0) as client:
        assert client.chat.completions.create(model="gpt-4o-mini", messages=CHAT["messages"]).choices
        assert "gpt-4o-mini" in [one.id for one in client.models.list()]
    listed = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    tools = mounted.post("/ai/mcp", json=listed).json()["result"]["tools"]
    assert "openai_chat_completions_create" in [tool["name"] for tool in tools]
    assert "<title>" in mounted.get("/ai/").text


def test_what_is_nowhere_is_404(server: Server) -> None:
    answer = server.get("/nothing/here")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found"


def test_servers_that_count_in_redis_count_together(serving: Callable[..., Server], workspace: Workspace) -> None:
    with running_redis() as redis:
        servers = [serving(ServerSettings(limits_url=redis.url)) for _ in range(2)]
        _, text = workspace.api_keys.create(name="ci", type="secret", request_budget=Quota.parse("3/1d"))
        holders = [Holder(server, text).known() for server in servers]
        assert [holders[n % 2].chat().status_code for n in range(4)] == [200, 200, 200, 429]
    assert holders[0].chat().status_code == 503  # Redis has gone: nobody knows what was spent, so nothing runs


def test_runs_that_go_on_end_with_the_server_and_are_on_record(
    workspace: Workspace, serving: Callable[..., Server]
) -> None:
    with closing(Upstream()) as upstream:
        workspace.policies.set(OPENAI, "upstreams", {"https://api.openai.com": upstream.url})
        server = serving()
        server._server.config.timeout_graceful_shutdown = 1
        with closing(Client(server, {**CHAT, "stream": True})) as client:
            upstream.send(STREAM_HEAD + EVENT % b"one")
            client.read_until(b'"one"')
            server.stop()
        assert runs(workspace.database, limit=1)[0].outcome == "cancelled"
        with pytest.raises(httpx2.TransportError):
            server.get("/health")
