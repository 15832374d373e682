"""A request that waits for its catalyst to be compiled waits no longer than its run may take."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from host.core.names import Reference
from host.errors import DeadlineExceeded
from host.service.catalog import Catalog


class _NotLoaded:
    """A view."""

    def loaded(self, reference: Reference) -> None: ...


def test_a_request_ends_at_its_timeout_and_the_next_finds_what_was_compiled() -> None:
    async def requests() -> Any:
        view: Any = _NotLoaded()
        reference, compiled = Reference.parse("c:local.x"), asyncio.get_running_loop().create_future()
        catalog: Any = object.__new__(Catalog)
        catalog._loading = {(view, reference): compiled}  # all that loading asks for
        with pytest.raises(DeadlineExceeded, match="loading"):
            await catalog.catalyst(view, reference, 0.05)
        compiled.set_result("compiled")
        return await catalog.catalyst(view, reference, 0.05)

    assert asyncio.run(requests()) == "compiled"
