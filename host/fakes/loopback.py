"""The life of a server on the loopback interface: in a thread of its own, or in the foreground of a process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from host.errors import StateError
from host.fakes.http import Application, serve


class LoopbackServer:
    """`application`, served on 127.0.0.1 at `port` (0 = a free one). Instances share nothing, so several can run at
    once. It listens from `start()` (or entering) on; `stop()` (or leaving) closes every connection."""

    def __init__(self, application: Application, port: int = 0) -> None:
        self._application = application
        self._port = port
        self._listener: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping = asyncio.Event()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`. Raises StateError while the server does not run."""
        if self._listener is None:
            raise StateError("the fake is not running", hint="enter it with `with`, or call start()")
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def start(self) -> Self:
        """Serve from a thread. Raises StateError where the port is taken or the server runs already."""
        listener = self._listen()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop, listener), name=f"fake at {self.url}", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Returns when the thread has ended and every connection is closed; does nothing when it is not running."""
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None
        self._close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def serve_forever(self, ready: Callable[[str], object] | None = None) -> None:
        """Serve until SIGINT or SIGTERM, from the main thread; `ready` gets the URL once the server listens.
        Raises StateError as `start` does."""
        listener = self._listen()
        try:
            asyncio.run(self._until_signalled(listener, ready))
        finally:
            self._close()

    async def _until_signalled(self, listener: socket.socket, ready: Callable[[str], object] | None) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        if ready is not None:
            ready(self.url)
        await serve(listener, self._application, self._stopping)

    def _run(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        loop.run_until_complete(serve(listener, self._application, self._stopping))

    def _listen(self) -> socket.socket:
        if self._listener is not None:
            raise StateError("the fake is running already")
        try:
            self._listener = socket.create_server(("127.0.0.1", self._port), backlog=512)
        except OSError as error:
            raise StateError(
                f"cannot listen on 127.0.0.1:{self._port}: {os.strerror(error.errno or 0)}",
                hint="port 0 takes a free one",
            ) from error
        self._listener.setblocking(False)
        self._stopping = asyncio.Event()
        return self._listener

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
