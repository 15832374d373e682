"""The parts of ASGI (asgi.readthedocs.io, HTTP 2.5) that the server handles itself: headers, bodies, answers, callers.

A caller is the bearer of a key, from an address where the key is valid; or, while there is no key, any caller on the
loopback interface. Headers about the address of a client count only from proxies that the operator named.
"""

from __future__ import annotations

import asyncio
import codecs
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, Protocol, Self, TypeAlias

from host.core.strict_json import Json, WrittenObject, json_bytes, parse_object
from host.egress.decoding import Inflated
from host.egress.failures import EgressError
from host.errors import Cancelled, InputError, TooLarge, Unauthenticated, UnsupportedMedia
from host.runtime.threads import aside
from host.server.settings import ServerSettings
from host.service.principal import ANONYMOUS_SCOPES, MAX_VALUES, Admitted, Principal, weight
from host.store.access.api_keys import ApiKey, KeyRing, Proof

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = "application/json"
SMALL_BYTES: Final = 4 * 1024  # its values take little memory, however many there are
LARGE_BYTES: Final = 64 * 1024  # a tenth of a millisecond to parse; a larger body is parsed off the event loop
KEEPALIVE_S: Final = 15.0  # between two signs of life within an answer: proxies commonly wait for a minute
BODY_S = 120.0  # for a whole body: a slow sender holds a connection for so long


def header(scope: Scope, name: str) -> str | None:
    """The first header called `name`, which is in lower case."""
    wanted = name.encode()
    for key, value in scope["headers"]:
        if key == wanted:
            found: str = value.decode("latin-1")
            return found.strip(" \t")
    return None


def headers(scope: Scope, name: str) -> str | None:
    """All headers called `name`, which is in lower case, as one (RFC 9110, section 5.3): some proxies add a line after
    the client's."""
    wanted = name.encode()
    found = [value.decode("latin-1").strip(" \t") for key, value in scope["headers"] if key == wanted]
    return ", ".join(found) if found else None


def headers_by_name(scope: Scope) -> dict[str, str]:
    """All headers, by their names in lower case; those of one name as one, like `headers`."""
    found: dict[str, str] = {}
    for key, value in scope["headers"]:
        name, one = key.decode("latin-1"), value.decode("latin-1").strip(" \t")
        found[name] = f"{found[name]}, {one}" if name in found else one
    return found


async def read_body(scope: Scope, receive: Receive, most: int, admitted: Admitted | None = None) -> bytes:
    """The request's body, without its content coding. Its bytes are reserved: those that its head declares before the
    first is read, others as they come. Raises TooLarge as soon as it is over `most` bytes, UnsupportedMedia for another
    coding than gzip, deflate and zstd, Cancelled where the client left, LimitExceeded, Busy."""
    declared, coding = b"", b""
    for name, value in scope["headers"]:
        if name == b"content-length":
            declared = value
        elif name == b"content-encoding":
            coding += b"," * bool(coding) + value.strip().lower()
    if declared.isdigit():
        length = int(declared.lstrip(b"0")[:20] or b"0")
        if length > most:
            raise _too_large(most)
        if admitted is not None and length > SMALL_BYTES:
            admitted.reserve(length)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Cancelled("the client left before its request was whole")
                if part := message.get("body", b""):
                    size += len(part)
                    if size > most:
                        raise _too_large(most)
                    if admitted is not None and size > SMALL_BYTES:
                        admitted.reserve(size)
                    parts.append(part)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise InputError(f"the request's body did not come within {BODY_S:.0f} s", field="body") from None
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    if coding in (b"", b"identity"):
        return body
    return await _without_coding(body, coding.decode("latin-1"), most, admitted)


_PIECE: Final = 256 * 1024
_CODINGS: Final = ("gzip", "x-gzip", "deflate", "zstd")


async def _without_coding(coded: bytes, coding: str, most: int, admitted: Admitted | None) -> bytes:
    """Decoded in pieces off the event loop, so that a few kilobytes become no more than `most` bytes. Raises
    UnsupportedMedia, TooLarge, InputError, LimitExceeded, Busy."""
    if coding not in _CODINGS:
        hint = f"one of {', '.join(_CODINGS)}, or none"
        raise UnsupportedMedia(f"the body is in a content coding that is not read: {coding[:80]}", hint=hint)
    if not coded:
        return b""
    pieces: list[bytes] = []
    size = 0
    decoding = _Zstd(coded) if coding == "zstd" else _Zlib(coded, gzip=coding != "deflate")
    while piece := await (aside(decoding.take) if admitted is None else admitted.off_loop(decoding.take)):
        size += len(piece)
        if size > most:
            raise _too_large(most)
        if admitted is not None:
            admitted.reserve(len(coded) + size)
        pieces.append(piece)
    return b"".join(pieces)


class _Zlib:
    """gzip or deflate, decoded in pieces."""

    def __init__(self, coded: bytes, *, gzip: bool) -> None:
        self._inflated = Inflated(gzip=gzip)
        self._inflated.feed(coded)

    def take(self) -> bytes:
        """The next bytes; empty at the end. Raises InputError."""
        try:
            if not (piece := self._inflated.take(_PIECE)):
                self._inflated.finish()
        except EgressError:
            raise _damaged() from None
        return piece


class _Zstd:
    """Frames of Zstandard (RFC 8878), decoded in pieces. A frame may ask for a window of 8 MB at most, as RFC 9659
    has it for this coding."""

    def __init__(self, coded: bytes) -> None:
        """Raises UnsupportedMedia where the library for it is not installed."""
        try:
            from backports import zstd  # noqa: PLC0415 - few requests are in this coding
        except ImportError:
            hint = "the operator installs it, with all that `host serve` needs; or send gzip"
            raise UnsupportedMedia("zstd is not read here: its library is not installed", hint=hint) from None
        self._new = partial(zstd.ZstdDecompressor, options={zstd.DecompressionParameter.window_log_max: 23})
        self._error = zstd.ZstdError
        self._stream = self._new()
        self._left = coded

    def take(self) -> bytes:
        """The next bytes; empty at the end. Raises InputError."""
        try:
            while True:
                if self._stream.eof:
                    if not (rest := self._stream.unused_data):
                        return b""
                    self._stream, self._left = self._new(), rest
                piece: bytes = self._stream.decompress(self._left, _PIECE)
                self._left = b""
                if piece:
                    return piece
                if not self._stream.eof:
                    raise _damaged()
        except self._error:
            raise _damaged() from None


def _damaged() -> InputError:
    return InputError("the request's compressed body is damaged, or ends too early", field="body")


async def read_json(body: bytes, what: str, admitted: Admitted, *, written: bool = False) -> dict[str, Json]:
    """The JSON object in `body`, which may begin with a byte order mark; with `written` a WrittenObject. A large one is
    parsed off the event loop, once its values are reserved. Raises InputError, LimitExceeded, Busy."""
    body = body.removeprefix(codecs.BOM_UTF8)
    read = WrittenObject.read if written else parse_object
    if len(body) > LARGE_BYTES:
        admitted.reserve(await admitted.off_loop(lambda: weight(body)))
        return await admitted.off_loop(lambda: read(body, what, most=MAX_VALUES))
    if len(body) > SMALL_BYTES:
        admitted.reserve(weight(body))
    return read(body, what, most=MAX_VALUES)


def final_status(status: int) -> int:
    """The status of an answer, from one that a guest gave: not one of those before the answer (RFC 9110, 15.2)."""
    return status if status >= 200 else 502


_WITHOUT_LENGTH: Final = frozenset({204, 304})  # nor type: there is no content (RFC 9110, 8.6 and 15.3.5)


async def send_whole(
    send: Send,
    status: int,
    body: bytes,
    content_type: str = JSON,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
) -> None:
    more = headers.items() if isinstance(headers, Mapping) else headers
    fields = []
    if status not in _WITHOUT_LENGTH:
        fields = [(b"content-type", content_type.encode("latin-1")), (b"content-length", str(len(body)).encode())]
    fields += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in more]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, value: Json, headers: Mapping[str, str] | None = None) -> None:
    await send_whole(send, status, json_bytes(value), JSON, headers or {})


_LAST_WORDS_S: Final = 1.0


async def last_words(sending: Awaitable[None]) -> None:
    """Send what ends an answer when the server ends, in a task that was cancelled. A client that does not read is not
    waited for."""
    with suppress(TimeoutError, asyncio.CancelledError):
        async with asyncio.timeout(_LAST_WORDS_S):
            await sending


class Leaving:
    """While it is entered, notices when the client leaves: then it calls `then` once, and `left` is true. To be used
    after the whole request was read."""

    def __init__(self, receive: Receive, then: Callable[[], None]) -> None:
        self._receive = receive
        self._then = then
        self._task: asyncio.Task[None] | None = None
        self.left = False

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.left = True
        self._then()

    def __enter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._watch())
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"the request's body is larger than {most} bytes", hint="the operator sets max_body_size")


UNANSWERED: Final = 499  # as nginx logs a client that left before the answer
_KEY: Final = "catalyst_host.request"
_LOGGED: Final = ("key", "catalyst", "operation", "run", "closed", "error", "reason")
_LONGEST_REASON: Final = 500


CONNECTION: Final = "host.connection"
"""In a scope: the RequestConnection. Not there under other servers than ours."""


class RequestConnection(Protocol):
    """What a connection is to be told of the request on it."""

    def recognized(self) -> None:
        """Its sender is authenticated."""
        ...

    def turned_away(self, scope: Scope) -> None:
        """The request of `scope` is refused because its sender has too many under way."""
        ...


@dataclass(slots=True)
class RequestContext:
    """One request. `route` is the route that matched, never the path; None stands for what is not known yet.

    `status` is that of the answer, `closed` the code that a WebSocket ended with. `error` is the code of the error in
    the answer, `reason` its words for the log. `large` says
    that the body takes long to read, `left` that the client left before the end of the answer. `admitted` is there
    while the request is under way. `arguments` are those of an MCP tool, where the SDK was not given them. `about` are
    the headers that say which run answers, once one does.
    """

    request_id: str = ""
    route: str = "other"
    principal: Principal | None = None
    catalyst: str | None = None
    operation: str | None = None
    run: str | None = None
    status: int = UNANSWERED
    closed: int | None = None
    error: str | None = None
    reason: str | None = None
    large: bool = False
    left: bool = False
    admitted: Admitted | None = None
    arguments: Mapping[str, Json] | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str | None:
        """The name of the API key: "" for a caller without one."""
        return None if self.principal is None else self.principal.name

    def failed(self, code: str, reason: str) -> None:
        """Note an error of the answer, in the words for the operator."""
        said = " ".join(reason.split())
        self.error = code
        self.reason = said if len(said) <= _LONGEST_REASON else said[: _LONGEST_REASON - 1] + "…"

    def facts(self) -> dict[str, Any]:
        """The facts for the log: those that are known."""
        found: dict[str, Any] = {}
        for name in _LOGGED:
            if (value := getattr(self, name)) is not None:
                found[name] = value
        return found


def context_of(scope: Scope) -> RequestContext:
    """The context of the request that `scope` describes: made at the first call, the same one at each further call."""
    found = scope.get(_KEY)
    if not isinstance(found, RequestContext):
        found = scope[_KEY] = RequestContext()
    return found


KEY_PROTOCOL: Final = "openai-insecure-api-key."  # as OpenAI's own clients send it from a browser
_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"})
_MAKE = "the operator makes them: host key create"
_HINT = f"send one: Authorization: Bearer host_sk_…; {_MAKE}"


def principal_of(scope: Scope, keys: KeyRing, settings: ServerSettings) -> Principal:
    """Who asks; their connection is told that it is known. Raises Unauthenticated."""
    found = _principal_of(scope, keys, settings)
    connection: RequestConnection | None = scope.get(CONNECTION)
    if connection is not None:
        connection.recognized()
    return found


def _principal_of(scope: Scope, keys: KeyRing, settings: ServerSettings) -> Principal:
    if not keys.any:
        if settings.anonymous and on_this_machine(scope):
            return Principal(None, ANONYMOUS_SCOPES, anonymous=True)
        raise Unauthenticated(
            "this server has no key yet, and so serves nobody but this machine",
            hint="the operator makes one: host key create --name NAME --type secret",
        )
    text = bearer(scope)
    if text is None:
        raise Unauthenticated("there is no key in the request", hint=_HINT)
    return Principal.of(holder(text, scope, keys, settings), Proof.of_text(text))


def holder(text: str, scope: Scope, keys: KeyRing, settings: ServerSettings) -> ApiKey:
    """The key of this text, if it is valid at the client's address. Raises Unauthenticated, alike for every reason."""
    key = keys.authenticate(text, time.time())
    if key is None or not valid_at_address(key, scope, settings):
        raise Unauthenticated(
            "the key is not valid here: it is unknown, expired, revoked, or not for this address", hint=_MAKE
        )
    return key


def bearer(scope: Scope) -> str | None:
    """The bearer token (RFC 6750, section 2.1), or the key that a browser's WebSocket has among its subprotocols. One
    in the URL does not count: URLs are logged."""
    scheme, _, text = (header(scope, "authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return text.strip() or None
    offered = scope.get("subprotocols", ())
    return next((one.removeprefix(KEY_PROTOCOL) for one in offered if one.startswith(KEY_PROTOCOL)), None) or None


def on_this_machine(scope: Scope) -> bool:
    """Whether the peer is on the loopback interface, and is no proxy for another client."""
    address = peer(scope)
    local = address is None if scope.get("client") is None else address is not None and address.is_loopback
    return local and _FORWARDED.isdisjoint([name for name, _ in scope["headers"]])


def client_address(scope: Scope, settings: ServerSettings) -> IPv4Address | IPv6Address | None:
    """The address of the client: the nearest one that is not a trusted proxy. Each proxy adds its peer to the end of
    X-Forwarded-For; addresses count from the end, as long as trusted proxies added them. None for a Unix socket."""
    address = peer(scope)
    forwarded = [part.strip() for part in (headers(scope, "x-forwarded-for") or "").split(",") if part.strip()]
    while address is not None and forwarded and any(address in network for network in settings.trusted_proxies):
        address = _address(forwarded.pop())
    return address


def valid_at_address(key: ApiKey, scope: Scope, settings: ServerSettings) -> bool:
    if not key.ip_allowlist:
        return True
    address = client_address(scope, settings)
    return address is not None and any(address in network for network in key.ip_allowlist)


def peer(scope: Scope) -> IPv4Address | IPv6Address | None:
    client = scope.get("client")
    return _address(client[0]) if client else None


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
