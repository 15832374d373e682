"""A request that waits for its catalyst to be compiled waits no longer than its run may take."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from host.errors import DeadlineExceeded
from host.service.dispatch import Dispatch


class _Compiling:
    """A catalog whose catalyst is there once `done` is set."""

    def __init__(self) -> None:
        self.done = asyncio.Event()

    async def catalyst(self, view: Any, reference: Any) -> str:
        await asyncio.shield(self.done.wait())
        return f"{reference}, compiled"


def test_a_request_ends_at_its_timeout_and_the_next_finds_what_was_compiled() -> None:
    async def requests() -> str:
        dispatch: Any = object.__new__(Dispatch)
        dispatch._catalog = catalog = _Compiling()  # all that loading asks for
        resolved = SimpleNamespace(reference="c:local.x", request=SimpleNamespace(timeout_s=0.05))
        with pytest.raises(DeadlineExceeded, match="loading"):
            await dispatch._loaded(resolved, None)
        catalog.done.set()
        found: str = await dispatch._loaded(resolved, None)
        return found

    assert asyncio.run(requests()) == "c:local.x, compiled"
