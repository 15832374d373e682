"""The table of addresses that are not public. `ipaddress.is_global` answers another question: it is True for 224.0.0.1,
64:ff9b::7f00:1, ::127.0.0.1 and fec0::1.

Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890), RFC 4291 (IPv6 addressing), RFC 5214
(ISATAP), and the clouds' own documentation for their metadata services. The table is stricter than the registries:
blocks that IANA calls reachable but that serve no HTTP API (anycast helpers inside 192.0.0.0/24 and 2001::/23) count
as reserved. An IPv6 address that carries an IPv4 one is never public, because a translator on the way decides its
destination.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Literal, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Category = Literal[
    "6to4",
    "benchmarking",
    "broadcast",
    "cgnat",
    "cloud metadata",
    "compatible",
    "discard-only",
    "documentation",
    "isatap",
    "link-local",
    "loopback",
    "mapped",
    "multicast",
    "nat64",
    "private",
    "reserved",
    "site-local",
    "teredo",
    "this network",
    "translated",
    "unspecified",
]

# The first row that contains an address names it, so exceptions stand above their blocks.
_IPV4: Final[dict[str, Category]] = {
    "169.254.169.254": "cloud metadata",  # AWS, Google, Azure and most others
    "169.254.170.2": "cloud metadata",  # AWS ECS task credentials
    "169.254.170.23": "cloud metadata",  # AWS EKS pod identity
    "100.100.100.200": "cloud metadata",  # Alibaba
    "192.0.0.192": "cloud metadata",  # Oracle, former
    "168.63.129.16": "cloud metadata",  # Azure's host agent: a public number, but answered by the platform
    "0.0.0.0/32": "unspecified",
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "cgnat",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "reserved",
    "192.0.2.0/24": "documentation",
    "192.88.99.0/24": "6to4",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "benchmarking",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "255.255.255.255": "broadcast",
    "240.0.0.0/4": "reserved",
}
_IPV6: Final[dict[str, Category]] = {
    "fd00:ec2::254": "cloud metadata",  # AWS
    "fd00:ec2::23": "cloud metadata",  # AWS EKS pod identity
    "fd20:ce::254": "cloud metadata",  # Google
    "::": "unspecified",
    "::1": "loopback",
    "::ffff:0:0/96": "mapped",
    "::ffff:0:0:0/96": "translated",  # RFC 2765
    "::/96": "compatible",
    "64:ff9b::/96": "nat64",
    "64:ff9b:1::/48": "nat64",  # RFC 8215: for local use
    "100::/64": "discard-only",
    "fc00::/7": "private",
    "fe80::/10": "link-local",
    "fec0::/10": "site-local",
    "ff00::/8": "multicast",
    "2001::/32": "teredo",
    "2001:2::/48": "benchmarking",
    "2001::/23": "reserved",
    "2001:db8::/32": "documentation",
    "2002::/16": "6to4",
    "3fff::/20": "documentation",
}
_IPV4_TABLE: Final = tuple((IPv4Network(block), category) for block, category in _IPV4.items())
_IPV6_TABLE: Final = tuple((IPv6Network(block), category) for block, category in _IPV6.items())
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")  # all that IANA hands out (RFC 4291, 2.4)
_CARRIES_IPV4: Final[frozenset[Category]] = frozenset(
    {"6to4", "compatible", "isatap", "mapped", "nat64", "teredo", "translated"}
)


def classify(address: Address) -> Category | None:
    """Why `address` is not public, or None when it is."""
    if isinstance(address, IPv4Address):
        return next((category for block, category in _IPV4_TABLE if address in block), None)
    if _is_isatap(address):
        return "isatap"
    for block, category in _IPV6_TABLE:
        if address in block:
            return category
    return None if address in _GLOBAL_UNICAST else "reserved"


def allowed(address: Address, private: tuple[Network, ...] = ()) -> bool:
    """Whether `address` may be connected to: it is public, or lies in one of the operator's `private` networks.

    An IPv6 address that carries an IPv4 one, or names a network interface (`%eth0`), never passes: `private` is about
    the address of the connection, and these lead elsewhere."""
    category = classify(address)
    if category is None:
        return True
    if isinstance(address, IPv6Address) and (category in _CARRIES_IPV4 or address.scope_id):
        return False
    return any(address in network for network in private)


def _is_isatap(address: IPv6Address) -> bool:
    """RFC 5214, 6.1: the interface identifier is 0000:5efe or 0200:5efe, followed by an IPv4 address."""
    return (int(address) >> 32) & 0xFCFF_FFFF == 0x0000_5EFE
