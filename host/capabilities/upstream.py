"""The seam between the host and an upstream: what is asked, and what answers. Recorders and replays stand here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from host.egress import Deadline
from host.egress.headers import Fields
from host.policy.urls import Target
from host.run import Run


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """An allowed request, with placeholders. `target` is the URL that the guest named, `destination` the one that the
    operator sends it to (most often the same)."""

    method: str
    target: Target
    destination: Target
    headers: Fields = field(repr=False)
    body: bytes = field(repr=False)


class RawAnswer(Protocol):
    """A response that has begun, as the upstream sent it. `headers` have lower-case names. To be closed."""

    status: int
    headers: Fields

    def read(self, clock: Deadline, max_bytes: int = ...) -> bytes:
        """The next bytes of the body as soon as there are any; empty at the end. Raises EgressError."""
        ...

    def close(self) -> None: ...


class Upstream(Protocol):
    """Where allowed requests go: the seam between the host and an upstream. Thread-safe.

    What crosses it holds placeholders, never secrets: `LiveUpstream` puts the values in below it, at the last moment.
    An implementation that records or replays stands in its place and never sees a secret in a request. What comes back
    is the upstream's own text, which may echo a secret: UpstreamAnswer redacts it, whichever implementation it came
    from, and a recorder redacts what it writes with `run.redactor`."""

    def send(self, run: Run, request: UpstreamRequest) -> RawAnswer:
        """Send `request` and return once the response has begun. Raises EgressError, GuestError."""
        ...
