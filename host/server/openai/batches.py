"""`/v1/batches` and the files of batches, where the server runs batches itself (`host.service.batches.hosted`).

Everything else goes to the catalysts as before: other files, other people's ids, requests that name a catalyst.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar

from host.component.operations import OperationSpec, read_operations
from host.core.names import Reference
from host.core.strict_json import Json
from host.errors import InputError
from host.server.asgi import RequestContext, Scope, Send, send_json
from host.server.openai.gateway import Gateway, path_below
from host.server.settings import ServerSettings
from host.service.batches.hosted import BATCH, FILE, HostedBatches
from host.service.batches.kept import file_object
from host.service.catalog import Catalog, Matched, Routes, View
from host.service.dispatch import Dispatch
from host.service.request import OperationRequest

T = TypeVar("T")

_NAMED: Final = re.compile(r"\{\w+\}")
_ITSELF: Final = Reference.parse("catalyst:host.batches:1.0.0")  # in the place of a catalyst that has these routes
_SPECS: Final[Sequence[OperationSpec]] = tuple(
    read_operations(
        {
            "files.create": {"method": "POST", "path": "/files", "request": "multipart"},
            "files.list": {"method": "GET", "path": "/files"},
            "files.retrieve": {"method": "GET", "path": "/files/{file_id}"},
            "files.content": {"method": "GET", "path": "/files/{file_id}/content", "response": "binary"},
            "files.delete": {"method": "DELETE", "path": "/files/{file_id}"},
            "batches.create": {"method": "POST", "path": "/batches", "request": "json"},
            "batches.list": {"method": "GET", "path": "/batches"},
            "batches.retrieve": {"method": "GET", "path": "/batches/{batch_id}"},
            "batches.cancel": {"method": "POST", "path": "/batches/{batch_id}/cancel"},
        }
    ).values()
)
_OWN: Final = Routes([(_ITSELF, _SPECS)])
_BY_ROUTE: Final = {(one.method, _NAMED.sub("{}", one.route)): one for one in _SPECS}
_MOST_LISTED: Final = {"files.list": 10_000, "batches.list": 100}
_LISTED: Final = {"files.list": 10_000, "batches.list": 20}
_JSONL: Final = b"application/jsonl"

_Answer: TypeAlias = Callable[[OperationRequest], Awaitable[Json]]


class BatchingGateway(Gateway):
    """A gateway that has batches itself."""

    def __init__(self, catalog: Catalog, dispatch: Dispatch, settings: ServerSettings, hosted: HostedBatches) -> None:
        super().__init__(catalog, dispatch, settings)
        self._hosted = hosted
        self._answers: Mapping[str, _Answer] = {
            "files.create": self._create_file,
            "files.list": self._list_files,
            "files.retrieve": self._retrieve_file,
            "files.delete": lambda request: hosted.delete_file(request.principal, _ident(request)),
            "batches.create": lambda request: hosted.create(request.principal, request.params),
            "batches.list": self._list_batches,
            "batches.retrieve": lambda request: hosted.retrieve(request.principal, _ident(request)),
            "batches.cancel": lambda request: hosted.cancel(request.principal, _ident(request)),
        }

    def _matched(self, view: View, scope: Scope) -> Matched | Sequence[str]:
        """Routes that no catalyst has, too."""
        found = super()._matched(view, scope)
        if isinstance(found, Matched):
            return found
        own = _OWN.find(scope["method"], path_below(scope))
        return own if isinstance(own, Matched) else sorted({*found, *own})

    async def _answered_here(self, context: RequestContext, request: OperationRequest, send: Send) -> bool:
        if (spec := _own_spec(request)) is None:
            return False
        context.operation = spec.name
        request.principal.require_operation(spec.name, spec)
        if spec.name == "files.content":
            await self._send_content(request, send)
        else:
            await send_json(send, 200, await self._answers[spec.name](request))
        return True

    async def _create_file(self, request: OperationRequest) -> Json:
        given = request.params.get("file")
        ident = given.get("$attachment") if isinstance(given, dict) else None
        if not isinstance(ident, str) or ident not in request.attachments:
            raise InputError("there is no file", field="file")
        file = request.attachments[ident]
        lasts_s = _lifetime(request.params.get("expires_after[seconds]"))
        return await self._hosted.create_file(request.principal, file.filename, file.data, lasts_s)

    async def _retrieve_file(self, request: OperationRequest) -> Json:
        return file_object(await self._hosted.file(request.principal, _ident(request)))

    async def _list_files(self, request: OperationRequest) -> Json:
        purpose, (most, after) = request.params.get("purpose"), _paging(request, "files.list")
        found = await self._hosted.files(
            request.principal,
            purpose if isinstance(purpose, str) else None,
            after,
            most=most + 1,
            oldest_first=request.params.get("order") == "asc",
        )
        return _page([file_object(one) for one in found], most)

    async def _list_batches(self, request: OperationRequest) -> Json:
        most, after = _paging(request, "batches.list")
        return _page(await self._hosted.batches(request.principal, after, most=most + 1), most)

    async def _send_content(self, request: OperationRequest, send: Send) -> None:
        file = await self._hosted.file(request.principal, _ident(request))
        fields = [(b"content-type", _JSONL), (b"content-length", str(file.bytes).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        async for piece in self._hosted.content(file):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _own_spec(request: OperationRequest) -> OperationSpec | None:
    """The operation of the server itself that the request is for; None where it is for a catalyst."""
    matched = request.operation
    if not isinstance(matched, Matched) or isinstance(request.target, Reference):
        return None
    spec = _BY_ROUTE.get((matched.route.method, _NAMED.sub("{}", matched.route.template)))
    if spec is None:
        return None
    alone = _ITSELF in matched.route.specs
    if spec.name == "files.create":
        own = request.params.get("purpose") == "batch"
        if alone and not own:
            raise InputError("the purpose has to be batch: other files go to no upstream here", field="purpose")
    elif spec.name == "files.list":
        own = alone or request.params.get("purpose") in ("batch", "batch_output")
    elif spec.name.startswith("files."):
        own = alone or matched.values[0].startswith(FILE)
    else:
        own = not matched.values or alone or matched.values[0].startswith(BATCH)
    return spec if own else None


def _ident(request: OperationRequest) -> str:
    assert isinstance(request.operation, Matched), "it is one of the routes"
    return request.operation.values[0]


def _paging(request: OperationRequest, name: str) -> tuple[int, str | None]:
    """How many are asked for, and after which id. Raises InputError."""
    limit = request.params.get("limit", str(_LISTED[name]))
    if not isinstance(limit, str) or not re.fullmatch("[0-9]{1,5}", limit) or not 1 <= int(limit) <= _MOST_LISTED[name]:
        raise InputError(f"limit is a number from 1 to {_MOST_LISTED[name]}", field="limit")
    after = request.params.get("after")
    return int(limit), None if after is None else str(after)


def _page(found: Sequence[dict[str, Json]], most: int) -> Json:
    """A part of a list, as OpenAI's API has it. `found` has one more where there are more."""
    shown = [*found[:most]]
    ends: dict[str, Json] = {
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(found) > most,
    }
    return {"object": "list", "data": [*shown], **ends}


def _lifetime(given: Json) -> float | None:
    """Raises InputError."""
    if given is None:
        return None
    if not isinstance(given, str) or not re.fullmatch("[0-9]{4,7}", given) or not 3_600 <= int(given) <= 2_592_000:
        raise InputError("expires_after[seconds] is from 3600 to 2592000", field="expires_after")
    return float(given)
