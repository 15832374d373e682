"""The connections of one catalyst: checked under its policy, and never lent to another's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from host.egress.connection import Connection
from host.egress.failures import EgressError
from host.egress.socket import Socket
from host.policy.urls import Origin

KEEP_IDLE_S: Final = 15.0  # shorter than what servers commonly keep, so that they seldom hang up on a request


class Pool:
    """At most `size` connections, lent or idle, over all origins.

    There is no waiting for a place: runs that hold streams open while they wait for one would wait for each other.
    """

    def __init__(self, size: int, on_close: Callable[[Pool], None]) -> None:
        self._size = size
        self._on_close = on_close
        self._lock = threading.Lock()
        self._idle: list[Connection] = []  # the longest idle first
        self._lent: set[Connection] = set()
        self._closed = False

    def lend(self, origin: Origin, *, unused: bool = False) -> Connection:
        """An idle connection to `origin`, the last used first, or one yet to be opened (always that if `unused`).

        Raises EgressError (http_error) when all are lent.
        """
        with self._lock:
            if self._closed:
                raise EgressError("http_error", "the host has closed this catalyst's connections")
            self._drop_stale()
            connection = None if unused else self._last_used(origin)
            if connection is None:
                self._make_room()
                connection = Connection(Socket(origin))
            self._lent.add(connection)
            return connection

    def take_back(self, connection: Connection, *, usable: bool) -> None:
        """End a loan. An unusable connection is closed, as is any once the pool has been."""
        with self._lock:
            self._lent.discard(connection)
            if usable and not self._closed and connection.recycle():
                self._idle.append(connection)
                return
        connection.wire.close()

    def close(self) -> None:
        """Close what is idle and end what is lent, waking whoever reads from it."""
        with self._lock:
            self._closed = True
            for connection in self._idle:
                connection.wire.close()
            self._idle.clear()
            for connection in self._lent:
                connection.wire.abort()
        self._on_close(self)

    def _last_used(self, origin: Origin) -> Connection | None:
        for connection in reversed(self._idle):
            if connection.wire.origin == origin:
                self._idle.remove(connection)
                return connection
        return None

    def _drop_stale(self) -> None:
        for connection in [idle for idle in self._idle if not idle.fresh(KEEP_IDLE_S)]:
            self._idle.remove(connection)
            connection.wire.close()

    def _make_room(self) -> None:
        if len(self._lent) + len(self._idle) < self._size:
            return
        if not self._idle:
            raise EgressError(
                "http_error", f"this catalyst has {self._size} connections open, which is the most it may"
            )
        self._idle.pop(0).wire.close()
