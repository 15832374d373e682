"""Who asks: a session that was begun with an admin key, or the bearer of one.

A browser sends a session's cookie along whoever made it ask. So what changes anything has to say what only a page of
this server can: its origin, and the session's token. A bearer's key is sent by nobody but its holder.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from host.errors import Forbidden, Unauthenticated
from host.server.asgi import Scope, header, headers, state
from host.server.auth import bearer, client_address, from_where_it_may_be, holder, peer
from host.server.console.sessions import SESSION_S, Session, Sessions
from host.server.console.throttle import Throttle
from host.server.principal import Principal
from host.server.served import Served
from host.server.settings import ServerSettings
from host.state.api_keys import ApiKey
from host.workspace import Workspace

TOKEN: Final = "x-csrf-token"  # noqa: S105 - the name of a header
MAKE_ONE: Final = "host key create --name admin --type admin"
_SAFE = frozenset({"GET", "HEAD"})
_SIGN_IN = "sign in again"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever may manage. `session` None: the bearer of `key`."""

    key: ApiKey
    session: Session | None = None

    @property
    def principal(self) -> Principal:
        return Principal.of(self.key)


class Access:
    """One per process, for its event loop."""

    def __init__(self, served: Served, workspace: Workspace, settings: ServerSettings) -> None:
        self._served = served
        self._settings = settings
        self._sessions = Sessions(workspace)
        self._throttle = Throttle()

    async def visitor(self, request: Request) -> Visitor:
        """Raises Unauthenticated; Forbidden for one who may not manage, or whose request may be forged."""
        view = await self._served.current()
        if not view.keys.any:
            raise Unauthenticated("there is no key yet", hint=f"the operator makes one: {MAKE_ONE}")
        if (text := bearer(request.scope)) is not None:
            return self._managing(request.scope, Visitor(holder(text, request.scope, view.keys, self._settings)))
        session = await self._session(request)
        key = view.keys.active(session.key, time.time()) if session else None
        if session is None or key is None or not from_where_it_may_be(key, request.scope, self._settings):
            raise Unauthenticated("there is no session", hint=_SIGN_IN)
        if key.rotated_at is not None and key.rotated_at > session.began_at:
            raise Unauthenticated("the key was rotated since", hint=_SIGN_IN)
        visitor = self._managing(request.scope, Visitor(key, session))
        if request.method not in _SAFE:
            self._must_be_ours(request.scope)
            given = (header(request.scope, TOKEN) or "").encode()
            if not hmac.compare_digest(given, (await self.token(session)).encode()):
                raise Forbidden("the request does not have the session's token", hint="reload the page")
        return visitor

    async def sign_in(self, request: Request, text: str) -> ApiKey:
        """The key whose text this is. Raises Unauthenticated, Forbidden, LimitExceeded."""
        self._must_be_ours(request.scope)
        view = await self._served.current()
        if not view.keys.any:
            raise Unauthenticated("there is no key yet", hint=f"the operator makes one: {MAKE_ONE}")
        address = client_address(request.scope, self._settings)
        self._throttle.check(address)  # and until it is told of a failure, no other request comes between
        try:
            key = holder(text, request.scope, view.keys, self._settings)
        except Unauthenticated:
            self._throttle.failed(address)
            raise Unauthenticated(
                "the key is not valid here: it is unknown, expired, revoked, or not for this address"
            ) from None
        return self._managing(request.scope, Visitor(key)).key

    async def begin(self, request: Request, key: ApiKey, response: Response) -> Session:
        """A new session, which the browser of this request has once it has `response`."""
        session, text = await self._served.off_loop(lambda: self._sessions.begin(key.id))
        self._set_cookie(request, response, text, SESSION_S)
        return session

    def end(self, request: Request, response: Response) -> None:
        self._set_cookie(request, response, "", 0)

    async def token(self, session: Session) -> str:
        return await self._served.off_loop(lambda: self._sessions.token(session))

    async def _session(self, request: Request) -> Session | None:
        text = request.cookies.get(_cookie(self._by_https(request.scope)))
        return await self._served.off_loop(lambda: self._sessions.read(text, time.time())) if text else None

    def _managing(self, scope: Scope, visitor: Visitor) -> Visitor:
        state(scope).update(key=visitor.key.name, principal=visitor.principal)
        visitor.principal.require("manage")
        return visitor

    def _must_be_ours(self, scope: Scope) -> None:
        """Asked by a page of this server. Raises Forbidden."""
        scheme = "https" if self._by_https(scope) else "http"
        site = header(scope, "sec-fetch-site")
        if header(scope, "origin") != f"{scheme}://{header(scope, 'host')}" or site not in (None, "same-origin"):
            raise Forbidden(
                "the request does not come from a page of this server",
                hint="behind a proxy that speaks https, name it: host serve --trusted-proxy CIDR",
            )

    def _by_https(self, scope: Scope) -> bool:
        """Whether the browser speaks https: with this server, or with a proxy that the operator trusts to say so."""
        if scope["scheme"] == "https":
            return True
        address = peer(scope)
        trusted = address is not None and any(address in network for network in self._settings.trusted_proxies)
        said = (headers(scope, "x-forwarded-proto") or "").rpartition(",")[2].strip().lower()
        return trusted and said == "https"

    def _set_cookie(self, request: Request, response: Response, text: str, age_s: int) -> None:
        https = self._by_https(request.scope)
        response.set_cookie(
            _cookie(https), text, max_age=age_s, path="/", secure=https, httponly=True, samesite="strict"
        )


def _cookie(https: bool) -> str:
    """Only this very host can set one with that prefix (RFC 6265bis, section 4.1.3.2)."""
    return "__Host-console" if https else "host-console"
