"""Traces by OpenTelemetry, where its environment variables ask for them: a span for each request, and below it one for
each run, with the ids that the audit log has.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from host.core import environment, installation
from host.core.waiting import start
from host.errors import StateError
from host.service.accounts import Ended, Observer
from host.service.dispatch import Running

if TYPE_CHECKING:
    from host.server.asgi import Scope


_LAST_SPANS_S: Final = 2.0


def open_tracing() -> Tracing | None:
    """None where the environment asks for no traces: then OpenTelemetry is not imported. Raises StateError where it
    asks, and OpenTelemetry is not installed."""
    return Tracing() if environment.traces_wanted() else None


class Tracing(Observer[Running]):
    """One per process."""

    def __init__(self) -> None:
        try:
            from opentelemetry import propagate, trace  # noqa: PLC0415 - only where it is asked for
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - as above
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415 - as above
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - as above
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - as above
        except ModuleNotFoundError:
            raise StateError(
                "traces are asked for (OTEL_…), and OpenTelemetry is not installed",
                hint=installation.remedy("otel"),
            ) from None
        resource = Resource.create({} if environment.optional("OTEL_SERVICE_NAME") else {SERVICE_NAME: "catalyst-host"})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("catalyst-host")
        self._trace, self._propagate = trace, propagate

    @contextmanager
    def request(self, scope: Scope, request_id: str) -> Iterator[Any]:
        """A span around the request, below the one that its `traceparent` names (w3.org/TR/trace-context). `answered`
        gives it its name and its status."""
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with self._tracer.start_as_current_span(
            scope["method"],
            context=self._propagate.extract(carrier),
            kind=self._trace.SpanKind.SERVER,
            attributes={"http.request.method": scope["method"], "catalyst_host.request": request_id},
        ) as span:
            yield span

    def answered(self, span: Any, route: str, status: int) -> None:
        span.update_name(route)
        span.set_attributes({"http.route": route, "http.response.status_code": status})
        if status >= 500:  # a server's own failures (opentelemetry.io, semantic conventions for HTTP)
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR))

    def ended(self, running: Running, how: Ended) -> None:
        """A run's span, once it has ended."""
        now, operation = time.time_ns(), running.resolved.operation
        attributes: Mapping[str, str | int] = {
            "gen_ai.operation.name": operation,
            "gen_ai.usage.input_tokens": how.tokens.input,
            "gen_ai.usage.output_tokens": how.tokens.output,
            "catalyst_host.catalyst": running.catalyst.reference,
            "catalyst_host.run": running.id,
            "catalyst_host.outcome": how.outcome,
            "catalyst_host.key": running.resolved.request.principal.id,
        }
        start = now - round(how.took_s * 1e9)
        self._tracer.start_span(f"run {operation}", start_time=start, attributes=attributes).end(now)

    def close(self) -> None:
        """Send the spans that were not sent yet; a collector that does not answer is not waited for."""
        start(self._provider.shutdown, name="host-spans").join(_LAST_SPANS_S)
