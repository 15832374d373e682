"""Who asks: the bearer of a key, from where it may be used; or anybody on the loopback interface while there is no key.

No header about where a request came from is believed, unless its peer is a proxy that the operator named.
"""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv6Address, ip_address

from host.errors import Unauthenticated
from host.server.asgi import Scope, header, headers
from host.server.settings import ServerSettings
from host.service.principal import ANONYMOUS_SCOPES, Principal
from host.store.access.api_keys import ApiKey, KeyRing

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
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
    """The key that `text` is, used from where it may be. One answer for every reason. Raises Unauthenticated."""
    key = keys.authenticate(text, time.time())
    if key is None or not from_where_it_may_be(key, scope, settings):
        raise Unauthenticated(
            "the key is not valid here: it is unknown, expired, revoked, or not for this address", hint=_MAKE
        )
    return key


def bearer(scope: Scope) -> str | None:
    """RFC 6750, section 2.1. Not in the URL: those are logged."""
    scheme, _, text = (header(scope, "authorization") or "").partition(" ")
    return text.strip() or None if scheme.lower() == "bearer" else None


def on_this_machine(scope: Scope) -> bool:
    """Whether the peer is on the loopback interface, and speaks for itself rather than for somebody else."""
    address = peer(scope)
    local = address is None if scope.get("client") is None else address is not None and address.is_loopback
    return local and all(header(scope, name) is None for name in _FORWARDED)


def client_address(scope: Scope, settings: ServerSettings) -> IPv4Address | IPv6Address | None:
    """The nearest address that is not a trusted proxy's: of X-Forwarded-For, which each proxy adds its peer to, the
    last one that was added by a proxy that is trusted. None for a Unix socket's."""
    address = peer(scope)
    forwarded = [part.strip() for part in (headers(scope, "x-forwarded-for") or "").split(",") if part.strip()]
    while address is not None and forwarded and any(address in network for network in settings.trusted_proxies):
        address = _address(forwarded.pop())
    return address


def from_where_it_may_be(key: ApiKey, scope: Scope, settings: ServerSettings) -> bool:
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
