"""Whether a request could be answered now: what `/ready` says.

A request needs the state to be as the operator left it, the catalysts of the routing to load (of several for one model,
one of them), a record to be written before its run, the keys of the state to open, and the place that counts limits to
answer. All of that is tried.
Whatever hangs, the answer comes within `READY_S`, and it is at most `FRESH_S` old: probes cost one short transaction a
second.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from host.errors import Busy, HostError
from host.runtime.workspace import Workspace
from host.service.catalog import Catalog, View
from host.service.limits import Limiter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from host.core.names import Reference

READY_S: Final = 1.5  # most probes wait for one or two seconds
FRESH_S: Final = 1.0


class Readiness:
    """One per process, for its event loop."""

    def __init__(self, catalog: Catalog, workspace: Workspace, limiter: Limiter) -> None:
        self._catalog = catalog
        self._workspace = workspace
        self._limiter = limiter
        self._looking: asyncio.Task[str | None] | None = None
        self._code: str | None = None
        self._until = 0.0

    async def failure(self) -> str | None:
        """The code of the error that keeps requests from an answer; None: there is none."""
        if time.monotonic() < self._until:
            return self._code
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
            self._looking.add_done_callback(self._looked)
        try:
            async with asyncio.timeout(READY_S):
                return await asyncio.shield(self._looking)
        except TimeoutError:
            return Busy.code

    async def _look(self) -> str | None:
        try:
            view = await self._catalog.current()
            waited: list[Awaitable[object]] = [
                self._catalog.off_loop(self._workspace.audit_log.check_writable),
                self._catalog.off_loop(self._limiter.check),
                *(self._loadable(view, some) for some in view.routing.alternatives),
            ]
            for one in await asyncio.gather(*waited, return_exceptions=True):
                if isinstance(one, BaseException):
                    raise one
        except HostError as error:
            return error.code
        return None

    async def _loadable(self, view: View, some: Sequence[Reference]) -> None:
        """Raises the first one's error where none of these catalysts loads."""
        loads = (self._catalog.catalyst(view, one) for one in some)
        errors = [one for one in await asyncio.gather(*loads, return_exceptions=True) if isinstance(one, BaseException)]
        if len(errors) == len(some):
            raise errors[0]

    def _looked(self, task: asyncio.Task[str | None]) -> None:
        self._looking = None
        if not task.cancelled():
            self._code = HostError.code if task.exception() is not None else task.result()
            self._until = time.monotonic() + FRESH_S
