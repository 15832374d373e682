"""The work on one batch that the server keeps: its checks, its lines, and its end."""

from __future__ import annotations

import asyncio
import io
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from host.core.strict_json import Json
from host.errors import Busy, HostError, InputError, PolicyError, Unauthenticated
from host.runtime.threads import Workers
from host.service.batches.answers import Asking, BatchAnswer, DispatchEngine
from host.service.batches.kept import (
    counted,
    counts_of,
    ended,
    expired_answer,
    in_status,
    mistake_object,
    mistakes_object,
)
from host.service.batches.lines import (
    PREFIX,
    BatchLine,
    BatchRequest,
    Checked,
    check_input,
    lines_of,
    unfinished,
)
from host.service.batches.work import BatchWork
from host.service.principal import ANONYMOUS_SCOPES, Principal
from host.store.access.batches import Batches, KeptBatch, KeptFile, with_facts

if TYPE_CHECKING:
    from host.service.catalog import Catalog, View
    from host.service.dispatch import Dispatch
    from host.service.limits import Limiter

T = TypeVar("T")

_log = logging.getLogger(__name__)

MOST_LINES: Final = 50_000  # as OpenAI has it
LEASE_S: Final = 20.0
LONGEST_WAIT_S: Final = 60.0  # of a line for a limit, while its batch keeps others from running
AT_ONCE: Final = 8  # batches of one process
_MOST_MISTAKES: Final = 100
READ: Final = 64  # lines or pieces at once
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """`concurrency` lines of one batch run at once. Files are kept for `keep_s` seconds. Those of one key, the
    answers of its batches and what is known of both may have `max_size` bytes together: beyond that no batch is made,
    and one that runs stops."""

    concurrency: int = 16
    keep_s: float = 30 * 86_400.0
    max_size: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Hosting:
    """What batches need of the process. `told` renders an error for callers."""

    catalog: Catalog
    dispatch: Dispatch
    limiter: Limiter
    store: Batches
    settings: BatchSettings
    told: Callable[[HostError], Mapping[str, Any]]
    threads: Workers = field(default_factory=lambda: Workers("host-batches", 2 * AT_ONCE))

    async def briefly(self, work: Callable[[], T]) -> T:
        """The result of `work`, which reads or writes the state."""
        return await self.catalog.off_loop(work)

    async def aside(self, work: Callable[[], T]) -> T:
        """The result of `work`, which may take minutes."""
        return await self.threads.answer(work, math.inf)


class OneBatch:
    """A batch that this process runs, until it ends or another process has it (`lost`). `expires_at` is Unix time."""

    def __init__(self, hosting: Hosting, batch: KeptBatch) -> None:
        self.lost = False
        self._hosting = hosting
        self._store = hosting.store
        self._batch = batch
        self._facts = batch.facts
        self._files = (str(batch.facts["output"]), str(batch.facts["errors_file"]))
        self.expires_at = float(str(batch.facts["expires_at"]))
        self._mark = secrets.token_hex(8)  # which run of it may write: the latest
        self._done: set[int] = set()
        self._room = 0  # bytes that answers may still have, as of the latest look
        self._why: dict[str, Json] | None = None  # the status that it is to end in, with its other facts

    async def run(self) -> None:
        """Raises HostError where it is to go on later."""
        beginning = partial(self._store.change, self._batch.id, lambda now: with_facts(now, by=self._mark))
        await self._hosting.briefly(beginning)
        if not await self._is_over():  # it may have been cancelled, or become too old, before it began
            await self._run()
        if self.lost:
            return
        if self._why is not None and self._why["status"] == "expired":
            await self._hosting.aside(self._expire_rest)
        await self._end(**(self._why or {"status": "completed"}))

    async def _run(self) -> None:
        """Until all lines are run, or there is a `_why`. Raises HostError."""
        running = asyncio.ensure_future(self._work())
        watching = asyncio.ensure_future(self._watch(running))
        try:
            await running
        except asyncio.CancelledError:
            if self._why is None and not self.lost:
                raise
        except Unauthenticated as error:
            self._why = _failed([mistake_object("key_ended", error.message)])
        except PolicyError:  # the operator's, and no line's own
            raise
        except InputError as error:  # the input is not what it was
            self._why = _failed([mistake_object(error.code, error.message)])
        finally:
            running.cancel()
            watching.cancel()
            await asyncio.gather(running, watching, return_exceptions=True)

    async def _work(self) -> None:
        checked = await self._hosting.aside(self._checked)
        if not isinstance(checked, Checked):
            self._why = _failed(checked)
            return
        await self._change(
            lambda now: in_status(with_facts(now, counts=[checked.lines, *counts_of(now)[1:]]), "in_progress")
        )
        self._done = set(await self._hosting.aside(lambda: [*self._store.positions(self._files)]))
        patience_s = max(1.0, self.expires_at - time.time())
        asking = Asking(self._principal, None, None, self._hosting.told, patience_s, longest_s=LONGEST_WAIT_S)
        engine = DispatchEngine(self._hosting.catalog, self._hosting.dispatch, asking)
        concurrency = self._hosting.settings.concurrency

        def written(answer: BatchAnswer) -> None:
            self._room -= len(answer.text) + 1
            if self._room < 0:
                work.stop()

        work = BatchWork(self._batch.id, engine, self, concurrency=concurrency, written=written)
        if not await work.run(self._each(checked)):
            self._why = _failed(
                [mistake_object("out_of_room", "the key's files of batches have as many bytes as they may")]
            )

    def write(self, answers: Sequence[BatchAnswer]) -> None:
        """As of `AnswerSink`."""
        some: dict[str, list[tuple[int, bytes]]] = {file: [] for file in self._files}
        for one in answers:
            some[self._files[one.failed]].append((one.number, one.text))
        tokens = sum(one.tokens.input for one in answers), sum(one.tokens.output for one in answers)
        counting = self._mine(partial(counted, answers=answers, tokens=tokens))
        self._store.change(self._batch.id, counting, answers=some)

    def _checked(self) -> Checked | list[dict[str, Json]]:
        """The whole input, or its mistakes."""
        mistakes: list[dict[str, Json]] = []
        endpoint = str(self._facts["endpoint"])

        def mistake(line: BatchLine, error: InputError) -> None:
            if len(mistakes) < _MOST_MISTAKES:
                mistakes.append(mistake_object(error.code, error.message, line.number, error.field))

        def also(line: BatchLine, request: BatchRequest) -> None:
            if f"{PREFIX}{request.path}" != endpoint:
                said = f"line {line.number}: the url is not the batch's endpoint, {endpoint[:200]}"
                raise InputError(said, field="url")

        file = str(self._facts["input_file_id"])
        if sum(piece.count(b"\n") for _, piece in self._store.pieces(file)) > 2 * MOST_LINES:  # empty ones included
            return [mistake_object("too_many_requests", f"the file has more than {2 * MOST_LINES} lines")]
        try:
            found = check_input(partial(_some_of, partial(lines_of, self._input())), mistake, also)
        except _TooMany:
            mistakes[:] = [mistake_object("too_many_requests", f"the file has more than {MOST_LINES} requests")]
        except InputError as error:
            mistakes.append(mistake_object("duplicate_custom_id", error.message, None, error.field))
        else:
            if not found.lines:
                mistakes.append(mistake_object("empty_file", "the file has no requests"))
            if not mistakes:
                return found
        return mistakes

    def _input(self) -> io.BufferedReader:
        """For one reader: another one may still be at work in a thread."""
        return io.BufferedReader(_Pieces(self._store, str(self._facts["input_file_id"])), 1 << 20)

    async def _each(self, checked: Checked) -> AsyncIterator[BatchLine]:
        lines = unfinished(lines_of(self._input()), checked, self._done.__contains__)
        while found := await self._hosting.aside(lambda: _next(lines)):
            for line in found:
                yield line

    async def _watch(self, running: asyncio.Future[None]) -> None:
        """Renew the lease; end the work where that is over."""
        while True:
            await asyncio.sleep(LEASE_S / 10)
            try:
                over = await self._is_over()
            except HostError as error:
                _log.warning("the batch %s cannot be looked up: %s", self._batch.id, error.code)
                continue
            if over:
                running.cancel()
                return

    async def _is_over(self) -> bool:
        """Whether the batch was cancelled, is too old, has another process, or a key that has ended; else its lease is
        renewed. Raises HostError."""
        now = await self._hosting.briefly(partial(self._store.get, self._batch.id))
        if now is None or now.ended or now.facts.get("by") != self._mark:
            self.lost = True
            return True
        renewed = partial(self._hosting.limiter.lease, f"batch:{self._batch.id}", LEASE_S, anew=True)
        await self._hosting.briefly(renewed)
        held = await self._hosting.briefly(partial(self._store.held, self._batch.owner))
        self._room = self._hosting.settings.max_size - held.bytes
        try:
            self._principal(await self._hosting.catalog.current())
        except Unauthenticated as error:
            self._why = _failed([mistake_object("key_ended", error.message)])
        else:
            if now.facts["status"] == "cancelling":
                self._why = {"status": "cancelled"}
            elif time.time() > self.expires_at:
                self._why = {"status": "expired"}
        return self._why is not None

    def _principal(self, view: View) -> Principal:
        """The holder of the key, as it is now. Raises Unauthenticated."""
        if not self._batch.owner:
            found = Principal(None, ANONYMOUS_SCOPES, anonymous=True)
            found.require_still(view.keys, time.time())
            return found
        key = view.keys.active(self._batch.owner, time.time())
        if key is None:
            raise Unauthenticated("the key of the batch was revoked or has expired")
        return Principal.of(key)

    def _expire_rest(self) -> None:
        """An error for each line that was not run, of an input without mistakes."""
        checked = self._checked()
        if not isinstance(checked, Checked):
            self._why = _failed(checked)
            return
        self._change_now(lambda now: with_facts(now, counts=[checked.lines, *counts_of(now)[1:]]))
        self._done = set(self._store.positions(self._files))
        lines = unfinished(lines_of(self._input()), checked, self._done.__contains__)
        while some := [*islice(lines, 10 * READ)]:
            self.write([expired_answer(self._batch.id, line) for line in some])

    def _mine(self, changed: Callable[[KeptBatch], KeptBatch]) -> Callable[[KeptBatch], KeptBatch]:
        """`changed`, where no other process has the batch meanwhile. It raises Busy where one has."""

        def change(now: KeptBatch) -> KeptBatch:
            if now.ended or now.facts.get("by") != self._mark:
                self.lost = True
                raise Busy("another process goes on with the batch")
            return changed(now)

        return change

    def _change_now(self, changed: Callable[[KeptBatch], KeptBatch]) -> None:
        self._store.change(self._batch.id, self._mine(changed))

    async def _change(self, changed: Callable[[KeptBatch], KeptBatch]) -> None:
        await self._hosting.briefly(partial(self._change_now, changed))

    async def _end(self, **facts: Json) -> None:
        batch = await self._hosting.briefly(partial(self._store.get, self._batch.id))
        if batch is None:
            return
        files, now = dict[str, KeptFile](), time.time()
        lasts_s = batch.facts["results_for_s"]
        until = now + min(
            float(lasts_s) if isinstance(lasts_s, int | float) else math.inf, self._hosting.settings.keep_s
        )
        names = zip(("output_file_id", "error_file_id"), self._files, ("output", "error"), strict=True)
        for name, ident, kind in names:
            size, lines = await self._hosting.briefly(partial(self._store.size_of, ident))
            if lines:
                known: dict[str, Json] = {"filename": f"{batch.id}_{kind}.jsonl", "purpose": "batch_output"}
                files[name] = KeptFile(ident, batch.owner, size + lines, now, until, known)
        named: dict[str, Json] = {name: one.id for name, one in files.items()}
        changed = self._mine(partial(ended, **{**facts, **named}))
        await self._hosting.briefly(partial(self._store.change, batch.id, changed, files=tuple(files.values())))


class _TooMany(Exception):
    """An input has more lines than a batch may have."""


def _some_of(lines: Callable[[], Iterator[BatchLine]]) -> Iterator[BatchLine]:
    """Raises _TooMany, so that what is too long is not read to its end."""
    for count, line in enumerate(lines(), 1):
        if count > MOST_LINES:
            raise _TooMany
        yield line


def _next(lines: Iterator[BatchLine]) -> list[BatchLine]:
    """A few: of long ones fewer."""
    found, size = list[BatchLine](), 0
    for line in lines:
        found.append(line)
        size += len(line.text)
        if len(found) == READ or size >= _READ_BYTES:
            break
    return found


def _failed(mistakes: Sequence[dict[str, Json]]) -> dict[str, Json]:
    return {"status": "failed", "errors": mistakes_object(mistakes)}


class _Pieces(io.RawIOBase):
    """The content of a kept file, from its beginning whenever that is sought."""

    def __init__(self, store: Batches, file: str) -> None:
        self._store = store
        self._file = file
        self._pieces: Iterator[tuple[int, bytes]] = store.pieces(file)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if (offset, whence) != (0, 0):
            raise io.UnsupportedOperation("only to the beginning")
        self._pieces, self._rest = self._store.pieces(self._file), memoryview(b"")
        return 0

    def readinto(self, buffer: Any, /) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._pieces, (0, b""))[1])
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
