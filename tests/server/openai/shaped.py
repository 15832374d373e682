"""An upstream that answers every operation of the API with a value of its answer's type, with every field, whatever it
is asked: no object need be there, so requests may have any identifiers in them."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from host.fakes.messages import FakeRequest, FakeResponse
from host.fakes.openai.errors import ApiError
from host.fakes.openai.fake import EndpointRoutes
from host.fakes.openai.specification import ApiOperation, document, operations
from host.fakes.openai.structured import instance
from host.fakes.server import LoopbackServer
from tests.fakes.openai.introspection import Schemas, methods

BYTES = b'{"foo": "bar"}'  # what the SDK's tests expect where an answer is binary
_STREAMS = re.compile(rb'"stream": ?true|name="stream"\r\n\r\ntrue')


class ShapedUpstream(LoopbackServer):
    """On a free port of 127.0.0.1. `asked` has the method and the path, with {names}, of each request so far."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(_Shaped(self.asked))


class _Shaped:
    def __init__(self, asked: list[str]) -> None:
        self._asked = asked
        self._routes = EndpointRoutes(_table())

    def respond(self, request: FakeRequest) -> FakeResponse:
        try:
            answer, template, _ = self._routes.find(request.method, request.path)
        except ApiError as error:
            self._asked.append(f"{request.method} {request.path}")
            return error.response()
        self._asked.append(f"{request.method} {template}")
        if _streams(request):
            return FakeResponse(200, {"content-type": "text/event-stream"}, b"data: [DONE]\n\n")
        made: FakeResponse = answer()  # type: ignore[call-arg, assignment]  # the table is of this module's own
        return made

    def refuse(self, status: int, reason: str) -> FakeResponse:
        return ApiError(status, reason).response()


@cache
def _table() -> Any:
    return {
        path: {verb: cache(lambda one=one: _answer(one)) for (verb, at), one in operations().items() if at == path}
        for _, path in operations()
    }


def _streams(request: FakeRequest) -> bool:
    asked = "stream=true" in request.query or request.headers.get("accept") == "text/event-stream"
    return asked or _STREAMS.search(request.body) is not None


def _answer(operation: ApiOperation) -> FakeResponse:
    match operation.answer:
        case None:
            return FakeResponse(200)
        case "text":
            return FakeResponse(200, {"content-type": "text/plain"}, b"text")
        case "binary":
            return FakeResponse(200, {"content-type": "application/octet-stream"}, BYTES)
    schema = operation.answer or _schema(methods()[operation.name].answer)
    value = instance({"$defs": _models(), **_whole(schema)}, "text")
    if operation.page is not None:
        value = {"object": "list", "data": [value], "first_id": "a", "last_id": "a", "has_more": False}
    return FakeResponse.json(value)


@cache
def _models() -> Any:
    return _whole(document()["models"])


@cache
def _schema(kind: Any) -> Any:
    """Of the answers that the specification leaves to the fake."""
    return TypeAdapter(kind).json_schema(mode="serialization", schema_generator=Schemas)


def _whole(schema: Any) -> Any:
    """`schema` where every field is required, a list has an item, and null stands for nothing."""
    if isinstance(schema, list):
        return [_whole(one) for one in schema if one != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    whole = {name: _whole(one) for name, one in schema.items()}
    if "properties" in whole:
        whole["required"] = list(whole["properties"])
    if whole.get("type") == "array":
        whole["minItems"] = 1
    return whole
