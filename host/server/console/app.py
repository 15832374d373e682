"""The console's routes: the page and its files, and the API for the page and for bearers of an admin key."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.resources import files
from typing import Final, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from host.core.names import Reference
from host.core.strict_json import Json, json_bytes
from host.errors import Cancelled, Forbidden, HostError, InputError, NotFound
from host.runtime.workspace import Workspace
from host.server.asgi import JSON, App, context_of
from host.server.console import bodies, views
from host.server.console.playground import Playground
from host.server.console.sessions import MAKE_ONE, Access, Visitor
from host.server.http_errors import headers_of, shown_outside, status_of
from host.server.settings import ServerSettings
from host.service.catalog import Catalog, View
from host.service.dispatch import Dispatch
from host.service.health import HealthBook
from host.service.operations import operations_of
from host.service.views import Facts, of_key
from host.store.audit_log import records as runs
from host.store.components import Component

PAGE: Final = "page.html"
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_POLICY: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "form-action 'none'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",  # no text becomes HTML, whatever the modules do
    "trusted-types 'none'",
)
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "; ".join(_POLICY),
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "no-cache",
}


class Assets:
    """The files of the page, read once."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str, str]] = {}
        for file in (files(__package__) / "page").iterdir():
            kind = _TYPES.get(file.name.rpartition(".")[2])
            if kind is not None:
                content = file.read_bytes()
                self._files[file.name] = content, f"{kind}; charset=utf-8", f'"{hashlib.sha256(content).hexdigest()}"'

    def answer(self, request: Request, name: str) -> Response:
        """Raises NotFound."""
        if name not in self._files:
            raise NotFound("there is no such file")
        content, kind, tag = self._files[name]
        headers = {**HEADERS, "etag": tag, "content-type": kind}
        given = request.headers.get("if-none-match", "")
        if tag in (one.strip().removeprefix("W/") for one in given.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)


API = "/console/api"
_RECENT = 25
_LOOKED_AT = 200  # the latest runs, among which it looks for those that go on
_AT_ONCE = 50
_RECORDS = 2_000
_DAYS = 14
_PRIVATE = {"cache-control": "no-store", "cross-origin-resource-policy": "same-origin"}

_Answer: TypeAlias = Response | App
_Open: TypeAlias = Callable[[Request], Awaitable[_Answer]]
_Managed: TypeAlias = Callable[[Request, Visitor], Awaitable[Json | _Answer]]


class Console:
    """One per process, for its event loop."""

    def __init__(
        self,
        catalog: Catalog,
        dispatch: Dispatch,
        workspace: Workspace,
        settings: ServerSettings,
        health: HealthBook | None = None,
    ) -> None:
        self._catalog = catalog
        self._dispatch = dispatch
        self._workspace = workspace
        self._health = health
        self._access = Access(catalog, workspace, settings)
        self._playground = Playground(catalog, dispatch, settings)
        self._assets = Assets()
        self._looked_at: tuple[View, dict[Reference, Json]] | None = None

    def routes(self) -> list[Route]:
        return [
            self._open("GET", "/", self.page),
            self._open("GET", "/console/{name}", self.asset),
            self._open("GET", f"{API}/session", self.session),
            self._open("POST", f"{API}/session", self.sign_in),
            self._managed("DELETE", f"{API}/session", self.sign_out),
            self._managed("GET", f"{API}/overview", self.overview),
            self._managed("GET", f"{API}/runs", self.runs),
            self._managed("GET", f"{API}/runs/{{id}}", self.run),
            self._managed("POST", f"{API}/runs/{{id}}/cancel", self.cancel),
            self._managed("GET", f"{API}/catalysts", self.catalysts),
            self._managed("GET", f"{API}/catalysts/{{reference}}", self.catalyst),
            self._managed("GET", f"{API}/catalysts/{{reference}}/operations/{{name}}", self.operation),
            self._managed("GET", f"{API}/keys", self.keys),
            self._managed("POST", f"{API}/keys", self.create_key),
            self._managed("POST", f"{API}/keys/{{id}}/rotate", self.rotate_key),
            self._managed("POST", f"{API}/keys/{{id}}/revoke", self.revoke_key),
            self._managed("GET", f"{API}/usage", self.usage),
            self._managed("POST", f"{API}/playground", self.play),
        ]

    # the page

    async def page(self, request: Request) -> _Answer:
        return self._assets.answer(request, PAGE)

    async def asset(self, request: Request) -> _Answer:
        return self._assets.answer(request, request.path_params["name"])

    # sessions

    async def session(self, request: Request) -> _Answer:
        """Whether the caller has a session, and if not, how to get one."""
        view = await self._catalog.current()
        if not view.keys.any:
            return _json({"signed_in": False, "configured": False, "command": MAKE_ONE})
        try:
            visitor = await self._access.visitor(request)
        except HostError:
            return _json({"signed_in": False, "configured": True})
        return _json(await self._about(visitor))

    async def sign_in(self, request: Request) -> _Answer:
        given = await bodies.read(request, bodies.SignIn)
        key = await self._access.sign_in(request, given.key.strip())
        response = Response(media_type=JSON)
        session = await self._access.begin(request, key, response)
        response.body = json_bytes(await self._about(Visitor(key, session)))
        return _finished(response)

    async def sign_out(self, request: Request, visitor: Visitor) -> _Answer:
        """Of this session; with `?everywhere=true`, of all sessions of its key."""
        response = Response(json_bytes({"signed_in": False}), media_type=JSON)
        everywhere = request.query_params.get("everywhere") == "true"
        await self._access.end(request, visitor, response, everywhere=everywhere)
        return _finished(response)

    async def _about(self, visitor: Visitor) -> dict[str, Json]:
        shown: dict[str, Json] = {"signed_in": True, "configured": True, "key": of_key(visitor.key, time.time())}
        if visitor.session is not None:
            shown["token"] = await self._access.token(visitor.session)
            shown["expires_at"] = visitor.session.expires_at
        return shown

    # runs

    async def overview(self, request: Request, visitor: Visitor) -> Json:
        del request, visitor
        ids = tuple(self._dispatch.running)
        return await self._catalog.off_loop(lambda: self._overview(ids))

    def _overview(self, ids: Sequence[str]) -> Json:
        """`ids` are this process's runs: on a busy server some may have begun before the latest runs in the log."""
        now, database = time.time(), self._workspace.database
        latest = runs.runs(database, limit=_LOOKED_AT)
        earlier = set(ids) - {one.id for one in latest}
        found = [views.of_run(one, now) for one in (*latest, *self._summaries(sorted(earlier)[:_AT_ONCE]))]
        return {
            "now": now,
            "running": [one for one in found if one["state"] == "running"],
            "recent": [one for one in found if one["state"] != "running"][:_RECENT],
            "today": views.today(self._workspace.usage.totals(views.first_day(1))),
        }

    def _summaries(self, ids: Iterable[str]) -> Iterator[runs.RunSummary]:
        for ident in ids:
            with suppress(NotFound):  # its first record is not written yet
                summary = runs.run(self._workspace.database, ident)[0]
                if summary is not None:
                    yield summary

    async def runs(self, request: Request, visitor: Visitor) -> Json:
        del visitor
        before, failed = request.query_params.get("before"), request.query_params.get("failed") == "true"
        if before is not None and not (before.isdecimal() and len(before) < 19):
            raise InputError("before is the number of a record", field="before")
        query = partial(
            runs.runs,
            self._workspace.database,
            limit=_AT_ONCE,
            before=None if before is None else int(before),
            failed=failed,
        )
        now, found = time.time(), await self._catalog.off_loop(query)
        return {"now": now, "runs": [views.of_run(one, now) for one in found], "more": len(found) == _AT_ONCE}

    async def run(self, request: Request, visitor: Visitor) -> Json:
        del visitor
        ident = request.path_params["id"]
        summary, records = await self._catalog.off_loop(lambda: runs.run(self._workspace.database, ident))
        now = time.time()
        return {
            "now": now,
            "run": None if summary is None else views.of_run(summary, now),
            "failure": runs.failure(records),
            "records": [views.of_record(one) for one in records[:_RECORDS] if one.kind != "run.failed"],
            "more": max(0, len(records) - _RECORDS),
        }

    async def cancel(self, request: Request, visitor: Visitor) -> Json:
        """Ends a run of this process at once, one of another process as soon as that looks."""
        del visitor
        await bodies.read(request, bodies.Nothing)
        ident = request.path_params["id"]
        summary = (await self._catalog.off_loop(lambda: runs.run(self._workspace.database, ident)))[0]
        if summary is None or not summary.running(time.time()):
            raise InputError(f"the run {ident[:80]!r} has ended", field="id")
        self._dispatch.cancel([summary.id])
        await self._catalog.off_loop(lambda: self._workspace.cancellations.ask(summary.id))
        return {"id": summary.id}

    # catalysts

    async def catalysts(self, request: Request, visitor: Visitor) -> Json:
        del request, visitor
        view = await self._catalog.current()
        found = [{**views.of_component(one), **self._healthy(one)} for one in view.all]
        return {"now": time.time(), "catalysts": found}

    def _healthy(self, component: Component) -> Facts:
        """The health of its upstreams, where the operator asks for checks and the component may run."""
        if self._health is None or not component.approved:
            return {}
        return {"health": self._health.of(str(component.reference))}

    async def catalyst(self, request: Request, visitor: Visitor) -> Json:
        """Its permissions, also where it was not approved and cannot be run."""
        del visitor
        view = await self._catalog.current()
        component = _named(view, request)
        if self._looked_at is None or self._looked_at[0] is not view:
            self._looked_at = view, {}
        known = self._looked_at[1]
        if component.reference not in known:  # once for each view, also where it fails: a refusal is recorded
            known[component.reference] = await self._reached(view, component)
        return {**views.of_component(component), **known[component.reference]}

    async def _reached(self, view: View, component: Component) -> dict[str, Json]:
        try:
            if component.approved:
                catalyst = await self._catalog.catalyst(view, component.reference)
            else:
                installed = await self._catalog.installed(component.reference, approved=False)
                catalyst = await self._catalog.inspected(installed)
        except HostError as error:
            return {"error": error.as_dict()}
        return views.of_catalyst(catalyst)

    async def operation(self, request: Request, visitor: Visitor) -> Json:
        del visitor
        component = _named(await self._catalog.current(), request)
        spec = operations_of(component).get(request.path_params["name"])
        if spec is None:
            raise NotFound(f"{component.reference} has no such operation", field="name")
        return await self._catalog.off_loop(lambda: views.of_operation(component.manifest, spec))

    # keys

    async def keys(self, request: Request, visitor: Visitor) -> Json:
        del request, visitor
        now, found = time.time(), await self._catalog.off_loop(self._workspace.api_keys.all)
        return {"now": now, "keys": [of_key(one, now) for one in found]}

    async def create_key(self, request: Request, visitor: Visitor) -> Json:
        del visitor
        given = await bodies.read(request, bodies.NewKey)
        key, text = await self._catalog.off_loop(lambda: given.create(self._workspace.api_keys))
        return {"key": of_key(key, time.time()), "text": text}

    async def rotate_key(self, request: Request, visitor: Visitor) -> _Answer:
        """The session that asks goes on; other sessions of the key end."""
        given = await bodies.read(request, bodies.Rotate)
        ident = request.path_params["id"]
        key, text = await self._catalog.off_loop(lambda: self._workspace.api_keys.rotate(ident, given.overlap_s))
        shown: dict[str, Json] = {"key": of_key(key, time.time()), "text": text}
        response = Response(media_type=JSON)
        if visitor.session is not None and visitor.key.id == key.id:
            shown["session"] = await self._about(Visitor(key, await self._access.begin(request, key, response)))
        response.body = json_bytes(shown)
        return _finished(response)

    async def revoke_key(self, request: Request, visitor: Visitor) -> Json:
        del visitor
        await bodies.read(request, bodies.Nothing)
        ident = request.path_params["id"]
        key = await self._catalog.off_loop(lambda: self._workspace.api_keys.revoke(ident))
        return {"key": of_key(key, time.time())}

    async def usage(self, request: Request, visitor: Visitor) -> Json:
        del request, visitor
        rows = await self._catalog.off_loop(lambda: self._workspace.usage.totals(views.first_day(_DAYS)))
        return views.of_usage(rows, _DAYS)

    # playground

    async def play(self, request: Request, visitor: Visitor) -> _Answer:
        return await self._playground.begin(request, visitor.principal)

    # how all of them are asked, and answer

    def _managed(self, method: str, path: str, endpoint: _Managed) -> Route:
        """A route for callers who may manage."""

        async def answer(request: Request) -> _Answer:
            found = await endpoint(request, await self._access.visitor(request))
            return _json(found) if isinstance(found, dict) else found

        return self._open(method, path, answer)

    def _open(self, method: str, path: str, endpoint: _Open) -> Route:
        async def answer(request: Request) -> _Answer:
            context = context_of(request.scope)
            context.route = f"{method} {path}"
            try:
                return await endpoint(request)
            except Cancelled:
                raise  # the client left
            except HostError as error:
                principal, ident = context.principal, context.request_id
                if isinstance(error, Forbidden) and principal is not None:
                    refused = self._dispatch.refused
                    error = await refused(
                        error, principal, request_id=ident, route=context.route, admitted=context.admitted is not None
                    )
                shown = shown_outside(error) if principal is None else error.as_dict()
                return _json({"error": shown}, status_of(error), dict(headers_of(error)))

        return Route(path, answer, methods=[method])


def _named(view: View, request: Request) -> Component:
    return view.component(Reference.parse(request.path_params["reference"]))


def _json(value: Json, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json_bytes(value), status, {**(headers or {}), **_PRIVATE}, JSON)


def _finished(response: Response) -> Response:
    """`response` with the headers that its body needs."""
    response.headers["content-length"] = str(len(response.body))
    response.headers.update(_PRIVATE)
    return response
