"""The seam between the host and an upstream: what is asked, and what answers. Recorders and replays stand here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from host.core.conversation import Closed, SocketMessage
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


@runtime_checkable
class RawSocket(Protocol):
    """An open connection, as the upstream sees it: see host.egress.websocket.WebSocket. `status` and `headers` are of
    the answer that opened it. To be closed."""

    status: int
    headers: Fields
    subprotocol: str
    end: Closed | None
    sent: int
    received: int
    sent_bytes: int
    received_bytes: int

    @property
    def ended(self) -> bool: ...

    @property
    def closing(self) -> bool: ...

    @property
    def has_room(self) -> bool: ...

    @property
    def unsent(self) -> int: ...

    def put(self, message: SocketMessage) -> None: ...

    def take(self) -> SocketMessage | None: ...

    def begin_close(self, close: Closed) -> None: ...

    def turn(self, clock: Deadline, seconds: float, *, reading: bool = ..., wake: int | None = ...) -> None: ...

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
