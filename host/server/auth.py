"""Authentication: the bearer of a key, from an address where the key is valid; or, while there is no key, any caller on
the loopback interface.

Headers about the address of a client count only from proxies that the operator named.
"""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv6Address, ip_address

from host.errors import Unauthenticated
from host.server.asgi import Scope, header, headers
from host.server.settings import ServerSettings
from host.service.principal import ANONYMOUS_SCOPES, Principal
from host.store.access.api_keys import ApiKey, KeyRing

_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"})
_MAKE = "the operator makes them: host key create"
_HINT = f"send one: Authorization: Bearer host_sk_…; {_MAKE}"


def principal_of(scope: Scope, keys: KeyRing, settings: ServerSettings) -> Principal:
    """Raises Unauthenticated."""
    if not keys.any:
        if settings.anonymous and on_this_machine(scope):
            return Principal(None, ANONYMOUS_SCOPES)
        raise Unauthenticated(
            "this server has no key yet, and so serves nobody but this machine",
            hint="the operator makes one: host key create --name NAME --type secret",
        )
    text = bearer(scope)
    if text is None:
        raise Unauthenticated("there is no key in the request", hint=_HINT)
    return Principal.of(holder(text, scope, keys, settings))


def holder(text: str, scope: Scope, keys: KeyRing, settings: ServerSettings) -> ApiKey:
    """The key of this text, if it is valid at the client's address. Raises Unauthenticated, alike for every reason."""
    key = keys.authenticate(text, time.time())
    if key is None or not valid_at_address(key, scope, settings):
        raise Unauthenticated(
            "the key is not valid here: it is unknown, expired, revoked, or not for this address", hint=_MAKE
        )
    return key


def bearer(scope: Scope) -> str | None:
    """The bearer token (RFC 6750, section 2.1). One in the URL does not count: URLs are logged."""
    scheme, _, text = (header(scope, "authorization") or "").partition(" ")
    return text.strip() or None if scheme.lower() == "bearer" else None


def on_this_machine(scope: Scope) -> bool:
    """Whether the peer is on the loopback interface, and is no proxy for another client."""
    address = peer(scope)
    local = address is None if scope.get("client") is None else address is not None and address.is_loopback
    return local and _FORWARDED.isdisjoint([name for name, _ in scope["headers"]])


def client_address(scope: Scope, settings: ServerSettings) -> IPv4Address | IPv6Address | None:
    """The address of the client: the nearest one that is not a trusted proxy. Each proxy adds its peer to the end of
    X-Forwarded-For; addresses count from the end, as long as trusted proxies added them. None for a Unix socket."""
    address = peer(scope)
    forwarded = [part.strip() for part in (headers(scope, "x-forwarded-for") or "").split(",") if part.strip()]
    while address is not None and forwarded and any(address in network for network in settings.trusted_proxies):
        address = _address(forwarded.pop())
    return address


def valid_at_address(key: ApiKey, scope: Scope, settings: ServerSettings) -> bool:
    if not key.ip_allowlist:
        return True
    address = client_address(scope, settings)
    return address is not None and any(address in network for network in key.ip_allowlist)


def peer(scope: Scope) -> IPv4Address | IPv6Address | None:
    client = scope.get("client")
    return _address(client[0]) if client else None


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
