"""FakeOpenAI: the table of endpoints, and the application that serves them with its faults, log and state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any
from urllib.parse import unquote

from host.fakes.messages import FakeRequest, FakeResponse
from host.fakes.openai import (
    agents,
    analysis,
    batches,
    completions,
    containers,
    conversations,
    errors,
    evals,
    files,
    fine_tuning,
    live,
    media,
    models,
    organization,
    responses,
    rest,
    runs,
    skills,
    stored_chats,
    threads,
    vector_stores,
    videos,
    webhooks,
)
from host.fakes.openai.call import ApiCall, EndpointTable, FakeState, Handler
from host.fakes.openai.control import Control, preflight
from host.fakes.openai.faults import Fault, FaultScript
from host.fakes.openai.realtime import calls, secrets
from host.fakes.openai.realtime.sockets import faulty, open_socket
from host.fakes.openai.shapes import SHAPES, Shape
from host.fakes.openai.specification import operations
from host.fakes.request_log import RequestLog
from host.fakes.server import LoopbackServer
from host.fakes.websocket import FakeSocket, is_upgrade

# The endpoints with a handler of their own. Every other operation of the specification has the one of rest.py.
_OWN: tuple[EndpointTable, ...] = (
    {
        "/v1/completions": {"POST": completions.create_completion},
        "/v1/embeddings": {"POST": analysis.embed},
        "/v1/moderations": {"POST": analysis.moderate},
        "/v1/realtime/client_secrets": {"POST": secrets.create_client_secret},
        "/v1/realtime/translations/client_secrets": {"POST": secrets.create_translation_secret},
        "/v1/realtime/sessions": {"POST": secrets.create_session},
        "/v1/realtime/transcription_sessions": {"POST": secrets.create_transcription_session},
        "/v1/realtime/calls": {"POST": calls.create_call},
        "/v1/realtime/calls/{call_id}/accept": {"POST": calls.accept_call},
        "/v1/realtime/calls/{call_id}/reject": {"POST": calls.reject_call},
        "/v1/realtime/calls/{call_id}/refer": {"POST": calls.refer_call},
        "/v1/realtime/calls/{call_id}/hangup": {"POST": calls.hang_up},
    },
    agents.ENDPOINTS,
    batches.ENDPOINTS,
    containers.ENDPOINTS,
    conversations.ENDPOINTS,
    evals.ENDPOINTS,
    files.ENDPOINTS,
    fine_tuning.ENDPOINTS,
    live.ENDPOINTS,
    media.ENDPOINTS,
    models.ENDPOINTS,
    organization.ENDPOINTS,
    responses.ENDPOINTS,
    runs.ENDPOINTS,
    skills.ENDPOINTS,
    stored_chats.ENDPOINTS,
    threads.ENDPOINTS,
    vector_stores.ENDPOINTS,
    videos.ENDPOINTS,
    webhooks.ENDPOINTS,
)


@cache
def _api() -> EndpointTable:
    """Every endpoint of the API."""
    table: dict[str, dict[str, Handler]] = {}
    for own in _OWN:
        for path, methods in own.items():
            table.setdefault(path, {}).update(methods)
    for (method, path), operation in operations().items():
        if method not in table.setdefault(path, {}):
            table[path][method] = rest.handler(operation)
    return table


class EndpointRoutes:
    """Finds the handler for a method and path: a tree of the steps of the paths, in which a name comes before a
    parameter."""

    def __init__(self, table: EndpointTable) -> None:
        self._tree: dict[str | None, Any] = {}  # at None: the paths that end there
        for path in table:
            node = self._tree
            for step in path.split("/"):
                node = node.setdefault("{}" if step[:1] == "{" else step, {})
            node.setdefault(None, []).append(path)
        self._table = table

    def find(self, method: str, path: str) -> tuple[Handler, str, dict[str, str]]:
        """Returns the handler, its path with {names}, and the decoded parameters. HEAD is handled like GET.

        Raises ApiError: 404 for an unknown path, 405 for a method that the path does not have.
        """
        steps = path.split("/")
        templates = list(self._below(self._tree, steps, 0))
        if not templates:
            raise errors.not_found(f"Invalid URL ({method} {path})")
        asked = "GET" if method == "HEAD" else method
        template = next((one for one in templates if asked in self._table[one]), None)
        if template is None:
            message = f"Not allowed to {method} on {path} (HINT: Perhaps you meant to use a different HTTP method?)"
            allowed = {"allow": ", ".join(sorted({name for one in templates for name in self._table[one]}))}
            raise errors.ApiError(405, message, code="method_not_supported", headers=allowed)
        pairs = zip(template.split("/"), steps, strict=True)
        return (
            self._table[template][asked],
            template,
            {name[1:-1]: unquote(step) for name, step in pairs if name[:1] == "{"},
        )

    def _below(self, node: dict[str | None, Any], steps: list[str], at: int) -> Iterator[str]:
        if at == len(steps):
            yield from node.get(None, ())
            return
        for name in (steps[at], "{}") if steps[at] else ("",):
            if name in node:
                yield from self._below(node[name], steps, at + 1)


class FakeOpenAI(LoopbackServer):
    """A deterministic OpenAI on 127.0.0.1: `with FakeOpenAI() as fake:`, then `base_url=fake.url + "/v1"`.

    Equal requests get equal answers, made from a hash of the request; "in 500 words" in the last message sets the
    length. Administration takes a bearer token that begins with `sk-admin`, everything else any other one. Each
    instance has its own port (0: a free one), state, clock and thread.

    What OpenAI does in the background goes on by one step each time that somebody asks for its object. The clock
    stands still until `advance`, which is how uploads, containers and the like expire. With `shape`, one of SHAPES,
    it has the paths, keys and errors of another server.
    """

    def __init__(self, port: int = 0, *, shape: str = "") -> None:
        self._shape = SHAPES[shape] if shape else None
        self._api = _Api(self._shape)
        super().__init__(self._api, port)

    @property
    def base_url(self) -> str:
        """The URL up to and with the version, or Azure's part before it. Raises StateError while it does not run."""
        return self.url + (self._shape.base if self._shape else "/v1")

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The newest 10,000 requests, oldest first, in the form of `RequestLog.entries`.

        Without `/`, `/health`, `/__parlel/…` and preflights.
        """
        return self._api.request_log.entries()

    def reset(self) -> None:
        """Forgets requests, faults and everything stored, sets the clock back and restarts the numbering."""
        self._api.reset()

    def advance(self, seconds: int) -> None:
        """Sets the fake's clock forward."""
        self._api.advance(seconds)

    def script(self, rules: Iterable[Fault | Mapping[str, Any]]) -> None:
        """Appends faults, each a `Fault` or a mapping of its fields. Raises InputError, and then appends none."""
        self._api.script.extend(rule if isinstance(rule, Fault) else Fault.from_dict(rule) for rule in rules)

    def fail_next(self, status: int = 500, *, times: int = 1, **fields: Any) -> None:
        """Answers the next `times` API requests with `status`. `fields` are other fields of `Fault`."""
        self.script([{"status": status, "times": times, **fields}])


class _Api:
    """The application: logs and routes each request, applies faults, and adds OpenAI's headers."""

    def __init__(self, shape: Shape | None = None) -> None:
        self._shape = shape
        self.request_log = RequestLog()
        self.script = FaultScript()
        self._state = FakeState()
        self._answered = 0
        self._control = Control(self.request_log, self.script, self.reset, self.advance)
        self._routes = EndpointRoutes({**_api(), **_control_table(self._control)})

    def reset(self) -> None:
        self.request_log.clear()
        self.script.clear()
        self._state = FakeState()
        self._answered = 0

    def advance(self, seconds: int) -> int:
        """Returns the new time."""
        self._state.objects.now += seconds
        return self._state.objects.now

    def respond(self, request: FakeRequest) -> FakeResponse | FakeSocket:
        if request.method == "OPTIONS":
            return self._with_headers(preflight(request))
        if Control.owns(request.path):
            return self._with_headers(self._route(request))
        self.request_log.add(request)
        mapped = request if self._shape is None or request.path.startswith("/images/") else self._shape.mapped(request)
        if isinstance(mapped, FakeResponse):
            return self._with_headers(mapped)
        fault = self.script.take(mapped)
        if is_upgrade(mapped):
            return self._connected(mapped, fault)
        if fault is None:
            return self._with_headers(self._route(mapped))
        return fault.apply(self._with_headers(fault.answer(mapped) or self._route(mapped)))

    def refuse(self, status: int, reason: str) -> FakeResponse:
        return self._with_headers(errors.ApiError(status, reason).response())

    def _connected(self, request: FakeRequest, fault: Fault | None) -> FakeResponse | FakeSocket:
        """A WebSocket, or the answer in its place."""
        refused = fault and fault.answer(request)
        try:
            opened = refused or open_socket(request, self._state, self._created)
        except errors.ApiError as error:
            opened = error.response()
        if isinstance(opened, FakeSocket):
            return opened if fault is None else faulty(opened, fault)
        return self._with_headers(opened) if fault is None else fault.apply(self._with_headers(opened))

    def _created(self, request: FakeRequest) -> FakeResponse:
        return responses.create_response(ApiCall(request, self._state))

    def _route(self, request: FakeRequest) -> FakeResponse:
        try:
            handler, template, parameters = self._routes.find(request.method, request.path)
            operation = operations().get(("GET" if request.method == "HEAD" else request.method, template))
            if request.path.startswith("/v1/"):
                _check_authorization(request, admin=operation is not None and operation.admin)
            response = handler(ApiCall(request, self._state, parameters, operation, self._route))
            return response if self._shape is None else self._shape.added(response)
        except errors.ApiError as error:
            return error.response()

    def _with_headers(self, response: FakeResponse) -> FakeResponse:
        self._answered += 1
        added = {
            "x-request-id": f"req_{self._answered:032x}",
            "openai-processing-ms": "1",
            "openai-version": "2020-10-01",
            "access-control-allow-origin": "*",
            "access-control-expose-headers": "x-request-id",
        }
        return replace(response, headers={**response.headers, **added})


def _check_authorization(request: FakeRequest, *, admin: bool) -> None:
    """Raises ApiError: 401 without a bearer token (RFC 6750, section 2.1), 403 with one of the wrong kind.

    Administration takes tokens that begin with `sk-admin`, and nothing else does. Every other token is accepted.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise errors.missing_key()
    if admin is not token.strip().startswith("sk-admin"):
        raise errors.wrong_key(admin=admin)


def _control_table(control: Control) -> EndpointTable:
    return {
        "/": {"GET": control.metadata},
        "/health": {"GET": control.health},
        "/__parlel/reset": {"POST": control.reset},
        "/__parlel/clock": {"GET": control.clock, "POST": control.advance},
        "/__parlel/requests": {"GET": control.requests, "DELETE": control.clear_requests},
        "/__parlel/faults": {
            "GET": control.faults,
            "POST": control.add_faults,
            "DELETE": control.clear_faults,
        },
    }
