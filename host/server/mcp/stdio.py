"""`host mcp`: the protocol over standard input and output, one message a line, for the user who starts it. It has no
HTTP and no keys.

A daemon thread reads standard input: an interrupt ends the program also during a read. Meanwhile file descriptor 1
leads to standard error, so that nothing but the protocol gets onto standard output.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
import math
import os
import select
import threading
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, BinaryIO, Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.lowlevel import Server
from mcp.shared.message import SessionMessage
from mcp_types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    JSONRPCError,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from host.core.names import Reference
from host.core.strict_json import Json, parse_json, write_json
from host.core.waiting import start
from host.errors import InputError
from host.runtime.threads import Workers
from host.server.app import Application
from host.server.mcp.messages import RpcMessage, RpcRefusal, read_message
from host.server.mcp.server import ToolServer
from host.server.settings import MAX_BODY_BYTES
from host.service.principal import MAX_VALUES, Principal
from host.store.access.api_keys import KeyScope

_log = logging.getLogger(__name__)

STDIN, STDOUT, STDERR = 0, 1, 2
LONGEST_LINE: Final = MAX_BODY_BYTES
_LOOK_S: Final = 0.5  # after the input's end: how often to look whether somebody still reads the answers


async def serve(server: Server[Any]) -> None:
    """Until standard input ends and every request in it is answered, or the reader of standard output has gone."""
    with _standard_streams() as (given, out):
        await converse(server, given, out)


async def converse(server: Server[Any], given: BinaryIO, out: BinaryIO) -> None:
    """As `serve` does, between any two files that have a descriptor."""
    to_server, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, from_server = anyio.create_memory_object_stream[SessionMessage](0)
    conversation = _Conversation(_Writer(out))
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(conversation.listen, _Lines(given), to_server)
            tasks.start_soon(conversation.answer, from_server)
            await server.run(read, write, server.create_initialization_options())
            await write.aclose()
    except* BrokenPipeError:
        _log.info("the reader of standard output has gone")


class _Batch:
    """The answers to a JSON-RPC batch (MCP had them in 2025-03-26). `left` requests are to be answered."""

    def __init__(self) -> None:
        self.left = 0
        self.answers: list[Json] = []


class _Conversation:
    """What was asked and what was answered. The SDK gets messages that it can read; others are answered here."""

    def __init__(self, wire: _Writer) -> None:
        self._wire = wire
        self._asked: dict[str | int, list[_Batch | None]] = {}  # by the ids of the requests that are not answered yet
        self._all_answered = asyncio.Event()

    async def listen(
        self, lines: AsyncIterable[Json | RpcRefusal], to_server: MemoryObjectSendStream[SessionMessage | Exception]
    ) -> None:
        async with to_server:
            async for given in lines:
                if isinstance(given, list) and given:
                    await self._take_batch(given, to_server)
                else:
                    await self._take(given, to_server)
            while self._asked and not self._wire.unread():
                self._all_answered.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._all_answered.wait(), _LOOK_S)

    async def answer(self, from_server: MemoryObjectReceiveStream[SessionMessage]) -> None:
        async with from_server:
            async for one in from_server:
                message = one.message
                text = message.model_dump_json(by_alias=True, exclude_unset=True)
                if isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
                    waiting = self._asked.get(message.id)
                    if waiting and (batch := waiting[0]) is not None:
                        batch.answers.append(parse_json(text, "the answer"))
                    else:
                        await self._wire.write(text)
                    await self._settle(message.id)
                else:
                    await self._wire.write(text)

    async def _take_batch(self, given: list[Json], to_server: MemoryObjectSendStream[Any]) -> None:
        batch = _Batch()
        batch.left = 1  # until all of it was taken
        for one in given:
            await self._take(one, to_server, batch)
        await self._finish(batch)

    async def _take(
        self, given: Json | RpcRefusal, to_server: MemoryObjectSendStream[Any], batch: _Batch | None = None
    ) -> None:
        read = given if isinstance(given, RpcRefusal) else read_message(given)
        if isinstance(read, RpcMessage):
            try:
                message = SessionMessage(jsonrpc_message_adapter.validate_python(read.value, by_name=False))
            except ValidationError:
                read = RpcRefusal(INVALID_REQUEST, "the message is none of JSON-RPC 2.0", read.ident)
        if isinstance(read, RpcRefusal):
            if batch is None:
                await self._wire.write(write_json(read.body()))
            else:
                batch.answers.append(read.body())
            return
        if read.method and read.ident is not None:
            self._asked.setdefault(read.ident, []).append(batch)
            if batch is not None:
                batch.left += 1
        await to_server.send(message)
        if read.cancels is not None:
            await self._settle(read.cancels)  # what is cancelled is not answered

    async def _settle(self, ident: str | int) -> None:
        if not (waiting := self._asked.get(ident)):
            return
        batch = waiting.pop(0)
        if not waiting:
            del self._asked[ident]
        if not self._asked:
            self._all_answered.set()
        if batch is not None:
            await self._finish(batch)

    async def _finish(self, batch: _Batch) -> None:
        """One part of the batch less; after the last, its answers go out as one list."""
        batch.left -= 1
        if not batch.left and batch.answers:
            await self._wire.write(write_json(batch.answers))


class _Lines:
    """The messages of a file, one a line, as they come; in place of what is no JSON, the answer to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Json | RpcRefusal | _End] = asyncio.Queue()
        self._room = threading.Semaphore(64)  # lines that were read and not taken yet
        start(self._read, name="host-mcp-stdin")

    async def __aiter__(self) -> AsyncIterator[Json | RpcRefusal]:
        while not isinstance(given := await self._queue.get(), _End):
            self._room.release()
            yield given

    def _read(self) -> None:
        while line := self._file.readline(LONGEST_LINE + 1):
            if len(line) <= LONGEST_LINE and not (line := line.removeprefix(codecs.BOM_UTF8)).strip():
                continue
            self._room.acquire()
            if not self._put(self._parsed(line)):
                return
        self._put(_End())

    def _parsed(self, line: bytes) -> Json | RpcRefusal:
        """The value in the line, if that is within the bounds of a request."""
        longer = len(line) > LONGEST_LINE
        while len(line) > LONGEST_LINE and not line.endswith(b"\n"):
            line = self._file.readline(LONGEST_LINE + 1)
        if longer:
            return RpcRefusal(INVALID_REQUEST, f"the message has more than {LONGEST_LINE} bytes")
        try:
            return parse_json(line, "the message", most=MAX_VALUES)
        except InputError as error:
            return RpcRefusal(PARSE_ERROR, error.message)

    def _put(self, given: Json | RpcRefusal | _End) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, given)
        except RuntimeError:  # the loop has closed
            return False
        return True


class _End:
    """The end of standard input."""


class _Writer:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._thread = Workers("host-mcp-stdout", 1)

    async def write(self, text: str) -> None:
        """One line. On a thread: a slow reader delays its own answers, and no runs."""
        await self._thread.answer(partial(self._written, text.encode("utf-8", "replace") + b"\n"), math.inf)

    def unread(self) -> bool:
        """Whether nobody can read what is written."""
        poll = select.poll()
        poll.register(self._file, 0)
        return any(seen & (select.POLLERR | select.POLLHUP) for _, seen in poll.poll(0))

    def _written(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()


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


def serve_standard_streams(
    only: Collection[Reference] = (), *, listed: Sequence[str] = (), manage: bool = False
) -> None:
    """Serve until standard input ends, or the process is interrupted. `only` narrows to some catalysts, `listed` are
    the globs of `Operations`; with `manage` the user can set secrets and policies as well. Raises HostError."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(only, listed, manage=manage))


async def _serve(only: Collection[Reference], listed: Sequence[str], *, manage: bool) -> None:
    application = Application()
    try:
        async with application.alive():
            local = Principal(None, SCOPES | {"manage"} if manage else SCOPES)
            catalog, dispatch, workspace = application.catalog, application.dispatch, application.workspace
            tools = ToolServer(catalog, dispatch, workspace, local=local, only=only, listed=listed)
            await serve(tools.server)
    finally:
        application.close()
