"""How long one exchange of an httpx2 client may take as a whole.

The library bounds each operation on a socket, and not their number: a server that sends a byte now and then would go on
for ever, before its answer or within it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event, Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from host.core.waiting import start

if TYPE_CHECKING:
    import httpx2


class TotalTimeout:
    """Of one client, one exchange at a time. `watch` is to be among its request hooks."""

    def __init__(self) -> None:
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._lock = Lock()
        self._over = Event()  # of the exchange that is under way

    def watch(self, request: httpx2.Request) -> None:
        request.extensions["trace"] = self._note

    @contextmanager
    def within(self, seconds: float) -> Iterator[Event]:
        """Hangs up after so long: whatever waits for the server finds the connection ended, and the event is set."""
        over, ended = Event(), Event()
        self._over = over
        start(self._hang_up_after, seconds, over, ended, name="host-total-timeout")
        try:
            yield over
        finally:
            ended.set()
            self._over = Event()

    def _note(self, event: str, told: Mapping[str, Any]) -> None:
        """A trace of httpcore2 (https://www.encode.io/httpcore/extensions/#trace)."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            made = told["return_value"]
            with self._lock:
                self._sockets.add(made.get_extra_info("socket"))
                late = self._over.is_set()
            if late:  # it took that long to connect; nobody reads from it yet
                made.close()

    def _hang_up_after(self, seconds: float, over: Event, ended: Event) -> None:
        if ended.wait(seconds):
            return
        with self._lock:
            over.set()
            for one in self._sockets:
                with suppress(OSError):  # it was closed before
                    socket.socket.shutdown(one, socket.SHUT_RDWR)  # SSLSocket's own would change it under its reader
