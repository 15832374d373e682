"""What is measured, for Prometheus (prometheus.io, text format 0.0.4 and OpenMetrics). With several workers each counts
in files that they share (`environment.share_metrics`), and any of them tells of all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from host import environment

if TYPE_CHECKING:
    from host.server.runner import Ask, Ended

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """One per process. Labels have few values: names of operations are those that a manifest has."""

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
        self._refused = Counter("catalyst_host_refused", "Requests refused, by reason.", ("reason",), registry=own)
        self._running = Gauge("catalyst_host_running", "Runs under way.", registry=own, multiprocess_mode="livesum")

    def answered(self, route: str, method: str, status: int, took_s: float) -> None:
        self._requests.labels(route, method, str(status)).inc()
        self._request_s.labels(route).observe(took_s)

    def refused(self, reason: str) -> None:
        self._refused.labels(reason).inc()

    def started(self) -> None:
        self._running.inc()

    def first_event(self, ask: Ask, after_s: float) -> None:
        self._first_s.labels(ask.catalyst.reference).observe(after_s)

    def ended(self, ask: Ask, how: Ended) -> None:
        catalyst = ask.catalyst.reference
        spec = ask.catalyst.operation(ask.operation)
        self._running.dec()
        self._runs.labels(catalyst, spec.name if spec else "other", how.outcome).inc()
        self._run_s.labels(catalyst).observe(how.took_s)
        if how.tokens.total:
            self._tokens.labels(catalyst, "input").inc(how.tokens.input)
            self._tokens.labels(catalyst, "output").inc(how.tokens.output)

    def exposed(self) -> bytes:
        """All of it, of all workers, as Prometheus reads it."""
        if environment.metrics_dir() is None:
            return generate_latest(self._registry)
        everybody = CollectorRegistry()
        multiprocess.MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]  # the library leaves it untyped
        return generate_latest(everybody)
