"""Events: how they are written, and how those of a client are read."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from host.fakes.messages import encode_json
from host.fakes.openai import errors
from host.fakes.openai.text import identifier, seed_of
from host.fakes.websocket import FakeMessage

MAX_AUDIO_BYTES = 15 * 1024 * 1024  # of one event, as the API has it


class EventHandler(Protocol):
    """Takes an event of the client. Raises ApiError, which becomes an `error` event."""

    def __call__(self, event: dict[str, Any], /) -> Iterable[dict[str, Any]]: ...


class EventSession:
    """A FakeSession of JSON events. A subclass has `handlers` by the type of the client's event, and `created`."""

    def __init__(self, seed: bytes) -> None:
        self.seed = seed
        self.handlers: Mapping[str, EventHandler] = {}
        self._numbers = self._said = 0

    def identifier(self, prefix: str) -> str:
        """The next one of this session: equal sessions give equal ones."""
        self._numbers += 1
        return identifier(prefix, seed_of(self.seed.hex(), self._numbers))

    def created(self) -> Iterable[dict[str, Any]]:
        """What the server says first."""
        return ()

    def opened(self) -> Iterator[FakeMessage]:
        return self._written(self.created())

    def received(self, message: str | bytes) -> Iterator[FakeMessage]:
        return self._written(self._answered(message))

    def _answered(self, message: str | bytes) -> Iterable[dict[str, Any]]:
        event: Any = None
        try:
            event = read_event(message)
            kind = text_in(event, "type")
            handler = self.handlers.get(kind)
            if handler is None:
                raise errors.unsupported("type", kind, tuple(self.handlers))
            return (self.named(event, answer) for answer in handler(event))
        except errors.ApiError as error:
            return (self.failure(error, event if isinstance(event, dict) else {}),)

    def named(self, event: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        """`answer` as one to the client's `event`."""
        del event
        return answer

    def failure(self, error: errors.ApiError, event: dict[str, Any]) -> dict[str, Any]:
        """The `error` event for a mistake in the client's `event`."""
        shown = {"type": error.kind, "code": error.code or error.kind, "message": error.message}
        if error.param is not None:
            shown["param"] = error.param
        if isinstance(named := event.get("event_id"), str):
            shown["event_id"] = named
        return {"type": "error", "error": shown}

    def numbered(self, event: dict[str, Any]) -> dict[str, Any]:
        """`event` with an id of its own. Events are written behind what is read: their numbers are their own, too."""
        self._said += 1
        return {"event_id": identifier("event_", seed_of(self.seed.hex(), "event", self._said)), **event}

    def _written(self, events: Iterable[dict[str, Any]]) -> Iterator[FakeMessage]:
        for event in events:
            yield encoded(self.numbered(event))


def encoded(event: dict[str, Any]) -> str:
    return encode_json(event).decode()


def read_event(message: str | bytes) -> dict[str, Any]:
    """Raises ApiError."""
    try:
        if isinstance(message, bytes):
            raise errors.ApiError(400, "Events are text messages, and this one is binary.", code="invalid_message")
        event = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise errors.ApiError(400, "The event is not valid JSON.", code="invalid_json") from error
    if not isinstance(event, dict):
        raise errors.ApiError(400, "The event is not a JSON object.", code="invalid_json")
    return event


def audio_of(event: dict[str, Any], name: str = "audio") -> bytes:
    """The sound in `event`. Raises ApiError."""
    given = event.get(name)
    if given is None:
        raise errors.missing(name)
    if not isinstance(given, str):
        raise errors.wrong_type(name, "a base64-encoded string", given)
    try:
        sound = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError) as error:
        raise errors.wrong_value(name, "the bytes are not base64-encoded.") from error
    if len(sound) > MAX_AUDIO_BYTES:
        raise errors.wrong_value(name, f"one event has at most {MAX_AUDIO_BYTES} bytes of sound.")
    return sound


def in_base64(sound: bytes) -> str:
    return base64.b64encode(sound).decode()


def object_in(event: dict[str, Any], name: str) -> dict[str, Any]:
    """Raises ApiError where it is missing or no object."""
    value = event.get(name)
    if value is None:
        raise errors.missing(name)
    if not isinstance(value, dict):
        raise errors.wrong_type(name, "an object", value)
    return value


def text_in(event: dict[str, Any], name: str) -> str:
    """Raises ApiError where it is missing or no text."""
    value = event.get(name)
    if value is None:
        raise errors.missing(name)
    if not isinstance(value, str):
        raise errors.wrong_type(name, "a string", value)
    return value


def merged(before: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`before` with the fields of `changes`, also within objects."""
    both = dict(before)
    for name, value in changes.items():
        old = both.get(name)
        both[name] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both
