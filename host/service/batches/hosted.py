"""Batches that a server runs itself, for upstreams that have none: OpenAI's batches and their files, by its names.

A batch belongs to the API key that made it, and each of its lines is a request of that key: its limits, its budgets and
what it may do hold. Any process that shares the state may run it, one at a time (a lease says which); where that one
ends, another goes on, and no line that is finished is run again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Final

from host.core.audit import Event
from host.core.slots import fair
from host.core.strict_json import Json
from host.errors import Busy, HostError, InputError, LimitExceeded, NotFound
from host.service.batches.hosted_work import AT_ONCE, LEASE_S, READ, Hosting, OneBatch
from host.service.batches.kept import batch_object, file_object, in_status, read_lifetime, read_metadata
from host.service.batches.lines import PREFIX
from host.service.principal import Principal
from host.store.access.batches import KeptBatch, KeptFile, KeptSizes

_log = logging.getLogger(__name__)

FILE: Final = "file-hosted-"
BATCH: Final = "batch_hosted_"
WINDOW_S: Final = 86_400.0
_LOOK_S: Final = 1.0
_AGAIN_S: Final = 15.0  # after an error that was no line's own
_REST_S: Final = 300.0  # of a batch that waits for a limit, in which others run
_SWEEP_S: Final = 600.0
_LONGEST_PAUSE_S: Final = 7 * 86_400.0  # for which no server runs, and a batch still finds its input
_LONGEST_NAME: Final = 512
_ENDPOINT: Final = re.compile(rf"{PREFIX}/[\w./:-]{{1,200}}", re.ASCII)
MOST_OPEN: Final = 100  # batches of one key that have not ended
MOST_KEPT: Final = 10_000  # files of one key, and batches


@dataclass(slots=True)
class HostedBatches:
    """One per process, for its event loop."""

    hosting: Hosting
    _running: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _owners: Counter[str] = field(default_factory=Counter)  # of those that run
    _again: dict[str, float] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    # for the face: what OpenAI's API answers

    async def create_file(
        self, principal: Principal, name: str, content: bytes, lasts_s: float | None = None
    ) -> dict[str, Json]:
        """The file object. Raises InputError, LimitExceeded."""
        if len(name) > _LONGEST_NAME:
            raise InputError(f"the file's name has more than {_LONGEST_NAME} characters", field="file")
        now = time.time()
        facts: dict[str, Json] = {"filename": name, "purpose": "batch"}
        ident = f"{FILE}{secrets.token_hex(12)}"
        keep_s = min(lasts_s or math.inf, self.hosting.settings.keep_s)
        file = KeptFile(ident, principal.id, len(content), now, now + keep_s, facts)
        await self._record(principal, "files.create", ident)
        await self.hosting.aside(partial(self.hosting.store.add_file, file, content, self._check_room))
        return file_object(file)

    async def file(self, principal: Principal, ident: str) -> KeptFile:
        """Raises NotFound, alike for unknown files and those of other keys."""
        found = await self.hosting.briefly(partial(self.hosting.store.file, principal.id, ident))
        if found is None:
            raise NotFound(f"there is no file {ident[:80]!r}", field="file_id")
        return found

    async def files(
        self,
        principal: Principal,
        purpose: str | None = None,
        after: str | None = None,
        *,
        most: int,
        oldest_first: bool = False,
    ) -> list[KeptFile]:
        """At most so many, the newest first. Raises NotFound where there is none `after`."""
        some = partial(self.hosting.store.files, principal.id, purpose, after, most=most, oldest_first=oldest_first)
        return await self.hosting.briefly(some)

    async def content(self, file: KeptFile) -> AsyncIterator[bytes]:
        """Its bytes, in pieces."""
        pieces = self.hosting.store.pieces(file.id)
        lines = file.facts["purpose"] != "batch"  # its pieces are lines

        def some() -> list[bytes]:
            return [piece + b"\n" if lines else piece for _, piece in islice(pieces, READ)]

        while found := await self.hosting.briefly(some):
            yield b"".join(found)

    async def delete_file(self, principal: Principal, ident: str) -> dict[str, Json]:
        """Raises NotFound; InputError where a batch that has not ended needs it."""
        await self.file(principal, ident)
        await self._record(principal, "files.delete", ident)
        if not await self.hosting.briefly(partial(self.hosting.store.delete_file, principal.id, ident)):
            raise NotFound(f"there is no file {ident[:80]!r}", field="file_id")
        return {"id": ident, "object": "file", "deleted": True}

    async def create(self, principal: Principal, given: Mapping[str, Json]) -> dict[str, Json]:
        """The batch object. Raises InputError, NotFound, LimitExceeded."""
        source, endpoint, window = (given.get(name) for name in ("input_file_id", "endpoint", "completion_window"))
        if not isinstance(source, str):
            raise InputError("input_file_id is no text", field="input_file_id")
        if not isinstance(endpoint, str) or not _ENDPOINT.fullmatch(endpoint):
            raise InputError(
                "endpoint has to be a short path below /v1/",
                field="endpoint",
                hint="like /v1/chat/completions",
            )
        if window != "24h":
            raise InputError("completion_window has to be 24h", field="completion_window")
        file = await self.file(principal, source)
        if file.facts["purpose"] != "batch":
            raise InputError("the file's purpose has to be batch", field="input_file_id")
        now = time.time()
        ident = f"{BATCH}{secrets.token_hex(12)}"
        facts: dict[str, Json] = {
            "status": "validating",
            "endpoint": endpoint,
            "input_file_id": source,
            "metadata": read_metadata(given.get("metadata")),
            "results_for_s": read_lifetime(given.get("output_expires_after")),
            "output": f"{FILE}{secrets.token_hex(12)}",
            "errors_file": f"{FILE}{secrets.token_hex(12)}",
            "expires_at": now + WINDOW_S,
            "counts": [0, 0, 0],
            "tokens": [0, 0],
        }
        batch = KeptBatch(ident, principal.id, False, now, now + WINDOW_S + self.hosting.settings.keep_s, facts)
        await self._record(principal, "batches.create", ident)
        adding = partial(
            self.hosting.store.add, batch, input_until=now + WINDOW_S + _LONGEST_PAUSE_S, check=self._check_room
        )
        await self.hosting.briefly(adding)
        self._changed.set()
        return batch_object(batch)

    async def retrieve(self, principal: Principal, ident: str) -> dict[str, Json]:
        """Raises NotFound, alike for unknown batches and those of other keys."""
        found = await self.hosting.briefly(partial(self.hosting.store.get, ident, principal.id))
        if found is None:
            raise NotFound(f"there is no batch {ident[:80]!r}", field="batch_id")
        return batch_object(found)

    async def batches(self, principal: Principal, after: str | None = None, *, most: int) -> list[dict[str, Json]]:
        """At most so many, the newest first. Raises NotFound where there is none `after`."""
        found = await self.hosting.briefly(partial(self.hosting.store.of_owner, principal.id, after, most=most))
        return [batch_object(one) for one in found]

    async def cancel(self, principal: Principal, ident: str) -> dict[str, Json]:
        """Lines under way end soon; those that are finished stay. Raises NotFound; InputError where it has ended."""
        shown = await self.retrieve(principal, ident)
        await self._record(principal, "batches.cancel", ident)

        def cancelling(batch: KeptBatch) -> KeptBatch:
            return batch if batch.ended or batch.facts["status"] == "cancelling" else in_status(batch, "cancelling")

        found = await self.hosting.briefly(partial(self.hosting.store.change, ident, cancelling))
        self._again.pop(ident, None)
        if found is None or found.ended:
            raise InputError(f"the batch is {shown['status']}, and cannot be cancelled", field="batch_id")
        self._changed.set()
        return batch_object(found)

    async def _record(self, principal: Principal, operation: str, ident: str) -> None:
        """Before it is done. Raises AuditError, StateError."""
        detail = {"key": principal.id, "id": ident}
        await self.hosting.dispatch.record(Event("batch.asked", "", "allow", operation, detail))

    def _check_room(self, held: KeptSizes) -> None:
        """Raises LimitExceeded."""
        for many, most, unit, said in (
            (
                held.bytes,
                self.hosting.settings.max_size,
                "bytes",
                "the key has as many bytes of batches",
            ),
            (held.open, MOST_OPEN, "batches", "the key has as many batches that have not ended"),
            (held.files, MOST_KEPT, "files", "the key has as many files of batches"),
            (held.batches, MOST_KEPT, "batches", "the key has as many batches"),
        ):
            if many > most:
                hint = "delete files of batches that are done, or wait for an end"
                raise LimitExceeded(f"{said} as it may", unit=unit, retry_after_s=3_600.0, hint=hint)

    # the work

    async def work(self) -> None:
        """Run the batches there are, until the task is cancelled. Then those under way are left for others."""
        swept = -math.inf
        try:
            while True:
                self._changed.clear()
                try:
                    await self._look()
                    if time.monotonic() - swept > _SWEEP_S:
                        swept = time.monotonic()
                        await self.hosting.briefly(self.hosting.store.sweep)
                except HostError as error:
                    _log.warning("batches cannot be looked up: %s", error.code)
                except Exception:  # noqa: BLE001 - else batches would end for this process, unsaid
                    _log.exception("batches cannot be looked up")
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await self._changed.wait()
        finally:
            running = [*self._running.values()]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            self.hosting.threads.close(_LOOK_S)

    async def _look(self) -> None:
        """Begin or go on with those that nobody runs."""
        for ident, owner in await self.hosting.briefly(self.hosting.store.open_batches):
            if ident in self._running or self._again.get(ident, 0.0) > time.monotonic():
                continue
            if not fair(self._owners[owner], AT_ONCE - len(self._running)):
                continue  # a key that is alone has half of them
            if await self.hosting.briefly(partial(self.hosting.limiter.lease, f"batch:{ident}", LEASE_S)):
                continue  # another process has it
            self._again.pop(ident, None)
            task = self._running[ident] = asyncio.get_running_loop().create_task(self._run(ident))
            self._owners[owner] += 1
            task.add_done_callback(partial(self._ran, ident, owner))

    def _ran(self, ident: str, owner: str, task: asyncio.Task[None]) -> None:
        del self._running[ident]
        self._owners[owner] -= 1
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._again[ident] = time.monotonic() + _AGAIN_S
            _log.warning("the batch %s stopped, and goes on later: %s", ident, error)

    async def _run(self, ident: str) -> None:
        one = None
        try:
            batch = await self.hosting.briefly(partial(self.hosting.store.get, ident))
            if batch is not None and not batch.ended:
                one = OneBatch(self.hosting, batch)
                await one.run()
        except HostError as error:
            rest_s = _REST_S if isinstance(error, Busy) else _AGAIN_S
            if one is not None and (left_s := one.expires_at - time.time()) > 0:
                rest_s = min(rest_s, left_s)
            self._again[ident] = time.monotonic() + rest_s
            _log.warning("the batch %s stopped, and goes on later: %s", ident, error)
        finally:
            if one is None or not one.lost:
                with suppress(HostError):
                    await asyncio.shield(self.hosting.briefly(partial(self.hosting.limiter.release, f"batch:{ident}")))
