"""The request for a WebSocket: who asks, for which operation, and whether the upstream takes it. Until all of that is
known it is a request like any other, and is refused like one, by an HTTP status; then it is accepted, and bridged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from host.core.strict_json import json_bytes
from host.errors import Forbidden, HostError, Unauthenticated
from host.openai.messages import read_query
from host.server.asgi import (
    Receive,
    RequestContext,
    Scope,
    Send,
    bearer,
    context_of,
    header,
    headers_by_name,
    principal_of,
    send_whole,
)
from host.server.openai.gateway import CATALYST, PREFIX, about, path_below, reference_of, send_error
from host.server.realtime.bridge import Bridge
from host.service.catalog import Matched, Routes
from host.service.dialects import openai
from host.service.operations import sockets_of
from host.service.principal import MAX_VALUES
from host.service.request import OperationRequest
from host.service.sessions import MessageRules, RunningSession

if TYPE_CHECKING:
    from host.server.settings import ServerSettings
    from host.service.catalog import Catalog, View
    from host.service.dispatch import Dispatch
    from host.service.principal import Admitted

VIA: Final = "realtime"
OPENING_S: Final = 30.0  # until the upstream has opened a session, whose client may have left meanwhile
PROTOCOL: Final = "realtime"  # the only subprotocol that is chosen: the others that clients offer are keys
_BETA: Final = "beta."
_EPHEMERAL: Final = "ek_"


class RealtimeEndpoint:
    """An ASGI application for WebSockets below `/v1`."""

    def __init__(self, catalog: Catalog, dispatch: Dispatch, settings: ServerSettings) -> None:
        self._catalog = catalog
        self._dispatch = dispatch
        self._settings = settings
        self._routes: tuple[View, Routes, Routes] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = context_of(scope)
        try:
            await self._answer(context, scope, receive, send)
        except Forbidden as error:
            refused = self._dispatch.refused
            said = await refused(error, context.principal, request_id=context.request_id, route=context.route)
            await send_error(context, send, said)
        except HostError as error:
            await send_error(context, send, error)

    async def _answer(self, context: RequestContext, scope: Scope, receive: Receive, send: Send) -> None:
        view = await self._catalog.current()
        if (text := bearer(scope)) is not None and text.startswith(_EPHEMERAL):
            raise Unauthenticated(
                "a client secret (ek_…) is a key of the upstream's, and opens no connection here",
                hint="connect to the upstream with it, or here with a key of this server",
            )
        principal = context.principal = principal_of(scope, view.keys, self._settings)
        matched = self._matched(view, scope)
        async with self._dispatch.admitted(principal, spends=principal.key is not None) as admitted:
            if matched is None:
                await _no_route(context, scope, send)
                return
            context.route = f"GET {PREFIX}{matched.route.template}"
            principal.require("run")
            resolved = self._dispatch.resolve(self._request(context, scope, admitted, matched), view)
            context.catalyst, context.operation = str(resolved.reference), resolved.operation
            session = cast("RunningSession", await self._dispatch.start(resolved, view, RunningSession))
            async with session:
                try:
                    await session.opening(OPENING_S)
                finally:
                    context.run, context.about = session.id, about(session)
                await receive()  # the request itself
                await send(
                    {
                        "type": "websocket.accept",
                        "subprotocol": PROTOCOL if PROTOCOL in scope.get("subprotocols", ()) else None,
                        "headers": [(name.encode(), value.encode()) for name, value in context.about.items()],
                    }
                )
                rules = MessageRules(resolved, view.routing, MAX_VALUES)
                await Bridge(session, rules, self._dispatch, admitted, context, receive, send).run()

    def _matched(self, view: View, scope: Scope) -> Matched | None:
        """The operation of the path. One of the beta shares its path with another one, and has a header."""
        if self._routes is None or self._routes[0] is not view:
            sockets = [(one.reference, list(sockets_of(one))) for one in view.components]
            both = [
                Routes(
                    ((at, [one for one in specs if one.name.startswith(_BETA) is beta]) for at, specs in sockets),
                    sockets=True,
                )
                for beta in (False, True)
            ]
            self._routes = view, both[0], both[1]
        below = path_below(scope).removeprefix(PREFIX)
        routes = self._routes[1:]
        for known in reversed(routes) if "realtime=v1" in (header(scope, "openai-beta") or "") else routes:
            if isinstance(found := known.find("GET", below), Matched):
                return found
        return None

    def _request(self, context: RequestContext, scope: Scope, admitted: Admitted, matched: Matched) -> OperationRequest:
        """Raises InputError."""
        query, params = read_query(scope["query_string"]) if scope["query_string"] else ("", {})
        named = header(scope, CATALYST)
        model = openai.model_of(matched.route.template, matched.values, params)
        return OperationRequest(
            principal=admitted.principal,
            target=model if named is None else reference_of(named),
            operation=matched,
            params=params,
            query=query,
            headers=headers_by_name(scope),
            stream=True,
            request_id=context.request_id,
            via=VIA,
            admitted=admitted,
        )


async def _no_route(context: RequestContext, scope: Scope, send: Send) -> None:
    context.failed("unknown_url", "no catalyst has a WebSocket at this path")
    said = f"There is no WebSocket at {scope['path'][:200]}"
    shown = {"message": said, "type": "invalid_request_error", "param": None, "code": "unknown_url"}
    await send_whole(send, 404, json_bytes({"error": shown}))
