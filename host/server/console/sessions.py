"""Sessions of the console, and who may use it: a session that began with an admin key, or the bearer of one.

The server stores no session but those that were ended, for all processes of the state. A cookie holds the id of the key
and the end of the session, signed with a key that every process of the state has.

A browser sends the cookie with every request, whichever page made it. So a request that changes something must have the
origin of this server, and the session's token: only a page of this server has both. The bearer of a key needs neither.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from host.errors import Forbidden, Unauthenticated
from host.runtime.workspace import Workspace
from host.server.asgi import Scope, bearer, context_of, header, headers, holder, peer, valid_at_address
from host.server.settings import ServerSettings
from host.service.catalog import Catalog
from host.service.principal import Principal
from host.store.access.api_keys import ApiKey, Proof
from host.store.vault.keys import DataKey

SESSION_S: Final = 8 * 3600
_TEXT = re.compile(r"([a-z0-9]{12})\.([0-9]{16})\.([A-Za-z0-9_-]{24})\.([0-9a-f]{64})\Z")


@dataclass(frozen=True, slots=True)
class Session:
    """`key` is the id of the API key that was signed in with, `id` random; times are Unix time."""

    key: str
    expires_us: int
    id: str

    @property
    def expires_at(self) -> float:
        return self.expires_us / 1e6

    @property
    def began_at(self) -> float:
        return self.expires_at - SESSION_S

    def __str__(self) -> str:
        return f"{self.key}.{self.expires_us}.{self.id}"


class Sessions:
    """One per process, thread-safe. Methods raise StateError; the first call reads the state."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._key: DataKey | None = None

    def begin(self, key: str) -> tuple[Session, str]:
        """A session for the API key of this id, and its text: a secret."""
        session = Session(key, int((time.time() + SESSION_S) * 1e6), secrets.token_urlsafe(18))
        return session, f"{session}.{self._mac('session', session)}"

    def read(self, text: str, now: float) -> Session | None:
        """The session of this text; None for a forged one, and for one that has ended."""
        match = _TEXT.match(text)
        if match is None:
            return None
        session = Session(match[1], int(match[2]), match[3])
        made_here = hmac.compare_digest(match[4], self._mac("session", session))
        return session if made_here and now < session.expires_at else None

    def over(self, session: Session) -> bool:
        """Whether somebody signed out of it."""
        shown = (session.id, session.key, session.began_at)
        return bool(self._workspace.cancellations.ended_sessions([shown]))

    def end(self, session: Session, *, everywhere: bool) -> None:
        """End it, or all sessions of its key: their cookies are good for nothing from then on, and their runs end."""
        if everywhere:
            self._workspace.cancellations.end_sessions(session.key)
        self._workspace.cancellations.end_session(session.id)

    def token(self, session: Session) -> str:
        """The token against forged requests: no other site can know it."""
        return self._mac("csrf", session)

    def _mac(self, use: str, session: Session) -> str:
        return hmac.new(self._signing_key().key, f"{use}\0{session}".encode(), hashlib.sha256).hexdigest()

    def _signing_key(self) -> DataKey:
        with self._lock:
            if self._key is None:
                with self._workspace.database.writing() as connection:
                    self._key = self._workspace.keys.current(connection, "console")
            return self._key


TOKEN: Final = "x-csrf-token"  # noqa: S105 - the name of a header
MAKE_ONE: Final = "host key create --name admin --type admin"
_SAFE = frozenset({"GET", "HEAD"})
_SIGN_IN = "sign in again"


@dataclass(frozen=True, slots=True)
class Visitor:
    """A caller who may manage. `session` None: the bearer of `key`."""

    key: ApiKey
    session: Session | None = None

    proof: Proof | None = None

    @property
    def principal(self) -> Principal:
        return Principal.of(self.key, self.proof)


class Access:
    """One per process, for its event loop."""

    def __init__(self, catalog: Catalog, workspace: Workspace, settings: ServerSettings) -> None:
        self._catalog = catalog
        self._settings = settings
        self._sessions = Sessions(workspace)

    async def visitor(self, request: Request) -> Visitor:
        """Raises Unauthenticated; Forbidden for a caller who may not manage, and for a request that may be forged."""
        view = await self._catalog.current()
        if not view.keys.any:
            raise Unauthenticated("there is no key yet", hint=f"the operator makes one: {MAKE_ONE}")
        if (text := bearer(request.scope)) is not None:
            bearing = holder(text, request.scope, view.keys, self._settings)
            return self._managing(request.scope, Visitor(bearing, None, Proof.of_text(text)))
        session = await self._session(request)
        key = view.keys.active(session.key, time.time()) if session else None
        if session is None or key is None or not valid_at_address(key, request.scope, self._settings):
            raise Unauthenticated("there is no session", hint=_SIGN_IN)
        if key.rotated_at is not None and key.rotated_at > session.began_at:
            raise Unauthenticated("the key was rotated since", hint=_SIGN_IN)
        shown = Proof(session=session.id, began_at=session.began_at)
        visitor = self._managing(request.scope, Visitor(key, session, shown))
        if request.method not in _SAFE:
            self._require_own_page(request.scope)
            given = (header(request.scope, TOKEN) or "").encode()
            if not hmac.compare_digest(given, (await self.token(session)).encode()):
                raise Forbidden("the request does not have the session's token", hint="reload the page")
        return visitor

    async def sign_in(self, request: Request, text: str) -> ApiKey:
        """The admin key of this text. Raises Unauthenticated, Forbidden."""
        self._require_own_page(request.scope)
        view = await self._catalog.current()
        if not view.keys.any:
            raise Unauthenticated("there is no key yet", hint=f"the operator makes one: {MAKE_ONE}")
        try:
            key = holder(text, request.scope, view.keys, self._settings)
        except Unauthenticated:
            raise Unauthenticated(
                "the key is not valid here: it is unknown, expired, revoked, or not for this address"
            ) from None
        return self._managing(request.scope, Visitor(key)).key

    async def begin(self, request: Request, key: ApiKey, response: Response) -> Session:
        """A new session. `response` gives its cookie to the browser."""
        session, text = await self._catalog.off_loop(lambda: self._sessions.begin(key.id))
        self._set_cookie(request, response, text, SESSION_S)
        return session

    async def end(self, request: Request, visitor: Visitor, response: Response, *, everywhere: bool) -> None:
        """Sign out: of the visitor's session, or of all sessions of its key."""
        if (session := visitor.session) is not None:
            await self._catalog.off_loop(lambda: self._sessions.end(session, everywhere=everywhere))
        self._set_cookie(request, response, "", 0)

    async def token(self, session: Session) -> str:
        return await self._catalog.off_loop(lambda: self._sessions.token(session))

    async def _session(self, request: Request) -> Session | None:
        text = request.cookies.get(_cookie(self._by_https(request.scope)))
        return await self._catalog.off_loop(lambda: self._read(text)) if text else None

    def _read(self, text: str) -> Session | None:
        session = self._sessions.read(text, time.time())
        return None if session is None or self._sessions.over(session) else session

    def _managing(self, scope: Scope, visitor: Visitor) -> Visitor:
        context_of(scope).principal = visitor.principal
        visitor.principal.require("manage")
        return visitor

    def _require_own_page(self, scope: Scope) -> None:
        """Raises Forbidden unless a page of this server made the request."""
        scheme = "https" if self._by_https(scope) else "http"
        site = header(scope, "sec-fetch-site")
        if header(scope, "origin") != f"{scheme}://{header(scope, 'host')}" or site not in (None, "same-origin"):
            raise Forbidden(
                "the request does not come from a page of this server",
                hint="behind a proxy that speaks https, name it: host serve --trusted-proxy CIDR",
            )

    def _by_https(self, scope: Scope) -> bool:
        """Whether the browser speaks https: with this server, or with a trusted proxy, which says so."""
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
    """Only this host can set a cookie with that prefix (RFC 6265bis, section 4.1.3.2)."""
    return "__Host-console" if https else "host-console"
