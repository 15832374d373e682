"""`host mcp`: the protocol over standard input and output, one message a line, for the user who starts it. It has no
HTTP and no keys.

A daemon thread reads standard input: an interrupt ends the program also during a read. Meanwhile file descriptor 1
leads to standard error, so that nothing but the protocol gets onto standard output.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, BinaryIO, Final

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from host.core.names import Reference
from host.core.strict_json import parse_object
from host.core.waiting import start
from host.errors import InputError
from host.runtime.threads import Workers
from host.server.app import Application
from host.server.asgi import LARGE_BYTES, MAX_VALUES
from host.server.mcp.server import ToolServer
from host.server.settings import MAX_BODY_BYTES
from host.service.principal import Principal
from host.store.access.api_keys import KeyScope

_log = logging.getLogger(__name__)

STDIN, STDOUT, STDERR = 0, 1, 2
LONGEST_LINE: Final = MAX_BODY_BYTES


async def serve(server: Server[Any]) -> None:
    """Until standard input ends, or the reader of standard output has gone."""
    with _standard_streams() as (given, out):
        lines = _Lines(given)
        try:
            async with stdio_server(lines, _Writer(out)) as (read, write):  # type: ignore[arg-type]  # it iterates the one, and writes and flushes the other
                await server.run(read, write, server.create_initialization_options())
        except* BrokenPipeError:
            _log.info("the reader of standard output has gone")


class _Lines:
    """The lines of a file, as they come."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._room = threading.Semaphore(64)  # lines that were read and not taken yet
        start(self._read, name="host-mcp-stdin")

    async def __aiter__(self) -> AsyncIterator[str]:
        while (line := await self._queue.get()) is not None:
            self._room.release()
            yield line

    def _read(self) -> None:
        while line := self._file.readline(LONGEST_LINE + 1):
            self._room.acquire()
            if not self._put(self._bounded(line)):
                return
        self._put(None)

    def _bounded(self, line: bytes) -> str:
        """The line, if it is within the bounds of a request; else one that is no message: the protocol says so."""
        longer = len(line) > LONGEST_LINE
        while len(line) > LONGEST_LINE and not line.endswith(b"\n"):
            line = self._file.readline(LONGEST_LINE + 1)
        if longer:
            _log.warning("a message of more than %s bytes was passed over", LONGEST_LINE)
            return "\n"
        try:
            if len(line) > LARGE_BYTES:
                parse_object(line, "the message", most=MAX_VALUES)
        except InputError as error:
            _log.warning("a message was passed over: %s", error)
            return "\n"
        return line.decode("utf-8", "replace")

    def _put(self, line: str | None) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, line)
        except RuntimeError:  # the loop has closed
            return False
        return True


class _Writer:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._thread = Workers("host-mcp-stdout", 1)

    async def write(self, text: str) -> None:
        """On a thread: a slow reader delays its own answers, and no runs."""
        await self._thread.answer(partial(self._file.write, text.encode("utf-8", "replace")), math.inf)

    async def flush(self) -> None:
        await self._thread.answer(self._file.flush, math.inf)


@contextmanager
def _standard_streams() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Standard input and output, for the protocol alone."""
    given, out = os.dup(STDIN), os.dup(STDOUT)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, STDIN)
    os.close(nothing)
    os.dup2(STDERR, STDOUT)
    try:
        yield os.fdopen(given, "rb", closefd=False), os.fdopen(out, "wb", closefd=False)
    finally:
        os.dup2(given, STDIN)
        os.dup2(out, STDOUT)


SCOPES: Final[frozenset[KeyScope]] = frozenset({"run", "runs", "components"})


def serve_standard_streams(only: Collection[Reference] = (), *, manage: bool = False) -> None:
    """Serve until standard input ends, or the process is interrupted. `only` narrows to some catalysts; with `manage`
    the user can set secrets and policies as well. Raises HostError."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(only, manage=manage))


async def _serve(only: Collection[Reference], *, manage: bool) -> None:
    application = Application()
    try:
        async with application.alive():
            local = Principal(None, SCOPES | {"manage"} if manage else SCOPES)
            tools = ToolServer(application.catalog, application.dispatch, application.workspace, local=local, only=only)
            await serve(tools.server)
    finally:
        application.close()
