"""Which handler answers which method and path.

FakeOpenAI: the API, its faults and its memory, put together and served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from host.fakes.journal import RequestLog
from host.fakes.loopback import LoopbackServer
from host.fakes.messages import Request, Response
from host.fakes.openai import (
    audio,
    chat,
    completions,
    embeddings,
    errors,
    files,
    images,
    models,
    moderations,
    responses,
)
from host.fakes.openai.call import Call, Handler, Store
from host.fakes.openai.control import Control, preflight
from host.fakes.openai.faults import Fault, Script

Table = dict[str, dict[str, Handler]]

API: Table = {
    "/v1/chat/completions": {"POST": chat.create},
    "/v1/completions": {"POST": completions.create},
    "/v1/embeddings": {"POST": embeddings.create},
    "/v1/models": {"GET": models.index},
    "/v1/models/{model}": {"GET": models.retrieve},
    "/v1/images/generations": {"POST": images.generate},
    "/v1/moderations": {"POST": moderations.create},
    "/v1/audio/speech": {"POST": audio.speech},
    "/v1/audio/transcriptions": {"POST": audio.transcribe},
    "/v1/audio/translations": {"POST": audio.translate},
    "/v1/files": {"GET": files.index, "POST": files.create},
    "/v1/files/{file_id}": {"GET": files.retrieve, "DELETE": files.delete},
    "/v1/files/{file_id}/content": {"GET": files.content},
    "/v1/responses": {"POST": responses.create},
    "/v1/responses/{response_id}": {"GET": responses.retrieve, "DELETE": responses.delete},
    "/v1/responses/{response_id}/input_items": {"GET": responses.input_items},
    "/images/{name}": {"GET": images.picture},
}


class Routes:
    def __init__(self, table: Table) -> None:
        self._exact = table
        self._templates = [(path.split("/"), methods) for path, methods in table.items() if "{" in path]

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]]:
        """The handler, and the decoded parameters of the path. HEAD is answered like GET, without the body. Raises
        ApiError: 404 for a path that nothing has, 405 for a method that it does not have."""
        methods, parameters = self._at(path)
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            message = f"Not allowed to {method} on {path} (HINT: Perhaps you meant to use a different HTTP method?)"
            allowed = {"allow": ", ".join(sorted(methods))}
            raise errors.ApiError(405, message, code="method_not_supported", headers=allowed)
        return handler, parameters

    def _at(self, path: str) -> tuple[dict[str, Handler], dict[str, str]]:
        if path in self._exact:
            return self._exact[path], {}
        steps = path.split("/")
        for template, methods in self._templates:
            if len(template) == len(steps):
                pairs = list(zip(template, steps, strict=True))
                if all(name == step or (name[:1] == "{" and step) for name, step in pairs):
                    return methods, {name[1:-1]: unquote(step) for name, step in pairs if name[:1] == "{"}
        message = f"Unknown request URL: {path}. Please check the URL for typos."
        raise errors.not_found(message, code="unknown_url")


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
        """What was asked, oldest first (the shape is `RequestLog.entries`'); all but `/`, `/health`, `/__parlel/…` and
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
        self.journal = RequestLog()
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
