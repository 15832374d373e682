"""How long one exchange of an httpx2 client may take as a whole.

The library bounds each operation on a socket, and not their number: a server that sends a byte now and then would go on
for ever, before its answer or within it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from host.core.waiting import start

if TYPE_CHECKING:
    import httpx2


class TotalTimeout:
    """Of one client, one exchange at a time. `watch` is to be among its request hooks."""

    def __init__(self) -> None:
        self._sockets: WeakSet[socket.socket] = WeakSet()

    def watch(self, request: httpx2.Request) -> None:
        request.extensions["trace"] = self._note

    @contextmanager
    def within(self, seconds: float) -> Iterator[Event]:
        """Hangs up after so long: whatever waits for the server finds the connection ended, and the event is set."""
        over, ended = Event(), Event()
        start(self._hang_up_after, seconds, over, ended, name="host-total-timeout")
        try:
            yield over
        finally:
            ended.set()

    def _note(self, event: str, told: Mapping[str, Any]) -> None:
        """A trace of httpcore2 (https://www.encode.io/httpcore/extensions/#trace)."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._sockets.add(told["return_value"].get_extra_info("socket"))

    def _hang_up_after(self, seconds: float, over: Event, ended: Event) -> None:
        if ended.wait(seconds):
            return
        over.set()
        for one in tuple(self._sockets):
            with suppress(OSError):  # it was closed before
                socket.socket.shutdown(one, socket.SHUT_RDWR)  # SSLSocket's own would change it under its reader
