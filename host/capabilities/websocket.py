"""`catalyst:host/websocket`: connections on which both sides send messages, to be read by the guest, or relayed between
the caller of the run and the other side without passing through the guest.

parse → method, domain → where to, how many, how often → audit → `Sockets.open`; every message: size → secrets → meter
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from host.capabilities.exchange import Exchange, LiveUpstream, UpstreamAnswer
from host.capabilities.failed import recorded
from host.capabilities.message import (
    ConnectMessage,
    GuestError,
    check_not_moved,
    decode_body,
    joined,
    read_connect,
    read_socket_message,
)
from host.capabilities.upstream import RawAnswer, RawSocket, UpstreamRequest
from host.core.conversation import GOING_AWAY, TOO_BIG, Closed, Conversation, SocketMessage, size_of
from host.core.headers import METHOD_OVERRIDES, methods_in_fields, spelled
from host.core.names import SecretName
from host.core.repeating import cause_of_status
from host.core.strict_json import Json, write_json
from host.core.wit import WEBSOCKET
from host.egress import EgressClient, EgressError, Outgoing
from host.errors import Refusal
from host.policy.permissions import Deny, Grant, decide
from host.run import Run, Stop
from host.secrets.redaction import Redactor
from host.secrets.value import PLACEHOLDER_PREFIX

_TURN_S: Final = 60.0  # at most, of one wait; what ends it before is an event, the run's end or a ping that is due
_LOOK_S: Final = 0.05  # how often a run is looked at that waits for its caller alone
_UNSENT_BYTES: Final = 256 * 1024  # behind which no more is taken from the caller
_MOST_BEFORE: Final = 64  # characters before a secret, in all subprotocols together
_LONGEST_BODY: Final = 64 * 1024  # characters of an answer in place of a connection
_OFFERED: Final = "Sec-WebSocket-Protocol"
_OWN_S: Final = 0.001  # of CPU time, that a turn of the relay may cost the host
_OWN_S_A_BYTE: Final = 0.000_002  # more, that passes in it


class Sockets(Protocol):
    """Where allowed connections go: as `host.capabilities.exchange.Upstream` for requests. Thread-safe."""

    def open(self, run: Run, request: UpstreamRequest, subprotocols: Sequence[str]) -> RawSocket | RawAnswer:
        """Returns the answer where the upstream opens none. Settles the run's records before it sends anything. Raises
        EgressError, GuestError, AuditError."""
        ...

    def filled(self, run: Run, request: UpstreamRequest, message: SocketMessage) -> SocketMessage:
        """`message` with values where the grants let secrets into the body of what goes over the connection that
        `request` opened. Raises EgressError for a token that cannot be had."""
        ...


class LiveSockets:
    """Opens connections over the network, to checked addresses only; with values in place of placeholders where the
    grant says so: in the headers as for requests, and in subprotocols, where programs without headers put a key."""

    def __init__(self, upstream: LiveUpstream, grant: Grant, client: EgressClient) -> None:
        self._upstream = upstream
        self._grant = grant
        self._client = client

    def open(self, run: Run, request: UpstreamRequest, subprotocols: Sequence[str]) -> RawSocket | RawAnswer:
        if run.placeholders.names:
            request = self._upstream.with_secrets(run, request)
            subprotocols = self._offered(run, request, subprotocols)
        run.settle()
        most, waits, key = run.limits.max_response_bytes, run.limits, run.key
        outgoing = Outgoing("GET", request.destination, request.headers, b"", most, waits, key)
        began = time.monotonic()
        try:
            return self._client.connect(outgoing, subprotocols, run)
        finally:
            run.meters.upstream_time_s += time.monotonic() - began

    def filled(self, run: Run, request: UpstreamRequest, message: SocketMessage) -> SocketMessage:
        if isinstance(message, bytes) or PLACEHOLDER_PREFIX not in message:
            return message
        grants = [grant for grant in self._grant.secrets_for(request.target) if "body" in grant.places]
        values = self._upstream.substitution(run, grants, request)
        data, used = values.apply_bytes(message.encode("utf-8"), "application/json")
        message = data.decode("utf-8")
        self._record(run, request, used, message, "body")
        return message

    def _offered(self, run: Run, request: UpstreamRequest, subprotocols: Sequence[str]) -> Sequence[str]:
        """The subprotocols with values, under the rules of a header that carries credentials. Raises GuestError where
        a value is moved along in it, or is no token."""
        whole = ", ".join(subprotocols)
        if PLACEHOLDER_PREFIX not in whole:
            return subprotocols
        grants = [grant for grant in self._grant.secrets_for(request.target) if "header" in grant.places]
        text, used = self._upstream.substitution(run, grants, request).apply_text(whole)
        check_not_moved(_OFFERED, whole, used, _MOST_BEFORE)
        filled = text.split(", ")
        if len(filled) != len(subprotocols):
            raise GuestError("http_error", "a secret with a comma in it cannot stand in a subprotocol")
        self._record(run, request, used, text, _OFFERED)
        return filled

    def _record(self, run: Run, request: UpstreamRequest, used: frozenset[str], left: str, place: str) -> None:
        """Each secret that was put in, and each that may not stand there: its placeholder is sent."""
        for placeholder in sorted(used):
            name = run.placeholders.names[placeholder]
            detail = {"secret": name, "origin": request.target.origin, **self._upstream.stand_in_of(name, request)}
            run.audit("secret.use", "allow", detail=detail)
        for placeholder, name in run.placeholders.names.items():
            if placeholder in left:
                places, headers = ([place], []) if place == "body" else ([], [place])
                self._upstream.refuse_use(run, SecretName.parse(name), request.target, places, headers)


class OpenSocket:
    """A connection of a run: what passes is redacted and metered, and its end is recorded. To be closed."""

    def __init__(
        self,
        run: Run,
        raw: RawSocket,
        message: ConnectMessage,
        request: UpstreamRequest,
        redactor: Redactor,
        failed: Callable[..., GuestError],
    ) -> None:
        """`request` opened it; `redactor` knows the secrets of the other side; `failed` makes the GuestError of what
        went wrong."""
        self.raw = raw
        self.relay = message.relay
        self.request = request
        self.subprotocol = redactor.text(raw.subprotocol)
        self.headers = joined(redactor, raw.headers)
        self._run = run
        self._url = message.shown
        self._redactor = redactor
        self.failed = failed
        self._closed = False

    @property
    def held(self) -> bool:
        """Whether it holds a descriptor: also one that the other side has ended, until the guest is told."""
        return not self._closed

    def ending(self) -> Closed:
        """How it ended."""
        end = self.raw.end or Closed(GOING_AWAY)
        return Closed(end.code, self._redactor.text(end.reason))

    def turn(self, seconds: float, *, reading: bool = True, wake: int | None = None) -> None:
        """See host.egress.websocket.WebSocket.turn. Raises GuestError."""
        run, before, began = self._run, self.raw.received_bytes, time.monotonic()
        try:
            self.raw.turn(run, seconds, reading=reading, wake=wake)
        except EgressError as error:
            raise self._failure(error) from None
        finally:
            run.meters.received_bytes += self.raw.received_bytes - before
            spent = time.monotonic() - began
            if reading:
                run.meters.upstream_time_s += spent
            else:
                run.meters.caller_time_s += spent

    def take(self, redactor: Redactor | None = None) -> SocketMessage | None:
        """The next message, searched for the secrets of the other side, or for those that `redactor` knows. Raises
        GuestError, RunStopped."""
        try:
            message = self.raw.take()
        except EgressError as error:
            raise self._failure(error) from None
        redactor = redactor or self._redactor
        if not message or not redactor.searches:
            return message
        if isinstance(message, bytes):
            return redactor.data(message, self._run.go_on)
        return redactor.text(message, self._run.go_on)

    def put(self, message: SocketMessage) -> None:
        self._run.meters.sent_bytes += size_of(message)
        self.raw.put(message)

    def _failure(self, error: EgressError) -> GuestError:
        self.close()
        return self.failed(error)

    def close(self) -> None:
        """End it, now if it has not ended: what has come can still be taken. Any number of times; recorded once."""
        if self._closed:
            return
        self._closed = True
        raw = self.raw
        raw.close()
        counted = {"sent": raw.sent, "received": raw.received}
        sizes = {"sent_bytes": raw.sent_bytes, "received_bytes": raw.received_bytes}
        self._run.audit("websocket.closed", detail={"url": self._url, "code": self.ending().code, **counted, **sizes})


class WebSockets:
    interface = WEBSOCKET

    def __init__(self, exchange: Exchange, sockets: Sockets) -> None:
        self._exchange = exchange
        self._grant = exchange.grant
        self._sockets = sockets

    def functions(self) -> Mapping[str, Any]:
        return {"connect": self.connect, "send": self.send, "receive": self.receive, "close": self.close}

    def connect(self, run: Run, text: str) -> str:
        try:
            return write_json(self._connected(run, text))
        except GuestError as error:
            return error.as_json()

    def send(self, run: Run, handle: str, text: str) -> str:
        try:
            socket = self._socket(run, handle, to_send=True)
            message = read_socket_message(text, run.attachments, run.go_on)
            self._say(run, socket, self._filled(run, socket, message))
            while socket.raw.unsent and not socket.raw.ended:
                socket.turn(_TURN_S, reading=socket.raw.has_room)
            return write_json(_closed(socket) if socket.raw.ended else {"ok": True})
        except GuestError as error:
            return error.as_json()

    def receive(self, run: Run, handle: str, timeout_ms: int) -> str:
        try:
            socket = self._socket(run, handle)
            if socket.relay and run.conversation is not None:
                return write_json(self._relayed(run, socket, run.conversation))
            return write_json(_received(socket, time.monotonic() + timeout_ms / 1_000))
        except GuestError as error:
            return error.as_json()

    def close(self, run: Run, handle: str) -> str:
        if isinstance(run.streams.get(handle), OpenSocket):
            run.streams.pop(handle).close()
        return write_json({"ok": True})

    def _connected(self, run: Run, text: str) -> dict[str, Json]:
        run.unserved = None
        exchange = self._exchange
        try:
            message = read_connect(text, run.go_on)
            self._check_room(run, message)
            rule = self._allowed(message)
            shown: dict[str, Json] = {"method": "GET", "url": message.shown, "websocket": True}
            entered = exchange.enter(run, message, 0, rule, shown)
        except GuestError as error:
            raise exchange.refused(run, error) from None
        request = UpstreamRequest("GET", message.target, entered.destination, message.headers, b"")
        open_ = partial(self._sockets.open, subprotocols=message.subprotocols)
        raw, request, redactor, failed = exchange.open(run, request, entered, open_)
        if not isinstance(raw, RawSocket):
            run.unserved = cause_of_status(raw.status)
            return _refused(UpstreamAnswer(run, raw, redactor, failed), message)
        return self._handed_out(run, OpenSocket(run, raw, message, request, redactor, failed))

    def _handed_out(self, run: Run, socket: OpenSocket) -> dict[str, Json]:
        handle = "ws_" + secrets.token_hex(16)
        run.streams[handle] = socket
        opened: dict[str, Json] = {"handle": handle, "subprotocol": socket.subprotocol, "headers": socket.headers}
        if socket.relay and run.conversation is not None:
            run.begin_flow()
            leaving = run.redactor.json((socket.subprotocol, socket.headers))
            run.conversation.opened(leaving[0], leaving[1])
            opened["relay"] = True
        return opened

    def _allowed(self, message: ConnectMessage) -> str:
        """The rule that allows the connection. Raises GuestError."""
        exchange, target = self._exchange, message.target
        decision = decide(target, "GET", self._grant)
        if isinstance(decision, Deny):
            raise GuestError.denied(decision, f"GET {message.shown}")
        for name, value in message.headers:
            if spelled(name) in METHOD_OVERRIDES:
                exchange.check_override(message, value)
        if not exchange.any_method:
            for method in methods_in_fields(target.path_query, "", b""):
                exchange.check_override(message, method)
        return decision.rule

    def _check_room(self, run: Run, message: ConnectMessage) -> None:
        if message.relay and run.conversation is None:
            words = "a relay was asked for, and the caller of this run exchanges no messages"
            raise GuestError("no_caller", f"{words} (host run --stream, or Catalyst.connect, do)")
        most = self._grant.limits.max_connections
        if sum(isinstance(one, OpenSocket) and one.held for one in run.streams.values()) >= most:
            remedy = f"close one first, or raise max_connections in the policy of {self._grant.reference}"
            raise GuestError.refused(Refusal("stream_limit", "WebSockets", f"a run may have {most} open", remedy))

    def _socket(self, run: Run, handle: str, *, to_send: bool = False) -> OpenSocket:
        socket = run.streams.get(handle)
        if not isinstance(socket, OpenSocket):
            raise GuestError("invalid_handle", "there is no such connection in this run")
        if to_send and socket.relay:
            raise GuestError("http_error", "the messages of this connection are its caller's")
        return socket

    def _filled(self, run: Run, socket: OpenSocket, message: SocketMessage) -> SocketMessage:
        """See `Sockets.filled`. Raises GuestError; the connection stays open then, and nothing was sent."""
        try:
            return self._sockets.filled(run, socket.request, message)
        except EgressError as error:
            raise socket.failed(error) from None

    def _say(self, run: Run, socket: OpenSocket, message: SocketMessage) -> None:
        """Send a message, of the guest or the caller. Raises GuestError, its refusal recorded, where it is too large,
        or all of them together are."""
        size, limits = size_of(message), run.limits
        name, most = "max_message_size", limits.max_message_bytes
        what = f"a message of {size} bytes is"
        if size <= most:
            name, most = "max_connection_size", limits.max_connection_bytes
            what, size = "all messages together are", size + socket.raw.sent_bytes
        if size > most:
            socket.raw.begin_close(Closed(TOO_BIG))
            remedy = f"raise {name} in the policy of {self._grant.reference}"
            refusal = Refusal("request_too_large", socket.request.target.shown, f"{what} over {most}", remedy)
            raise recorded(run, GuestError.refused(refusal))
        socket.put(message)
        run.once_only = True

    def _relayed(self, run: Run, socket: OpenSocket, caller: Conversation) -> dict[str, Json]:
        """Hand the messages of each side to the other, until the connection has ended. A side that takes nothing stops
        the other one, and holds up no message of its own. Raises GuestError."""
        raw, listens, full_since = socket.raw, True, 0.0
        while True:
            began, before = time.thread_time(), _passed(run)
            run.go_on()
            caller.attend()
            while raw.unsent < _UNSENT_BYTES and not raw.closing and (said := caller.heard()) is not None:
                if isinstance(said, Closed):
                    raw.begin_close(said)
                else:
                    self._say(run, socket, said)
            more = True
            while more and caller.has_room:
                if (message := socket.take(run.redactor)) is None:
                    more = False
                else:
                    listens = listens and _handed(run, caller, message)
            if not listens:
                raw.begin_close(Closed(GOING_AWAY))
            if raw.ended and not (more and listens):
                end = socket.ending()
                caller.closed(Closed(end.code, run.redacted(end.reason)))
                return _closed(socket)
            now = time.monotonic()
            full_since = 0.0 if caller.has_room else full_since or now
            if full_since and now - full_since >= run.limits.idle_timeout_s:
                run.stop(Stop.CALLER)
                raise GuestError("timeout", "the caller of the run takes no messages")
            if raw.ended:
                run.step_aside()
                caller.wait(_LOOK_S)
            else:
                wait_s = _TURN_S if not full_since else full_since + run.limits.idle_timeout_s - now
                socket.turn(wait_s, reading=caller.has_room and raw.has_room, wake=caller.fileno())
            own_s = _OWN_S + _OWN_S_A_BYTE * (_passed(run) - before)
            run.excuse(min(own_s, time.thread_time() - began))


def _passed(run: Run) -> int:
    """Bytes, each of which counts where it comes and where it goes."""
    return run.meters.received_bytes + run.meters.sent_bytes + run.meters.emitted_bytes


def _handed(run: Run, caller: Conversation, message: SocketMessage) -> bool:
    if isinstance(message, str):
        return run.emit(message, relayed=True)
    run.meters.emitted_bytes += len(message)
    return caller.hand(message)


def _received(socket: OpenSocket, until: float) -> dict[str, Json]:
    looked = False
    while True:
        if (message := socket.take()) is not None:
            if isinstance(message, str):
                return {"text": message}
            return {"data": base64.b64encode(message).decode("ascii")}
        if socket.raw.ended:
            return _closed(socket)
        left = until - time.monotonic()
        if left <= 0 and looked:
            return {"none": True}
        socket.turn(max(0.0, min(_TURN_S, left)))
        looked = True


def _closed(socket: OpenSocket) -> dict[str, Json]:
    """The end, for the guest, once it holds nothing."""
    socket.close()
    end, raw = socket.ending(), socket.raw
    return {"closed": {"code": end.code, "reason": end.reason}, "sent": raw.sent, "received": raw.received}


def _refused(answer: UpstreamAnswer, message: ConnectMessage) -> dict[str, Json]:
    """For a guest whose connection was answered as a request is. Raises GuestError."""
    body = decode_body(answer.read_all())[:_LONGEST_BODY]
    words = f"{message.target.at.endpoint} answered {answer.status}, and opened no WebSocket"
    error = {"type": "http_error", "message": words}
    return {"error": error, "status": answer.status, "headers": answer.headers, "body": body}
