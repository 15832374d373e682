"""The interfaces that a catalyst may import: one module each, all of the same shape.

A capability is a class with `interface`, made once for a loaded catalyst from its Grant. Its `functions()` are called
as `function(run, *strings)`, and do four things in this order: decide, audit, act, meter. Errors are returned as
values; an exception ends the run. `exchange` and `message` are what those that send requests share. The package may
import `egress` and everything below it. A new capability is a new module here, a line in `configure`, and its WIT.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from host.capabilities.config import ConfigReader
from host.capabilities.exchange import Exchange, Upstream
from host.capabilities.http import Fetch
from host.capabilities.log import LogWriter
from host.capabilities.output import Output
from host.capabilities.secrets import Secrets
from host.capabilities.streaming import Streaming
from host.core.names import SecretName
from host.core.sliding_window import RequestLimiter
from host.core.strict_json import Json
from host.policy.permissions import Grant
from host.secrets.value import SecretValue


class Capability(Protocol):
    """One interface of the contract. Its functions return what `host.core.wit.HostValue` can be."""

    interface: str

    def functions(self) -> Mapping[str, Any]: ...


def configure(
    grant: Grant,
    *,
    upstream: Upstream,
    secrets: Mapping[SecretName, SecretValue],
    config: Mapping[str, Json],
    limiter: RequestLimiter | None = None,
) -> dict[str, Mapping[str, Any]]:
    """Interface -> function -> implementation, for the interfaces in the grant and no others. `upstream` gets its
    requests; `limiter` counts them, in place of a window of its own."""
    exchange = Exchange(grant, upstream, limiter)
    offered: tuple[Capability, ...] = (
        Fetch(exchange),
        Streaming(exchange, grant),
        Secrets(grant, secrets),
        Output(),
        ConfigReader(config),
        LogWriter(),
    )
    return {one.interface: one.functions() for one in offered if one.interface in grant.interfaces}
