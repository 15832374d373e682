"""What a catalyst may import, one module per interface.

Each has the same shape: a class with `interface`, made once per loaded catalyst from its Grant, whose `functions()` are
called as `function(call, *strings)` for every run. In each function: decide, audit, act, meter, in that order. Errors
are values; what a function raises ends the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from host.capabilities.config import Config
from host.capabilities.exchange import Exchange
from host.capabilities.http import Fetch
from host.capabilities.log import Log
from host.capabilities.output import Output
from host.capabilities.rate import Rates
from host.capabilities.secrets import Secrets
from host.capabilities.streaming import Streaming
from host.core.names import SecretName
from host.core.strict_json import Json
from host.egress import EgressClient
from host.policy.permissions import Grant
from host.secrets.value import SecretValue


class Capability(Protocol):
    """One interface of the contract. Its functions return what `host.core.wit.HostValue` can be."""

    interface: str

    def functions(self) -> Mapping[str, Any]: ...


def configure(
    grant: Grant,
    *,
    client: EgressClient,
    secrets: Mapping[SecretName, SecretValue],
    config: Mapping[str, Json],
    rates: Rates | None = None,
) -> dict[str, Mapping[str, Any]]:
    """Interface -> function -> implementation, for every interface in the grant: nothing else is linked. `rates` counts
    its requests, in place of a window of its own."""
    exchange = Exchange(grant, client, secrets, rates)
    offered: tuple[Capability, ...] = (
        Fetch(exchange),
        Streaming(exchange, grant),
        Secrets(grant, secrets),
        Output(),
        Config(config),
        Log(),
    )
    return {one.interface: one.functions() for one in offered if one.interface in grant.interfaces}
