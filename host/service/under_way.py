"""The runs of this process that are under way, by their ids."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final, Generic, Protocol, TypeVar

_LONGEST_END_S: Final = 5.0  # a cancelled run ends at the next epoch, or at the next host call


class Cancellable(Protocol):
    id: str

    def cancel(self) -> None: ...


R = TypeVar("R", bound=Cancellable)


class UnderWay(Generic[R]):
    """For one event loop."""

    def __init__(self) -> None:
        self._running: dict[str, R] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> Mapping[str, R]:
        """This process's runs, by their ids."""
        return self._running

    def cancel(self, ids: Collection[str]) -> None:
        """Cancel those of the runs that are this process's."""
        for ident in ids:
            if (running := self._running.get(ident)) is not None:
                running.cancel()

    async def end(self) -> None:
        """Cancel every run, and return once all have ended."""
        self.cancel(tuple(self._running))
        with suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_END_S):
                await self._idle.wait()

    def goes_on(self, running: R, ident: str) -> None:
        """`running` goes on as the run of this id."""
        before, running.id = running.id, ident
        self._running[ident] = self._running.pop(before, running)
