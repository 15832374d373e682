"""Where the connections of a registry's client may lead: an httpx2 transport that decides by address.

A registry sends its clients on: to the service that issues its tokens, to the place that keeps its blobs, to where an
upload continues. It may name any host, and any name may resolve to any address, on another day to another one. So:

1. The registry itself, by its host and its port, may have any address: the operator named it.
2. Every other place has public addresses, or the very addresses of the registry: a registry on this machine, or in a
   private network, may have its tokens and its blobs at another port of the same host, and leads to no other machine
   there. Every address of the place has to be acceptable.
3. Each name is looked up once for a client, and connected to by the addresses that were checked.

A lookup ends in time: it has a thread of its own (`host.egress.dns`).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Final

import httpcore2
import httpx2

from host.core.names import Domain
from host.egress import system_resolver, system_tls
from host.egress.dns import Lookups, unresolved
from host.errors import InputError, RegistryError
from host.policy.addresses import Address, allowed

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LOOKUP_TIMEOUT_S: Final = 10.0


class RegistryTransport(httpx2.HTTPTransport):
    """The connections of one client. `base` is a URL of its registry. A request raises RegistryError for a place that
    the registry may not name, and otherwise what HTTPTransport does."""

    def __init__(self, base: httpx2.URL) -> None:
        tls = system_tls()
        super().__init__(verify=tls, trust_env=False)
        self._pool.close()  # it has no way to take a backend
        self._pool = httpcore2.ConnectionPool(ssl_context=tls, network_backend=CheckedBackend(base))


class CheckedBackend(httpcore2.NetworkBackend):
    """Connects to checked addresses. Belongs to one thread."""

    def __init__(self, base: httpx2.URL) -> None:
        self._registry = base.host, base.port or _DEFAULT_PORTS.get(base.scheme)
        self._sockets = httpcore2.SyncBackend()
        self._lookups = Lookups(system_resolver)
        self._found: dict[str, tuple[Address, ...]] = {}

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Raises RegistryError, httpcore2.ConnectError, httpcore2.ConnectTimeout, and httpcore2.UnsupportedProtocol
        for what is no name of a host."""
        addresses = self._addresses(host, timeout)
        if (host.strip("[]"), port) != (self._registry[0].strip("[]"), self._registry[1]):
            own = self._addresses(self._registry[0], timeout)
            if not all(allowed(address) or address in own for address in addresses):
                raise RegistryError(
                    f"{self._registry[0]} sends us to {host}, whose address is not public",
                    hint="a registry may name public addresses, and its own",
                )
        share = None if timeout is None else timeout / len(addresses)
        for more, address in zip(reversed(range(len(addresses))), addresses, strict=True):
            try:
                return self._sockets.connect_tcp(str(address), port, share, local_address, socket_options or ())
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if not more:
                    raise
        raise httpcore2.ConnectError

    def _addresses(self, host: str, timeout_s: float | None) -> tuple[Address, ...]:
        """At least one address of `host`, always the same ones."""
        if host not in self._found:
            self._found[host] = self._looked_up(host.strip("[]"), timeout_s or _LOOKUP_TIMEOUT_S)
        return self._found[host]

    def _looked_up(self, host: str, timeout_s: float) -> tuple[Address, ...]:
        try:
            return (ip_address(host),)
        except ValueError:
            pass
        try:
            lookup = self._lookups.start(Domain.parse(host))
        except InputError:
            raise httpcore2.UnsupportedProtocol("no name of a host") from None
        if not lookup.done.wait(timeout_s):
            lookup.done.set()
            raise httpcore2.ConnectTimeout
        if not lookup.addresses:
            try:
                raise unresolved()
            except OSError as error:  # httpcore's pool drops the cause of an error, and not its context
                raise httpcore2.ConnectError from error
        return lookup.addresses
