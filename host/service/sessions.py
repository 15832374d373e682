"""Sessions: runs whose caller exchanges messages with an upstream, over a connection that stays.

A session is admitted, resolved, recorded and settled like any run (see `host.service.dispatch`). What is its own: each
answer within it says what that one cost, so its tokens are a sum, and are held to the limits while it goes on; and the
caller's messages name models, which a key for some models is held to.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from host.core.strict_json import Json, parse_object, write_json
from host.errors import Cancelled, Forbidden, HostError, InputError, OperationFailed
from host.service.accounts import Ended
from host.service.dialects.dialect import Dialect, Tokens
from host.service.dispatch import Running
from host.service.request import TokenCount

if TYPE_CHECKING:
    from host.component.operations import OperationSpec
    from host.core.conversation import Closed, SocketMessage
    from host.runtime.catalyst import Catalyst
    from host.runtime.connections import AsyncEventConnection
    from host.runtime.events import AsyncEventStream
    from host.service.principal import Principal
    from host.service.request import Resolved, Routing

_PLACES: Final = ("", "session", "response")  # of a model's name in a message, where an alias may stand


class SessionCount(TokenCount):
    """The sum of what the answers of one session say. The run's thread writes it."""

    def event(self, text: str) -> None:
        self.tokens = self.dialect.tokens_of_message(text, self.tokens) or self.tokens


class RunningSession(Running):
    """A session that began, and opens. To be used in an `async with`, like any run."""

    def _begun(self, resolved: Resolved, catalyst: Catalyst) -> AsyncEventStream:
        self.resolved, self.catalyst = resolved, catalyst
        self._counted = SessionCount(resolved.dialect)
        self._over: HostError | None = None
        given, caller = resolved.sent(resolved.params, catalyst.passes, catalyst.grant.forwards), resolved.caller()
        if "headers" in given:
            caller["headers"] = sorted(given["headers"])
        if self.tried:
            caller |= {"attempt": len(self.tried) + 1, "first": self.tried[0].run}
        options: dict[str, Any] = {"caller": caller, "counting": self._counted, "checked": True}
        options["share"] = resolved.share(self._dispatch.budgets)
        self._line: AsyncEventConnection = catalyst.connecting(given, timeout=resolved.request.timeout_s, **options)
        self.meters = self._line.meters
        return cast("AsyncEventStream", self._line)  # of which nothing is asked that a connection has not

    async def opening(self) -> None:
        """Wait until it is open, at the first target whose upstream opens one. Raises HostError, of which
        OperationFailed is for the upstream's refusal."""
        while True:
            try:
                await self._line.opening()
            except HostError as error:
                said = self._caused(error)
                if not await self._moved(error):
                    raise self._error(said) from None
            else:
                self._handed = True  # whatever comes now is the caller's
                return

    async def send(self, message: SocketMessage) -> None:
        """Raises StateError where it has ended, TooLarge."""
        await self._line.send(message)

    async def messages(self) -> Sequence[SocketMessage]:
        """The messages that have arrived: at least one, or none once it has ended. Raises HostError; LimitExceeded
        once it cost more than a limit has left, after the messages that say so."""
        if self._over is not None:
            raise self._caused(self._over)
        try:
            found = await self._line.messages()
        except HostError as error:
            raise self._caused(error) from None
        if found and not self.events:
            self._dispatch.first_event(self, time.monotonic() - self._began)
        self.events += len(found)
        if not found:
            self._outcome = str(self._line.result.status)
        elif self.held.held and self.tokens is not None:
            await self._hold(self.tokens.total)
        return found

    async def _hold(self, total: int) -> None:
        short = total - min(one.amount for one in self.held.held)
        if short > 0:
            self.held = type(self.held)(tuple(replace(one, amount=one.amount + short) for one in self.held.held))
            try:
                await self._dispatch.hold_more(self.held, short)
            except HostError as error:
                self._over = error

    def hang_up(self, code: int, reason: str = "") -> None:
        """End it behind all that was sent. What still comes may be taken."""
        self._line.hang_up(code, reason)

    @property
    def closed(self) -> Closed | None:
        """How the upstream ended it, or was told to; None where the run ended otherwise."""
        return self._line.closed

    def _caused(self, error: HostError) -> HostError:
        """What the caller is told of `error`."""
        self._outcome = str(error.result.status) if isinstance(error, OperationFailed) else error.code
        return self._why if self._why is not None and isinstance(error, Cancelled) else error

    def _ended(self) -> Ended:
        return Ended(self._outcome, self.tokens or Tokens(), time.monotonic() - self._began)


class MessageRules:
    """What a caller's messages may name. Most callers may name anything: then nobody reads them."""

    def __init__(self, resolved: Resolved, routing: Routing) -> None:
        self._spec: OperationSpec | None = resolved.spec
        self._principal: Principal = resolved.request.principal
        self._dialect: Dialect = resolved.dialect
        self._routing = routing
        self._reads = self._principal.for_some_models or bool(routing.aliases)

    def checked(self, message: SocketMessage) -> SocketMessage:
        """The message to send, with models' own names in place of aliases. Raises Forbidden where it names a model that
        the key is not for, or hides one; InputError where that cannot be read."""
        if not self._reads:
            return message
        event = self._event(message)
        if event is None:
            return message
        replaced = self._with_own_names(event)
        if self._principal.for_some_models:
            if self._dialect.message_hides(self._spec, event):
                self._principal.require_any_model()
            for model in self._dialect.other_models({"": event}):
                if not isinstance(model, str):
                    raise Forbidden("a model is named by what is no text")
                self._principal.require_model(model, self._routing.model(model))
        return message if replaced is None else write_json(replaced)

    def _event(self, message: SocketMessage) -> dict[str, Json] | None:
        """None for what is no event, of a caller whose events are not held to anything."""
        try:
            return parse_object(message, "the message", names_once=True)  # bytes are read as a text is
        except InputError:
            if self._principal.for_some_models:
                raise
            return None

    def _with_own_names(self, event: dict[str, Json]) -> dict[str, Json] | None:
        """The event with aliases replaced; None where it has none."""
        found = None
        for place in _PLACES:
            holder = event if not place else event.get(place)
            if not isinstance(holder, dict) or not isinstance(model := holder.get("model"), str):
                continue
            if (own := self._routing.model(model)) != model:
                base = event if found is None else found
                named = {**holder, "model": own}
                found = {**base, **named} if not place else {**base, place: named}
        return found
