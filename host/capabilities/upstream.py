"""The seam between the host and an upstream: what is asked, and what answers. Recorders and replays stand here."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from host.core.conversation import Closed, SocketMessage
from host.egress import Deadline, EgressError, Wait
from host.egress.headers import Fields
from host.errors import HostError
from host.policy.urls import Target
from host.run import Run

_MOST_KEPT_BYTES: Final = 64 * 1024
_LONGEST_READING_S: Final = 1.0


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


class KeptAnswer:
    """An error of an upstream, in memory: `raw`, which is closed, and its body, of which there may be 64 KiB, within a
    second. A RawAnswer. Where there is more, or it does not come, reading fails at that place, as of any answer."""

    def __init__(self, run: Run, raw: RawAnswer) -> None:
        self.status, self.headers = raw.status, raw.headers
        self._body = b""
        self._failure: EgressError | None = None
        clock, began = Wait(run, _LONGEST_READING_S), time.monotonic()
        try:
            while len(self._body) <= _MOST_KEPT_BYTES and (piece := raw.read(clock)):
                self._body += piece
        except EgressError as error:
            self._failure = error
            if error.kind == "timeout" and not error.limit and run.remaining() > 0:
                self._failure = EgressError("http_error", f"it did not come within {_LONGEST_READING_S:g} s")
        finally:
            raw.close()
            run.meters.upstream_time_s += time.monotonic() - began
        if len(self._body) > _MOST_KEPT_BYTES:
            self._failure = EgressError("http_error", f"it has more than {_MOST_KEPT_BYTES} bytes")

    def read(self, clock: Deadline, max_bytes: int = _MOST_KEPT_BYTES) -> bytes:  # noqa: ARG002 - it waits for nothing
        piece, self._body = self._body[:max_bytes], self._body[max_bytes:]
        if not piece and self._failure is not None:
            raise self._failure
        return piece

    def close(self) -> None:
        self._body, self._failure = b"", None


class NotAsked(EgressError):
    """A token that a request needs at one upstream cannot be had, for the reason `behind`. Nothing was sent; another
    upstream may not need it."""

    def __init__(self, at: str, behind: HostError) -> None:
        super().__init__("http_error", "{} is not asked: its secret cannot be had", at)
        self.of_upstream = self.sent = False
        self.behind = behind


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
        """Send `request` and return once the response has begun. Settles the run's records before that. Raises
        EgressError, GuestError, AuditError."""
        ...
