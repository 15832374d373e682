"""The forms in which other servers offer OpenAI's API: their paths, their keys, their errors and what they add.

A Shape maps a request onto OpenAI's own paths (`/v1/…`), or answers it as its server answers what it does not have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final

from host.fakes.messages import FakeRequest, FakeResponse

_PER_DEPLOYMENT: Final = re.compile(
    "/(chat/completions|completions|embeddings|images/(generations|edits)|audio/(speech|transcriptions|translations))"
)
_BELOW_DEPLOYMENT: Final = re.compile("/deployments/[^/]+(/.*)")
_TEXT_MODELS: Final = frozenset({"chat", "completions", "embeddings", "models", "responses"})


@dataclass(frozen=True)
class Shape:
    """One server's form. `base` is the path of its base URL. `key` is the header with the key, "" where it asks for
    none. `offers` are the first segments of the paths below `base` that it has, None: all. `unknown` answers the
    others, `keyless` a request without a key. `adds` changes the events of a stream."""

    name: str
    base: str
    key: str
    offers: frozenset[str] | None
    unknown: FakeResponse
    keyless: FakeResponse
    adds: Callable[[Iterable[bytes]], Iterator[bytes]] = iter

    def mapped(self, request: FakeRequest) -> FakeRequest | FakeResponse:
        """`request` as OpenAI would get it, or the answer of a server that does not take it."""
        below = request.path.removeprefix(self.base)
        if below == request.path and self.base:
            return self.unknown
        if self.offers is not None and below.split("/")[1:2] and below.split("/")[1] not in self.offers:
            return self.unknown
        if self.key and not _key_in(request.headers, self.key):
            return self.keyless
        return _as_openai(request, f"/v1{below}")

    def added(self, response: FakeResponse) -> FakeResponse:
        """`response` with what this server adds to the events of a stream."""
        if isinstance(response.body, bytes) or not response.headers.get("content-type", "").startswith("text/event"):
            return response
        return replace(response, body=self.adds(response.body))


class Azure(Shape):
    """Azure OpenAI: `/openai/v1/…`, and with `?api-version=` `/openai/deployments/NAME/…` for what a model answers and
    `/openai/…` for the rest. The key is in `api-key`, a token in Authorization."""

    def mapped(self, request: FakeRequest) -> FakeRequest | FakeResponse:
        below = request.path.removeprefix(self.base)
        if below == request.path:
            return self.unknown
        if not any(_key_in(request.headers, name) for name in (self.key, "authorization")):
            return self.keyless
        if below.startswith("/v1/"):
            return _as_openai(request, below)
        deployed = _BELOW_DEPLOYMENT.fullmatch(below)
        below = deployed[1] if deployed else below
        right = bool(_PER_DEPLOYMENT.fullmatch(below)) is bool(deployed)
        if not right or "api-version" not in request.arguments:
            return self.unknown
        return _as_openai(request, f"/v1{below}")


def _as_openai(request: FakeRequest, path: str) -> FakeRequest:
    headers = {**request.headers}
    headers["authorization"] = "Bearer of-the-shape"
    return replace(request, path=path, headers=headers)


def _key_in(headers: Mapping[str, str], name: str) -> bool:
    value = headers.get(name, "")
    if name != "authorization":
        return bool(value)
    scheme, _, token = value.partition(" ")
    return scheme.lower() == "bearer" and bool(token.strip())


def _error(status: int, code: Any, message: str, **more: Any) -> FakeResponse:
    return FakeResponse.json({"error": {"code": code, "message": message, **more}}, status)


def _kept_busy(events: Iterable[bytes]) -> Iterator[bytes]:
    """OpenRouter sends a comment while a model has not begun."""
    return chain([b": OPENROUTER PROCESSING\n\n"], events)


def _numbered(events: Iterable[bytes]) -> Iterator[bytes]:
    """Groq names the request in the first event."""
    events = iter(events)
    for first in events:
        yield first.replace(b"{", b'{"x_groq":{"id":"req_of_the_fake"},', 1)
        break
    yield from events


_PAGE: Final = FakeResponse(404, {"content-type": "text/plain"}, b"404 page not found")
_NO_KEY: Final = _error(401, 401, "No key was given.")
_NOT_FOUND: Final = _error(404, 404, "Not Found")
_OF_AZURE: Final = (_error(404, "404", "Resource not found"), _error(401, "401", "The key is missing or wrong."))
_OF_LM_STUDIO: Final = FakeResponse.json({"error": "Unexpected endpoint or method. Returning 200 anyway"})
_OF_VLLM: Final = FakeResponse.json({"detail": "Not Found"}, 404)
_OF_GROQ: Final = _error(404, "unknown_url", "Unknown request URL.", type="invalid_request_error")

SHAPES: Final[Mapping[str, Shape]] = {
    one.name: one
    for one in (
        Azure("azure", "/openai", "api-key", None, *_OF_AZURE),
        Shape("ollama", "/v1", "", _TEXT_MODELS, _PAGE, _NO_KEY),
        Shape("vllm", "/v1", "", _TEXT_MODELS | {"audio"}, _OF_VLLM, _NO_KEY),
        Shape("localai", "/v1", "", None, _NOT_FOUND, _NO_KEY),
        Shape("lmstudio", "/v1", "", _TEXT_MODELS, _OF_LM_STUDIO, _NO_KEY),
        Shape("openrouter", "/api/v1", "authorization", _TEXT_MODELS, _NOT_FOUND, _NO_KEY, _kept_busy),
        Shape("groq", "/openai/v1", "authorization", _TEXT_MODELS | {"audio", "files"}, _OF_GROQ, _NO_KEY, _numbered),
        Shape("proxy", "/llm/openai/v1", "x-api-key", None, _PAGE, _NO_KEY),
    )
}
"""By name; OpenAI's own form is none of them."""
