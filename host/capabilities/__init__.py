"""The interfaces that a catalyst may import: one module each, all of the same shape.

A capability is a class with `interface`, made once for a loaded catalyst from its Grant. Its `functions()` are called
as `function(run, *strings)`, and do four things in this order: decide, audit, act, meter. Errors are returned as
values; an exception ends the run. `exchange` and `message` are what those that send requests share. The package may
import `egress` and everything below it. A new capability is a new module here, a line in `configure`, and its WIT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from host.capabilities.config import ConfigReader
from host.capabilities.exchange import Exchange, LiveUpstream
from host.capabilities.http import Fetch
from host.capabilities.log import LogWriter
from host.capabilities.output import Output
from host.capabilities.secrets import Secrets
from host.capabilities.streaming import Streaming
from host.capabilities.upstream import Upstream
from host.core.names import SecretName
from host.core.sliding_window import RequestLimiter
from host.core.strict_json import Json
from host.core.wit import WEBSOCKET
from host.egress import EgressClient
from host.policy.permissions import Grant
from host.run import Run
from host.secrets.value import SecretValue

if TYPE_CHECKING:
    from host.capabilities.websocket import Sockets


class Capability(Protocol):
    """One interface of the contract. Its functions return what `host.core.wit.HostValue` can be."""

    interface: str

    def functions(self) -> Mapping[str, Any]: ...


def configure(
    grant: Grant,
    *,
    upstream: Upstream,
    sockets: Callable[[], Sockets],
    secrets: Mapping[SecretName, SecretValue],
    config: Mapping[str, Json],
    obtain: Callable[[Run, SecretName], None] | None = None,
    limiter: RequestLimiter | None = None,
) -> dict[str, Mapping[str, Any]]:
    """Interface -> function -> implementation, for the interfaces in the grant and no others. `upstream` gets its
    requests, what `sockets` returns its connections; `limiter` counts both, in place of a window of its own.
    `obtain`: see Secrets."""
    exchange = Exchange(grant, upstream, limiter)
    offered: tuple[Capability, ...] = (
        Fetch(exchange),
        Streaming(exchange, grant),
        Secrets(grant, secrets, obtain),
        Output(),
        ConfigReader(config),
        LogWriter(),
    )
    if WEBSOCKET in grant.interfaces:
        from host.capabilities.websocket import WebSockets  # noqa: PLC0415 - most catalysts open none

        offered = (*offered, WebSockets(exchange, sockets()))
    return {one.interface: one.functions() for one in offered if one.interface in grant.interfaces}


def live_sockets(upstream: LiveUpstream, grant: Grant, client: EgressClient) -> Sockets:
    """Where connections go over the network."""
    from host.capabilities.websocket import LiveSockets  # noqa: PLC0415 - as above

    return LiveSockets(upstream, grant, client)
