"""Metrics for Prometheus (prometheus.io, text format 0.0.4 and OpenMetrics), and the probes `/health` and `/ready`.

Several workers count in files that they share (`environment.share_metrics`), and each shows the sums of all.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from host.core import environment
from host.errors import HostError
from host.server.asgi import context_of, principal_of
from host.server.observability.readiness import Readiness
from host.server.settings import ServerSettings
from host.service.accounts import Ended, Observer
from host.service.catalog import Catalog
from host.service.dispatch import Running
from host.service.health import Health, HealthBook

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics(Observer[Running]):
    """One per process. Labels have few values: an operation has its name only if a manifest lists it."""

    def __init__(self) -> None:
        own = CollectorRegistry()
        self._registry = own
        self._requests = Counter(
            "catalyst_host_requests", "Requests answered.", ("route", "method", "status"), registry=own
        )
        self._request_s = Histogram(
            "catalyst_host_request_seconds", "From the request to the end of its answer.", ("route",),
            registry=own, buckets=_SECONDS,
        )  # fmt: skip
        self._runs = Counter(
            "catalyst_host_runs", "Runs ended, each in a sandbox of its own.", ("catalyst", "operation", "outcome"),
            registry=own,
        )  # fmt: skip
        self._run_s = Histogram(
            "catalyst_host_run_seconds", "From a run's start to its end.", ("catalyst",), registry=own, buckets=_SECONDS
        )
        self._first_s = Histogram(
            "catalyst_host_first_event_seconds", "From a run's start to its first event.", ("catalyst",),
            registry=own, buckets=_SECONDS,
        )  # fmt: skip
        self._tokens = Counter(
            "catalyst_host_tokens", "Tokens, as the answers say.", ("catalyst", "direction"), registry=own
        )
        self._moved = Counter(
            "catalyst_host_moved", "Requests that an upstream did not serve, and that went on to the next target.",
            ("catalyst", "cause"), registry=own,
        )  # fmt: skip
        self._up = Gauge(
            "catalyst_host_upstream_up", "1 if the latest check of health found an upstream well, else 0.",
            ("catalyst",), registry=own, multiprocess_mode="livemin",
        )  # fmt: skip
        self._refused = Counter("catalyst_host_refused", "Requests refused, by reason.", ("reason",), registry=own)
        self._retries = Counter(
            "catalyst_host_retries", "Requests to upstreams that were sent again.", ("catalyst",), registry=own
        )
        self._upstream_moved = Counter(
            "catalyst_host_upstream_moved", "Upstreams of several that were passed over, or did not serve a request.",
            ("catalyst",), registry=own,
        )  # fmt: skip
        self._waited_s = Counter(
            "catalyst_host_waited_seconds", "Waits before requests: for repeats, for room, or as a catalyst asks.",
            ("catalyst",), registry=own,
        )  # fmt: skip
        self._circuits = Counter(
            "catalyst_host_circuit_changes", "Circuits of breakers that opened or closed.", ("catalyst", "to"),
            registry=own,
        )  # fmt: skip
        self._running = Gauge("catalyst_host_running", "Runs under way.", registry=own, multiprocess_mode="livesum")

    def answered(self, route: str, method: str, status: int, took_s: float) -> None:
        self._requests.labels(route, method, str(status)).inc()
        self._request_s.labels(route).observe(took_s)

    def refused(self, unit: str) -> None:
        self._refused.labels(unit).inc()

    def started(self) -> None:
        self._running.inc()

    def first_event(self, running: Running, after_s: float) -> None:
        self._first_s.labels(running.catalyst.reference).observe(after_s)

    def checked(self, found: Sequence[Health]) -> None:
        """The latest checks of health: a catalyst is up where one of its upstreams is well."""
        for name in {one.reference for one in found if one.state != "unchecked"}:
            self._up.labels(name).set(any(one.state == "ok" for one in found if one.reference == name))

    def moved(self, running: Running) -> None:
        catalyst, tried = running.catalyst.reference, running.tried[-1]
        spec = running.catalyst.operation(running.resolved.operation)
        self._moved.labels(catalyst, tried.cause).inc()
        self._runs.labels(catalyst, spec.name if spec else "other", tried.outcome).inc()

    def ended(self, running: Running, how: Ended) -> None:
        catalyst = running.catalyst.reference
        spec = running.catalyst.operation(running.resolved.operation)
        self._running.dec()
        self._runs.labels(catalyst, spec.name if spec else "other", how.outcome).inc()
        self._run_s.labels(catalyst).observe(how.took_s)
        meters = running.meters
        if meters.retries or meters.waited_s:
            self._retries.labels(catalyst).inc(meters.retries)
            self._waited_s.labels(catalyst).inc(meters.waited_s)
        if meters.moved:
            self._upstream_moved.labels(catalyst).inc(meters.moved)
        if meters.opened_circuits or meters.closed_circuits:
            self._circuits.labels(catalyst, "open").inc(meters.opened_circuits)
            self._circuits.labels(catalyst, "closed").inc(meters.closed_circuits)
        tokens = how.tokens
        if tokens.input or tokens.output:
            self._tokens.labels(catalyst, "input").inc(tokens.input)
            self._tokens.labels(catalyst, "output").inc(tokens.output)

    def exposed(self) -> bytes:
        """All metrics of all workers, in Prometheus' format."""
        if environment.metrics_dir() is None:
            return generate_latest(self._registry)
        everybody = CollectorRegistry()
        multiprocess.MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]  # the library leaves it untyped
        return generate_latest(everybody)


class Probes:
    """`health` None: the operator asks for no checks."""

    def __init__(
        self,
        catalog: Catalog,
        counted: Metrics,
        settings: ServerSettings,
        readiness: Readiness,
        health: HealthBook | None = None,
    ) -> None:
        self._catalog = catalog
        self._health = health
        self._metrics = counted
        self._settings = settings
        self._readiness = readiness

    def routes(self) -> list[Route]:
        return [
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/metrics", self.metrics),
        ]

    async def health(self, request: Request) -> Response:
        """The process answers."""
        context_of(request.scope).route = "GET /health"
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """A request could be answered now. Anybody may ask, so a failure shows its code alone. Those who may read the
        metrics see the health of each catalyst, which does not decide the answer."""
        context_of(request.scope).route = "GET /ready"
        code = await self._readiness.failure()
        shown = {"status": "ready"} if code is None else {"status": "unavailable", "code": code}
        seen = {"catalysts": self._health.all()} if self._health is not None and await self._may_see(request) else {}
        return JSONResponse({**shown, **seen}, 200 if code is None else 503)

    async def _may_see(self, request: Request) -> bool:
        try:
            view = await self._catalog.current()
            return principal_of(request.scope, view.keys, self._settings).may("metrics")
        except HostError:
            return False

    async def metrics(self, request: Request) -> Response:
        context_of(request.scope).route = "GET /metrics"
        view = await self._catalog.current()
        principal = principal_of(request.scope, view.keys, self._settings)
        principal.require("metrics")
        exposed = await self._catalog.off_loop(self._metrics.exposed)
        return Response(exposed, headers={"content-type": CONTENT_TYPE})
