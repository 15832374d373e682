"""Where limits are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from host.server.limits.redis import RedisLimiter
from host.server.limits.store import StoreLimiter

if TYPE_CHECKING:
    from host.server.limits.limit import Limiter
    from host.workspace import Workspace


def open_limiter(url: str | None, workspace: Workspace) -> Limiter:
    """In the Redis at `url`; without one, in the database of `workspace`. To be closed. Raises InputError for a URL of
    another kind, StateError where nobody answers there, or what it takes is not installed; neither has its password."""
    return RedisLimiter.open(url) if url else StoreLimiter(workspace.counters)
