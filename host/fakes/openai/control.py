"""The endpoints of a fake beside OpenAI's: `/`, `/health`, and `/__parlel/…` to control it over HTTP.

They need no key, are not logged, and faults do not apply to them.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from host.errors import InputError
from host.fakes.messages import FakeRequest, FakeResponse
from host.fakes.openai import errors
from host.fakes.openai.call import ApiCall
from host.fakes.openai.faults import Fault, FaultScript
from host.fakes.request_log import RequestLog

_PREFIX = "/__parlel/"


class Control:
    """The handlers. `reset` returns the fake to its initial state; `advance` sets its clock forward by seconds."""

    def __init__(
        self, request_log: RequestLog, script: FaultScript, reset: Callable[[], None], advance: Callable[[int], int]
    ) -> None:
        self._request_log = request_log
        self._script = script
        self._reset = reset
        self._advance = advance

    @staticmethod
    def owns(path: str) -> bool:
        return path in {"/", "/health"} or path.startswith(_PREFIX)

    def metadata(self, call: ApiCall) -> FakeResponse:
        return FakeResponse.json(
            {
                "name": "openai",
                "description": "A deterministic fake of the OpenAI API.",
                "base_url": f"{call.request.server_url}/v1",
                "health": "/health",
                "requests": f"{_PREFIX}requests",
                "faults": f"{_PREFIX}faults",
                "reset": f"{_PREFIX}reset",
                "clock": f"{_PREFIX}clock",
            }
        )

    def health(self, call: ApiCall) -> FakeResponse:
        del call
        return FakeResponse.json({"status": "ok"})

    def reset(self, call: ApiCall) -> FakeResponse:
        del call
        self._reset()
        return FakeResponse.json({"status": "ok"})

    def clock(self, call: ApiCall) -> FakeResponse:
        del call
        return FakeResponse.json({"now": self._advance(0)})

    def advance(self, call: ApiCall) -> FakeResponse:
        """The body is `{"seconds": N}`."""
        return FakeResponse.json({"now": self._advance(call.params.integer("seconds", 0, low=0))})

    def requests(self, call: ApiCall) -> FakeResponse:
        del call
        entries = self._request_log.entries()
        return FakeResponse.json({"requests": entries, "count": len(entries)})

    def clear_requests(self, call: ApiCall) -> FakeResponse:
        self._request_log.clear()
        return self.requests(call)

    def faults(self, call: ApiCall) -> FakeResponse:
        del call
        pending = [fault.as_dict() for fault in self._script]
        return FakeResponse.json({"faults": pending, "count": len(pending)})

    def add_faults(self, call: ApiCall) -> FakeResponse:
        """The body is one rule or a list of rules. Takes all of them or none."""
        try:
            given = json.loads(call.request.body)
            rules = [Fault.from_dict(rule) for rule in (given if isinstance(given, list) else [given])]
        except InputError as error:
            raise errors.ApiError(400, error.message, param=error.field, code="invalid_fault") from error
        except (ValueError, RecursionError) as error:
            raise errors.ApiError(400, "The faults are not JSON.", code="invalid_fault") from error
        self._script.extend(rules)
        return self.faults(call)

    def clear_faults(self, call: ApiCall) -> FakeResponse:
        self._script.clear()
        return self.faults(call)


def preflight(request: FakeRequest) -> FakeResponse:
    """CORS (fetch.spec.whatwg.org): allows every origin, method and header."""
    return FakeResponse(
        204,
        {
            "access-control-allow-methods": "GET, HEAD, POST, DELETE, OPTIONS",
            "access-control-allow-headers": request.headers.get("access-control-request-headers", "*"),
            "access-control-max-age": "86400",
        },
    )
