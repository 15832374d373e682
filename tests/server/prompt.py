"""Uvicorn on a thread, started and ended without waiting for its clock."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress

import uvicorn

_TICK_S = 0.1  # uvicorn's own


class PromptServer(uvicorn.Server):
    """Uvicorn's own looks every 100 ms whether it is to end, and gives connections another 100 ms, whether there are
    any or not. This one looks when `should_exit` is set, and ends when the last connection has; those that stay get what
    uvicorn gives them."""

    def __init__(self, config: uvicorn.Config) -> None:
        self._to_end = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._begun = threading.Event()
        super().__init__(config)

    @property
    def should_exit(self) -> bool:
        return self._to_end

    @should_exit.setter
    def should_exit(self, to_end: bool) -> None:
        self._to_end = to_end
        if to_end and self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._woken.set)

    def begin(self, listener: socket.socket, patience_s: float) -> threading.Thread:
        """The thread that serves, once it does."""
        thread = threading.Thread(target=self.run, args=([listener],), daemon=True)
        thread.start()
        assert self._begun.wait(patience_s)
        assert self.started
        return thread

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            await super().startup(sockets)
        finally:
            self._begun.set()

    async def main_loop(self) -> None:
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if await self._idle():
            await self.lifespan.shutdown()
        else:
            await super().shutdown(sockets)

    async def _idle(self) -> bool:
        """Whether all connections end within what uvicorn waits for any."""
        for _ in range(20):
            if not self.server_state.connections and not self.server_state.tasks:
                return True
            await asyncio.sleep(_TICK_S / 20)
        return False
