"""Sessions: runs whose caller exchanges messages with an upstream, over a connection that stays.

A session is admitted, resolved, recorded and settled like any run (see `host.service.dispatch`). What is its own: each
answer within it says what that one cost, so its tokens are a sum, and are held to the limits while it goes on; and the
caller's messages name models, which a key for some models is held to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, cast

from host.core.strict_json import Json, parse_object, write_json
from host.errors import Cancelled, Forbidden, HostError, InputError, OperationFailed, UpstreamTimeout
from host.runtime.events import upstreams_of
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
_MOST_ANSWERS: Final = 1_000  # of one session at once, whose parts are counted apart
_UNKNOWN: Final = hash("")
_OTHERS: Final = -1  # no text has this hash
_STEP: Final = 50


@dataclass
class SessionCount(TokenCount):
    """The sum of what the answers of one session say, and of those that have not said it yet the number of parts: a
    caller who leaves before that has spent them. The run's thread writes it."""

    uncounted: int = 0
    _parts: dict[int, int] = field(default_factory=dict)  # by answer

    def event(self, text: str) -> None:
        self.tokens = self.dialect.tokens_of_message(text, self.tokens) or self.tokens
        if (found := self.dialect.answer_of_message(text)) is None:
            return
        ident, said = hash(found[0]), found[1]  # ids are strangers' texts, of any length
        if said:
            self.uncounted -= self._parts.pop(ident, 0) + self._parts.pop(_UNKNOWN, 0)
            return
        if ident not in self._parts and len(self._parts) >= _MOST_ANSWERS:
            ident = _OTHERS
        self._parts[ident] = self._parts.get(ident, 0) + 1
        self.uncounted += 1

    @property
    def spent(self) -> int:
        """Tokens, at least; those that are not counted in steps, since a limit is asked at each."""
        return self.uncounted // _STEP * _STEP + (0 if self.tokens is None else self.tokens.total)


class RunningSession(Running):
    """A session that began, and opens. To be used in an `async with`, like any run."""

    def _begun(self, resolved: Resolved, catalyst: Catalyst) -> AsyncEventStream:
        self.resolved, self.catalyst = resolved, catalyst
        self._counted = self._spending = SessionCount(resolved.dialect)
        self._over: HostError | None = None
        given, caller = resolved.sent(resolved.params, catalyst.passes, catalyst.grant.forwards), resolved.caller()
        if "headers" in given:
            caller["headers"] = sorted(given["headers"])
        if self.tried:
            caller |= {"attempt": len(self.tried) + 1, "first": self.tried[0].run}
        options: dict[str, Any] = {"caller": caller, "counting": self._counted, "checked": True}
        options |= {"share": resolved.share(self._dispatch.budgets), "upstreams": resolved.upstreams}
        self._line: AsyncEventConnection = catalyst.connecting(given, timeout=resolved.request.timeout_s, **options)
        stream = cast("AsyncEventStream", self._line)  # of which nothing is asked that a connection has not
        self.meters, self.upstreams = stream.meters, upstreams_of(stream)
        return stream

    async def opening(self, patience_s: float) -> None:
        """Wait until it is open, at the first target whose upstream opens one. Raises HostError, of which
        OperationFailed is for the upstream's refusal, and UpstreamTimeout for one that takes longer than that in all:
        nobody sees meanwhile whether the caller is still there."""
        try:
            async with asyncio.timeout(patience_s):
                await self._opening()
        except TimeoutError:
            self._outcome = UpstreamTimeout.code
            raise UpstreamTimeout(
                f"the connection was not open within {patience_s:g} s",
                limit="first_byte_timeout",
                waited_s=patience_s,
                hint="try again; if one target is slow to answer, lower first_byte_timeout in its policy",
            ) from None

    async def _opening(self) -> None:
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
        elif self.held.held and (spent := self._spending.spent):
            await self._hold(spent)
        return found

    async def _hold(self, total: int) -> None:
        short = total - min(one.amount for one in self.held.held)
        if short > 0:
            self.held = type(self.held)(tuple(replace(one, amount=one.amount + short) for one in self.held.held))
            try:
                await self._dispatch.reserve_more(self.held, short)
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
        tokens, more = self.tokens or Tokens(), self._spending.uncounted
        tokens = Tokens(tokens.input, tokens.output + more)
        return Ended(self._outcome, tokens, time.monotonic() - self._began, counted=not more)


class MessageRules:
    """What a caller's messages may name. Most callers may name anything: then nobody reads them."""

    def __init__(self, resolved: Resolved, routing: Routing, most_values: int) -> None:
        """`most_values`: of JSON in one message that is read."""
        self._spec: OperationSpec | None = resolved.spec
        self._principal: Principal = resolved.request.principal
        self._dialect: Dialect = resolved.dialect
        self._routing = routing
        self._most_values = most_values
        self.reads = self._principal.for_some_models or bool(routing.aliases)

    def checked(self, message: SocketMessage) -> SocketMessage:
        """The message to send, with models' own names in place of aliases. Raises Forbidden where it names a model that
        the key is not for, or hides one; InputError where that cannot be read."""
        if not self.reads:
            return message
        event = self._event(message)
        if event is None:
            return message
        replaced, aliases = self._with_own_names(event)
        if self._principal.for_some_models:
            if self._dialect.message_hides(self._spec, event):
                self._principal.require_any_model()
            for model in self._dialect.other_models({"": replaced}):  # an alias that still stands there is sent
                if not isinstance(model, str):
                    raise Forbidden("a model is named by what is no text")
                self._principal.require_model(*aliases.get(model, ()), model)
        return write_json(replaced) if aliases else message

    def _event(self, message: SocketMessage) -> dict[str, Json] | None:
        """None for what is no event, of a caller whose events are not held to anything."""
        try:
            # bytes are read as a text is
            return parse_object(message, "the message", most=self._most_values, names_once=True)
        except InputError:
            if self._principal.for_some_models:
                raise
            return None

    def _with_own_names(self, event: dict[str, Json]) -> tuple[dict[str, Json], dict[str, list[str]]]:
        """The event with aliases replaced in the places for that, and by own name the aliases that stood there."""
        aliases: dict[str, list[str]] = {}
        for place in _PLACES:
            holder = event.get(place) if place else event
            if not isinstance(holder, dict) or not isinstance(model := holder.get("model"), str):
                continue
            if (own := self._routing.model(model)) != model:
                aliases.setdefault(own, []).append(model)
                named = {**holder, "model": own}
                event = {**event, place: named} if place else named
        return event, aliases
