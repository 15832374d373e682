"""What a fake offers besides OpenAI's API: `/`, `/health`, and `/__parlel/…` for tests that steer it over HTTP.
None of it needs a key, is captured, or can be made to fail."""

from __future__ import annotations

import json
from collections.abc import Callable

from host.errors import InputError
from host.fakes.journal import RequestLog
from host.fakes.messages import Request, Response
from host.fakes.openai import errors
from host.fakes.openai.call import Call
from host.fakes.openai.faults import Fault, Script

_PREFIX = "/__parlel/"


class Control:
    """Handlers over the fake's own parts; `reset` puts all of it back to its beginning."""

    def __init__(self, journal: RequestLog, script: Script, reset: Callable[[], None]) -> None:
        self._journal = journal
        self._script = script
        self._reset = reset

    @staticmethod
    def owns(path: str) -> bool:
        return path in {"/", "/health"} or path.startswith(_PREFIX)

    def metadata(self, call: Call) -> Response:
        return Response.json(
            {
                "name": "openai",
                "description": "A deterministic fake of the OpenAI API.",
                "base_url": f"{call.request.server_url}/v1",
                "health": "/health",
                "requests": f"{_PREFIX}requests",
                "faults": f"{_PREFIX}faults",
                "reset": f"{_PREFIX}reset",
            }
        )

    def health(self, call: Call) -> Response:
        del call
        return Response.json({"status": "ok"})

    def reset(self, call: Call) -> Response:
        del call
        self._reset()
        return Response.json({"status": "ok"})

    def requests(self, call: Call) -> Response:
        del call
        entries = self._journal.entries()
        return Response.json({"requests": entries, "count": len(entries)})

    def clear_requests(self, call: Call) -> Response:
        self._journal.clear()
        return self.requests(call)

    def faults(self, call: Call) -> Response:
        del call
        pending = [fault.as_dict() for fault in self._script]
        return Response.json({"faults": pending, "count": len(pending)})

    def add_faults(self, call: Call) -> Response:
        """The body is a list of rules, or one rule; either all of them are taken or none."""
        try:
            given = json.loads(call.request.body)
            rules = [Fault.from_dict(rule) for rule in (given if isinstance(given, list) else [given])]
        except InputError as error:
            raise errors.ApiError(400, error.message, param=error.field, code="invalid_fault") from error
        except (ValueError, RecursionError) as error:
            raise errors.ApiError(400, "The faults are not JSON.", code="invalid_fault") from error
        self._script.extend(rules)
        return self.faults(call)

    def clear_faults(self, call: Call) -> Response:
        self._script.clear()
        return self.faults(call)


def preflight(request: Request) -> Response:
    """CORS (fetch.spec.whatwg.org): every origin, method and header is welcome."""
    return Response(
        204,
        {
            "access-control-allow-methods": "GET, HEAD, POST, DELETE, OPTIONS",
            "access-control-allow-headers": request.headers.get("access-control-request-headers", "*"),
            "access-control-max-age": "86400",
        },
    )
