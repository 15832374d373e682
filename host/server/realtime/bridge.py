"""A bridge: messages between a client's WebSocket and a session, both ways.

Each direction waits for its own receiver: a client that does not read holds up the upstream, and an upstream that does
not read holds up the client. The end of one side ends the other, with its code and reason.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

from host.core.conversation import FAILED, GOING_AWAY, NORMAL, REFUSED, RESTARTS, SENDABLE, TOO_BIG
from host.core.strict_json import Json, write_json
from host.errors import (
    Cancelled,
    Forbidden,
    HostError,
    InputError,
    OperationFailed,
    RequestRefused,
    ShuttingDown,
    StateError,
    TooLarge,
)
from host.server.asgi import LARGE_BYTES, SMALL_BYTES, Receive, RequestContext, Send, last_words
from host.server.http_errors import ending, note_failure
from host.server.openai.gateway import of_host
from host.service.principal import weight

if TYPE_CHECKING:
    from host.core.conversation import SocketMessage
    from host.service.dispatch import Dispatch
    from host.service.principal import Admitted
    from host.service.sessions import MessageRules, RunningSession

FAREWELL_S: Final = 5.0  # that the upstream has to end a session, once the client has
_MOSTREFUSED: Final = 20  # messages of one session; each is recorded


class Bridge:
    """`rules` say what the client's messages may name. `admitted` accounts for the bytes of the largest."""

    def __init__(
        self,
        session: RunningSession,
        rules: MessageRules,
        dispatch: Dispatch,
        admitted: Admitted,
        context: RequestContext,
        receive: Receive,
        send: Send,
    ) -> None:
        self._session = session
        self._rules = rules
        self._dispatch = dispatch
        self._admitted = admitted
        self._context = context
        self._receive = receive
        self._send = send
        self._refused = 0

    async def run(self) -> None:
        """Returns once both ends have ended. Raises nothing but CancelledError, after the client was told why, and
        faults of ours."""
        loop = asyncio.get_running_loop()
        up, down = loop.create_task(self._upward()), loop.create_task(self._downward())
        try:
            await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            if not down.done() and up.exception() is None:  # the client has left, or the session is about to end
                await asyncio.wait([down], timeout=FAREWELL_S)
            errors = [error for task in (down, up) if task.done() and (error := task.exception()) is not None]
            if not errors:
                await self._close(*self._end())
            elif isinstance(errors[0], HostError):
                await self._fail(errors[0])
            else:
                raise errors[0]
        except asyncio.CancelledError:
            await last_words(self._fail(ending()))
            raise
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _upward(self) -> None:
        """What the client says. Returns when it has left, or the session has ended. Raises HostError."""
        while (message := await self._receive())["type"] == "websocket.receive":
            text = message.get("text")
            said: SocketMessage = message["bytes"] if text is None else text
            try:
                said = await self._checked(said)
            except (Forbidden, InputError) as error:
                await self._refuse(error)
                continue
            try:
                await self._session.send(said)
            except StateError:
                return
        self._context.left = True
        code = message.get("code") or NORMAL
        self._context.closed = code
        self._session.hang_up(code if code in SENDABLE else GOING_AWAY, message.get("reason") or "")

    async def _checked(self, said: SocketMessage) -> SocketMessage:
        """The message, once what it takes is reserved. Where it is read, and is large, off the event loop. Raises
        LimitExceeded, Busy, Forbidden, InputError."""
        reads, admitted = self._rules.reads, self._admitted
        if len(said) <= SMALL_BYTES:
            return self._rules.checked(said)
        if not reads:
            admitted.reserve(len(said) if said.isascii() else len(said) * (1 if isinstance(said, bytes) else 4))
            return said
        if len(said) <= LARGE_BYTES:
            admitted.reserve(weight(said))
            return self._rules.checked(said)
        admitted.reserve(await admitted.off_loop(lambda: weight(said)))
        return await admitted.off_loop(lambda: self._rules.checked(said))

    async def _refuse(self, error: Forbidden | InputError) -> None:
        """Record it and tell the client, and go on without the message. Raises `error` where there were many."""
        self._refused += 1
        said: HostError = error
        if isinstance(error, Forbidden):
            context = self._context
            refused = self._dispatch.refused
            said = await refused(error, context.principal, request_id=context.request_id, route=context.route)
        if self._refused >= _MOSTREFUSED:
            raise said
        note_failure(self._context, said)
        await self._say(said)

    async def _downward(self) -> None:
        """What the upstream says. Returns when the session has ended. Raises HostError."""
        while messages := await self._session.messages():
            for message in messages:
                form = {"bytes": message} if isinstance(message, bytes) else {"text": message}
                await self._send({"type": "websocket.send", **form})

    def _end(self) -> tuple[int, str]:
        closed = self._session.closed
        return (closed.code, closed.reason) if closed is not None and closed.code in SENDABLE else (NORMAL, "")

    async def _fail(self, error: HostError) -> None:
        note_failure(self._context, error)
        closed = self._session.closed
        if isinstance(error, OperationFailed) and closed is not None and closed.code in SENDABLE:
            await self._close(closed.code, closed.reason)  # the upstream's own end, which it may have explained
            return
        await self._say(error)
        await self._close(_code_of(error), error.code)

    async def _say(self, error: HostError) -> None:
        if not self._context.left:
            await self._send({"type": "websocket.send", "text": write_json(event_of(error))})

    async def _close(self, code: int, reason: str) -> None:
        if not self._context.left:
            self._context.closed = code
            await self._send({"type": "websocket.close", "code": code, "reason": reason})


def event_of(error: HostError) -> dict[str, Json]:
    """The `error` event of OpenAI's API for an error of the host."""
    status, body, _ = of_host(error)
    return {"type": "error", "event_id": "event_" + secrets.token_hex(12), "status": status, **body}


def _code_of(error: HostError) -> int:
    """The close code (RFC 6455, section 7.4.1)."""
    match error:
        case ShuttingDown():
            return RESTARTS
        case TooLarge():
            return TOO_BIG
        case RequestRefused() | InputError():
            return REFUSED
        case Cancelled():
            return GOING_AWAY
        case _:
            return FAILED
