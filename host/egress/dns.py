"""Name resolution that can be abandoned: getaddrinfo has no deadline, so it blocks a thread of its own.

The threads are few and belong to one EgressClient: names that never resolve delay only the catalyst that looks them up.
A thread ends when there is nothing left to look up, and keeps no process from exiting.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final

from host.core.names import Domain
from host.core.waiting import start
from host.errors import Busy
from host.policy.addresses import Address

Resolver = Callable[
    [Domain], Sequence[Address]
]  # every address of a name, best first; raises OSError where it has none

MAX_THREADS: Final = 4


def system_resolver(name: Domain) -> Sequence[Address]:
    """The addresses from the operating system, hosts file included, in the order of RFC 6724. Raises
    socket.gaierror."""
    # Bytes, because a str would go through Python's IDNA codec, a second parser of the name.
    found = socket.getaddrinfo(name.value.encode("ascii"), None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in found))


def unresolved() -> OSError:
    """The error of the operating system for a name without an address."""
    return socket.gaierror(socket.EAI_NONAME, "the name does not resolve")


class Lookup:
    """The lookup of one name. `done` is set when there is an answer, or when no thread waits for it any more."""

    def __init__(self, name: Domain) -> None:
        self.name = name
        self.done = threading.Event()
        self.addresses: tuple[Address, ...] = ()  # also empty when the name does not resolve

    def run(self, resolver: Resolver) -> None:
        try:
            self.addresses = tuple(resolver(self.name))
        except Exception:  # noqa: BLE001  a resolver may be anyone's code; a name that it fails on does not resolve
            self.addresses = ()
        finally:
            self.done.set()


class Lookups:
    """Runs lookups on at most four threads, in the order of `start`; abandoned ones are skipped."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._lock = threading.Lock()
        self._waiting: deque[Lookup] = deque()
        self._threads = 0

    def start(self, name: Domain) -> Lookup:
        """Raises Busy where no thread can be started for it, and none is at work."""
        lookup = Lookup(name)
        with self._lock:
            if self._threads < MAX_THREADS:
                try:
                    start(self._work, name="egress-lookup")  # it waits for the lock
                except Busy:
                    if not self._threads:
                        raise
                else:
                    self._threads += 1
            self._waiting.append(lookup)
        return lookup

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                lookup = self._waiting.popleft()
            if not lookup.done.is_set():
                lookup.run(self._resolver)
