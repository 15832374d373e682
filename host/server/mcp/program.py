"""The server for one user, who starts it: over standard input and output, without HTTP and without keys."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from host.names import Reference
from host.server.app import Application
from host.server.mcp.desk import Desk
from host.server.mcp.stdio import serve as serve_stdio
from host.server.principal import Principal
from host.state.api_keys import Scope

SCOPES: Final[frozenset[Scope]] = frozenset({"run", "runs", "components"})


def serve(only: Collection[Reference] = (), *, manage: bool = False) -> None:
    """Until standard input ends, or the process is interrupted. `only` narrows to some catalysts; with `manage` secrets
    and policies can be set as well. Raises HostError."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(only, manage=manage))


async def _serve(only: Collection[Reference], *, manage: bool) -> None:
    application = Application()
    try:
        async with application.alive():
            local = Principal(None, SCOPES | {"manage"} if manage else SCOPES)
            desk = Desk(application.served, application.runner, application.workspace, local=local, only=only)
            await serve_stdio(desk.server)
    finally:
        application.close()
