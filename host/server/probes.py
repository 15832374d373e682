"""Whether it lives, whether it can serve, and what it has counted: for whatever keeps it running."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from host.errors import HostError
from host.server import metrics
from host.server.asgi import state
from host.server.auth import principal_of
from host.server.metrics import Metrics
from host.server.served import Served
from host.server.settings import ServerSettings


class Probes:
    def __init__(self, served: Served, counted: Metrics, settings: ServerSettings) -> None:
        self._served = served
        self._metrics = counted
        self._settings = settings

    def routes(self) -> list[Route]:
        return [
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/metrics", self.metrics),
        ]

    async def health(self, request: Request) -> Response:
        """The process answers."""
        state(request.scope)["route"] = "GET /health"
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """What is kept is as the operator left it, and the catalysts that models are routed to can be loaded. Anybody
        may ask, so a no has a code and no words."""
        state(request.scope)["route"] = "GET /ready"
        try:
            view = await self._served.current()
            for reference in view.routing.references:
                await self._served.catalyst(view, reference)
        except HostError as error:
            return JSONResponse({"status": "unavailable", "code": error.code}, 503)
        return JSONResponse({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        state(request.scope)["route"] = "GET /metrics"
        view = await self._served.current()
        principal = principal_of(request.scope, view.keys, self._settings)
        principal.require("metrics")
        exposed = await self._served.off_loop(self._metrics.exposed)
        return Response(exposed, headers={"content-type": metrics.CONTENT_TYPE})
