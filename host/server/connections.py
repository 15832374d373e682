"""How many connections a process holds, and which of them end for new ones: each takes a descriptor, before anybody
knows whose it is.

A connection is known as soon as a request on it is authenticated. It is idle while no request on it is under way. Where
there are too many, the one that has been idle for longest ends, and the unknown come first.
"""

from __future__ import annotations

import logging
import math
import resource
import time
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from itertools import islice
from typing import Final, Protocol, TypeAlias

MOST_UNKNOWN: Final = 8_192
MOST_UNKNOWN_OF_ADDRESS: Final = 1_024  # a program that begins with many at once has them from one address
_OWN_DESCRIPTORS: Final = 64  # of the process itself: its database, its log, its threads
_MOST_UPSTREAM: Final = 2_048  # descriptors that are kept for the runs' own connections
_FEWEST: Final = 8
_MOST_TURNED_AWAY: Final = 1_000  # callers
_MOMENT_S: Final = 0.1
_TELLS_EVERY_S: Final = 10.0
_MOST_DESCRIPTORS: Final = 1 << 20  # some systems set no limit

_log = logging.getLogger("host.server")

_Address: TypeAlias = IPv4Address | IPv6Address | IPv4Network | IPv6Network


class ClientConnection(Protocol):
    known: bool
    idle: bool
    address: IPv4Address | IPv6Address | None

    def end(self) -> None:
        """Close it. `Connections.left` is called in turn, soon."""


class Connections:
    """One per process, for its event loop. `most` 0: as many as the limit of descriptors leaves room for.
    `uncounted` are networks of proxies: many clients have one address there."""

    def __init__(
        self,
        most: int = 0,
        most_unknown: int = MOST_UNKNOWN,
        most_of_address: int = MOST_UNKNOWN_OF_ADDRESS,
        uncounted: Collection[IPv4Network | IPv6Network] = (),
    ) -> None:
        self._most = most
        self._most_unknown = most_unknown
        self._most_of_address = most_of_address
        self._uncounted = tuple(uncounted)
        self.turned_away = TurnedAway()
        self._known: dict[ClientConnection, None] = {}  # these three begin with the one that was idle for longest
        self._unknown: dict[ClientConnection, None] = {}
        self._of_address: dict[_Address, dict[ClientConnection, None]] = {}

    def arrived(self, one: ClientConnection) -> bool:
        """A new connection. False: there is no room for it, since no other is idle."""
        self._most = self._most or most_connections()
        group = self._of_address.get(self._network(one), {})
        room = (
            self._room(self._most_of_address, group)
            and self._room(self._most_unknown, self._unknown)
            and self._room(self._most, self._unknown, self._known)
        )
        if room:
            self._put(one)
        return room

    def answered(self, one: ClientConnection) -> None:
        """It is idle again, or it became known."""
        if one in self._unknown or one in self._known:
            self.left(one)
            self._put(one)

    def _put(self, one: ClientConnection) -> None:
        if one.known:
            self._known[one] = None
        else:
            self._unknown[one] = self._of_address.setdefault(self._network(one), {})[one] = None

    def left(self, one: ClientConnection) -> None:
        """It has ended. Any number of times."""
        self._known.pop(one, None)
        if one in self._unknown:
            del self._unknown[one]
            network = self._network(one)
            group = self._of_address[network]
            del group[one]
            if not group:
                del self._of_address[network]

    def _room(self, most: int, *groups: dict[ClientConnection, None]) -> bool:
        """Whether there is room for one more, once those that were idle for longest have ended: of the first group
        first."""
        beyond = sum(map(len, groups)) - most + 1
        idle = (one for group in groups for one in group if one.idle)
        leaving = list(islice(idle, max(0, beyond)))
        for one in leaving:
            one.end()
            self.left(one)
        return len(leaving) >= beyond

    def _network(self, one: ClientConnection) -> _Address:
        """What counts as one address: of IPv6 a subnet, which each client has for itself. A connection without an
        address that counts has one of its own."""
        address = one.address
        if address is None or any(address in network for network in self._uncounted):
            return IPv6Address(id(one))
        return ip_network((address, 64), strict=False) if isinstance(address, IPv6Address) else address


class TurnedAway:
    """Whose latest request was refused because they have too many under way, by what it had as `Authorization`. For a
    moment their next requests get the same answer before anything is done for them: a server that reads, checks and
    records each request that it refuses would serve fewer. Others are not affected."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[bytes, float] = {}
        self._count = 0
        self._told_at = -math.inf

    def note(self, authorization: bytes) -> None:
        """A request with it was refused. Those without one are many callers', such as people at the console."""
        now = self._clock()
        if not authorization:
            return
        if len(self._until) >= _MOST_TURNED_AWAY:
            self._until = {known: until for known, until in self._until.items() if until > now}
        if len(self._until) < _MOST_TURNED_AWAY:
            self._until[authorization] = now + _MOMENT_S
        self._count += 1
        if now - self._told_at >= _TELLS_EVERY_S:
            _log.warning("%d requests were refused: their callers have too many under way", self._count)
            self._told_at, self._count = now, 0

    def has(self, authorization: bytes) -> bool:
        """Whether a request with it is to be refused at once."""
        until = self._until.get(authorization)
        if until is None:
            return False
        if self._clock() >= until:
            del self._until[authorization]
            return False
        self._count += 1
        return True


def most_connections() -> int:
    """As many as leave descriptors for the process's own use and for the runs."""
    limit = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], _MOST_DESCRIPTORS)
    return max(_FEWEST, limit - _OWN_DESCRIPTORS - min(_MOST_UPSTREAM, limit // 3))


def raise_descriptors() -> None:
    """Use as many descriptors as the system allows: many systems allow 1,024 only for the sake of old programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
