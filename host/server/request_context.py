"""What the server's parts know of one request, from its id to the run that it led to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from host.server.asgi import Scope
from host.service.principal import Principal

UNANSWERED: Final = 499  # as nginx logs a client that left before the answer
_KEY: Final = "catalyst_host.request"
_LOGGED: Final = ("key", "catalyst", "operation", "run", "error")


@dataclass(slots=True)
class RequestContext:
    """One request. `route` is the route that matched, never the path; None stands for what is not known yet.

    `status` is that of the answer, `error` the code of the error in it. `large` says that the body takes long to read,
    `left` that the client left before the end of the answer.
    """

    request_id: str = ""
    route: str = "other"
    principal: Principal | None = None
    catalyst: str | None = None
    operation: str | None = None
    run: str | None = None
    status: int = UNANSWERED
    error: str | None = None
    large: bool = False
    left: bool = False

    @property
    def key(self) -> str | None:
        """The name of the API key: "" for a caller without one."""
        return None if self.principal is None else self.principal.name

    def facts(self) -> dict[str, Any]:
        """The facts for the log: those that are known."""
        pairs = [(name, getattr(self, name)) for name in _LOGGED]
        return {name: value for name, value in pairs if value is not None}


def context_of(scope: Scope) -> RequestContext:
    """The context of the request that `scope` describes: made at the first call, the same one at each further call."""
    found = scope.get(_KEY)
    if not isinstance(found, RequestContext):
        found = scope[_KEY] = RequestContext()
    return found
