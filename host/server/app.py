"""The composition root of the server: its parts, the paths that they answer, and how all of it begins and ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount, Route, Router, WebSocketRoute

from host.errors import HostError, NotFound, Unauthenticated
from host.runtime.host import Host
from host.runtime.workspace import Workspace
from host.server.asgi import App, Receive, Scope, Send
from host.server.console import Console
from host.server.http_errors import shown_outside
from host.server.mcp import McpEndpoint
from host.server.middleware import Middleware
from host.server.observability.metrics import Metrics, Probes
from host.server.observability.readiness import Readiness
from host.server.observability.tracing import open_tracing
from host.server.openai import BatchingGateway, Gateway
from host.server.openai.gateway import CATALYST, RUN, TRIED
from host.server.realtime import RealtimeEndpoint
from host.server.settings import ServerSettings
from host.service.accounts import Observer
from host.service.batches.hosted import HostedBatches
from host.service.batches.hosted_work import Hosting
from host.service.catalog import Catalog
from host.service.dispatch import Dispatch, Running, UsageRecorder
from host.service.health import HealthBook
from host.service.limits import open_limiter
from host.service.principal import Admission
from host.service.stored_objects import StoredObjects

_log = logging.getLogger("host.server")

# What a request may need and no other module imports at once: an import opens files, and there may be none left.
_NEEDED = (
    "difflib", "host.core.json_pieces", "host.oci.client", "host.oci.transfer", "httpx2", "jsonschema_rs", "mimetypes",
)  # fmt: skip
_CANCELLED_EVERY_S = 0.5  # how often it looks for runs that another process was asked to cancel
_CORS_MAX_AGE_S = 600


_PLACES = "OpenAI's API is at /v1, which a base_url ends in; there are /mcp, /health, /ready, /metrics and / as well"


class Application:
    """The server of one process, as an ASGI application. It begins when it is made, and ends with its lifespan, or by
    `close`. Raises StateError, InputError."""

    def __init__(
        self,
        settings: ServerSettings | None = None,
        *,
        state_dir: str | Path | None = None,
        workspace: Workspace | None = None,
        host: Host | None = None,
    ) -> None:
        self.settings = settings or ServerSettings()
        for name in _NEEDED:
            import_module(name)
        with ExitStack() as stack:
            self.workspace = workspace or stack.enter_context(Workspace.open(state_dir))
            limiter = open_limiter(self.settings.limits_url, self.workspace)
            stack.callback(limiter.close)
            self.host = host or stack.enter_context(
                Host(state_dir=state_dir, workspace=self.workspace, limiter=limiter, max_runs=self.settings.max_runs)
            )
            self.metrics = Metrics()
            self.tracing = open_tracing()
            observers: list[Observer[Running]] = [self.metrics]
            if self.tracing is not None:
                stack.callback(self.tracing.close)
                observers.append(self.tracing)
            self.catalog = Catalog(self.host, self.workspace, self.settings.routing)
            stack.callback(self.catalog.close)
            usage = UsageRecorder(self.workspace.usage)
            stack.callback(usage.close)
            self.limiter = limiter
            admission = Admission(self.settings.max_bodies_bytes, crowded=self.host.is_crowded)
            stack.callback(admission.close)
            self.health = HealthBook() if self.settings.health_checks_s else None
            if self.health is not None:
                observers.append(self.health)
            objects = StoredObjects(self.catalog, self.workspace.made_objects, self.settings.routing, observers)
            self.dispatch = Dispatch(self.catalog, limiter, usage, observers, self.settings.budgets, admission, objects)
            self._batches = self._hosted_batches()
            self._own = stack.pop_all()
        self.ending: Callable[[], object] = lambda: None
        """Called when it has taken its last request, before it ends runs and closes what it has."""
        self._mcp = McpEndpoint(self.catalog, self.dispatch, self.workspace, self.settings)
        self.readiness = Readiness(self.catalog, self.workspace, self.limiter)
        self._middleware = self._composed()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._middleware(scope, receive, send)

    def stop(self) -> None:
        """Take no more requests: answer new ones with 503, `/ready` too. Those under way go on."""
        self._middleware.stopping = True

    def close(self) -> None:
        """End runs, write usage, and release everything. Any number of times."""
        self._own.close()

    def _composed(self) -> Middleware:
        probes = Probes(self.catalog, self.metrics, self.settings, self.readiness, self.health)
        routes = [
            WebSocketRoute("/v1/{path:path}", RealtimeEndpoint(self.catalog, self.dispatch, self.settings)),
            Mount("/v1", app=self._gateway()),
            *(Route(path, self._mcp) for path in ("/mcp", "/mcp/")),  # a redirect would lose the body of a POST
            *probes.routes(),
            *Console(self.catalog, self.dispatch, self.workspace, self.settings, self.health).routes(),
        ]
        inner: App = Router(routes=routes, default=_nothing_here, redirect_slashes=False)
        if self.settings.cors_origins:
            inner = CORSMiddleware(
                inner,
                allow_origins=self.settings.cors_origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["*"],
                expose_headers=["x-request-id", CATALYST, RUN, TRIED],
                max_age=_CORS_MAX_AGE_S,
            )
        return Middleware(inner, self.settings, self.metrics, self.tracing)

    def _hosted_batches(self) -> HostedBatches | None:
        if self.settings.batches is None:
            return None
        store, told = self.workspace.batches, shown_outside
        return HostedBatches(Hosting(self.catalog, self.dispatch, self.limiter, store, self.settings.batches, told))

    def _gateway(self) -> Gateway:
        if self._batches is None:
            return Gateway(self.catalog, self.dispatch, self.settings)
        return BatchingGateway(self.catalog, self.dispatch, self.settings, self._batches)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """The lifespan protocol (asgi.readthedocs.io, version 2.0)."""
        await receive()
        with suppress(asyncio.CancelledError):  # the server ends at once
            async with self.alive():
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """While it serves, over HTTP or not. It loads the catalysts of the routing first, cancels runs that another
        process was asked to cancel, and closes everything at the end."""
        watching = asyncio.gather(
            self._watch(), self._check_health(), *([self._batches.work()] if self._batches else [])
        )
        try:
            await self._warm_up()
            yield
        finally:
            self.ending()
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await self._mcp.aclose()
            await self.dispatch.end()
            self.close()

    async def _warm_up(self) -> None:
        """Load the catalysts of the routing, so that no request waits for that. A failure is logged; each request that
        needs the catalyst gets it as its answer."""
        try:
            view = await self.catalog.current()
        except HostError as error:
            _log.warning("not ready: %s", error)
            return
        for reference in view.routing.references:
            try:
                await self.catalog.catalyst(view, reference)
            except HostError as error:
                _log.warning("not ready: %s", error)

    async def _check_health(self) -> None:
        """Ask the upstreams of the routing now and then."""
        while self.health is not None and (pause_s := self.settings.health_checks_s):
            try:
                self.metrics.checked(await self.health.check(self.catalog))
            except HostError as error:
                _log.warning("health cannot be checked: %s", error.code)
            await asyncio.sleep(pause_s)

    async def _watch(self) -> None:
        """Cancel the runs that another process, or another machine, was asked to cancel, and those of keys and sessions
        that have ended."""
        while True:
            await asyncio.sleep(_CANCELLED_EVERY_S)
            try:
                if runs := tuple(self.dispatch.running.values()):
                    await self._end_stale(runs)
            except HostError as error:
                _log.warning("cancelled runs cannot be looked up: %s", error.code)

    async def _end_stale(self, runs: Sequence[Running]) -> None:
        asked = partial(self.workspace.cancellations.among, [one.id for one in runs])
        self.dispatch.cancel(await self.catalog.off_loop(asked))
        keys, now = (await self.catalog.current()).keys, time.time()
        in_sessions: dict[tuple[str, str, float], list[Running]] = defaultdict(list)
        for one in runs:
            principal = one.resolved.request.principal
            try:
                principal.require_still(keys, now)
            except Unauthenticated as error:
                one.cancel(error)
            if (shown := principal.proof) is not None and shown.session:
                in_sessions[shown.session, principal.id, shown.began_at].append(one)
        ended = await self.catalog.off_loop(partial(self.workspace.cancellations.ended_sessions, list(in_sessions)))
        for (session, _, _), of_session in in_sessions.items():
            for one in of_session if session in ended else ():
                one.cancel(Unauthenticated("the session has ended", hint="sign in again"))


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    del receive, send
    raise NotFound(f"there is nothing at {scope['path'][:200]!r}", hint=_PLACES)


def create_app(
    settings: ServerSettings | None = None,
    *,
    state_dir: str | Path | None = None,
    workspace: Workspace | None = None,
    host: Host | None = None,
) -> Application:
    """The server as an ASGI application. `settings` None: the only installed catalyst answers for every model, and only
    names of the loopback interface are served. `workspace` and `host` are used and not closed; without them they are
    opened, in `state_dir` where that is given. Raises InputError, StateError."""
    return Application(settings, state_dir=state_dir, workspace=workspace, host=host)
