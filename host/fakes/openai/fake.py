"""FakeOpenAI: the API, its faults and its memory, put together and served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from host.fakes.journal import Journal
from host.fakes.loopback import LoopbackServer
from host.fakes.messages import Request, Response
from host.fakes.openai import errors
from host.fakes.openai.call import Call, Store
from host.fakes.openai.control import Control, preflight
from host.fakes.openai.faults import Fault, Script
from host.fakes.openai.routes import API, Routes, Table


class FakeOpenAI(LoopbackServer):
    """A deterministic OpenAI on 127.0.0.1: `with FakeOpenAI() as fake:`, then `base_url=fake.url + "/v1"`.

    Answers follow from the hash of what was asked, so equal requests have equal answers; "in 500 words" in the last
    message asks for that many. Any non-empty bearer token is accepted. Nothing is global: each instance has its own
    port (0 = a free one), its own state and its own thread.
    """

    def __init__(self, port: int = 0) -> None:
        self._api = _Api()
        super().__init__(self._api, port)

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What was asked, oldest first (the shape is `Journal.entries`'); all but `/`, `/health`, `/__parlel/…` and
        preflights. Only the newest 10,000 are kept."""
        return self._api.journal.entries()

    def reset(self) -> None:
        """Forget requests, faults, files and responses, and count from one again."""
        self._api.reset()

    def script(self, rules: Iterable[Fault | Mapping[str, Any]]) -> None:
        """Append faults, each a `Fault` or a mapping of its fields. Raises InputError, and then appends none."""
        self._api.script.extend(rule if isinstance(rule, Fault) else Fault.from_dict(rule) for rule in rules)

    def fail_next(self, status: int = 500, *, times: int = 1, **fields: Any) -> None:
        """The next `times` API requests get `status`; `fields` are further ones of `Fault`."""
        self.script([{"status": status, "times": times, **fields}])


class _Api:
    """The application: routes, authorises, spoils, and marks every answer."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.script = Script()
        self._store = Store()
        self._answered = 0
        self._control = Control(self.journal, self.script, self.reset)
        self._routes = Routes({**API, **_control_table(self._control)})

    def reset(self) -> None:
        self.journal.clear()
        self.script.clear()
        self._store = Store()
        self._answered = 0

    def respond(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return self._marked(preflight(request))
        if Control.owns(request.path):
            return self._marked(self._routed(request))
        self.journal.add(request)
        fault = self.script.take(request)
        if fault is None:
            return self._marked(self._routed(request))
        return fault.spoil(self._marked(fault.answer(request) or self._routed(request)))

    def refuse(self, status: int, reason: str) -> Response:
        return self._marked(errors.ApiError(status, reason).response())

    def _routed(self, request: Request) -> Response:
        try:
            handler, parameters = self._routes.find(request.method, request.path)
            if request.path.startswith("/v1/"):
                _authorise(request)
            return handler(Call(request, self._store, parameters))
        except errors.ApiError as error:
            return error.response()

    def _marked(self, response: Response) -> Response:
        self._answered += 1
        marks = {
            "x-request-id": f"req_{self._answered:032x}",
            "openai-processing-ms": "1",
            "openai-version": "2020-10-01",
            "access-control-allow-origin": "*",
            "access-control-expose-headers": "x-request-id",
        }
        return replace(response, headers={**response.headers, **marks})


def _authorise(request: Request) -> None:
    """Any bearer token will do, as long as there is one (RFC 6750, section 2.1)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise errors.missing_key()


def _control_table(control: Control) -> Table:
    return {
        "/": {"GET": control.metadata},
        "/health": {"GET": control.health},
        "/__parlel/reset": {"POST": control.reset},
        "/__parlel/requests": {"GET": control.requests, "DELETE": control.clear_requests},
        "/__parlel/faults": {
            "GET": control.faults,
            "POST": control.add_faults,
            "DELETE": control.clear_faults,
        },
    }
