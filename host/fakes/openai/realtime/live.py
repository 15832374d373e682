"""/v1/live/sessions: a session that the client starts, with sound in both directions; forks of one; and connections
beside one (`attach`), which have neither start nor sound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

from host.fakes.openai import errors
from host.fakes.openai.call import RealtimeState
from host.fakes.openai.realtime.answer import sound_of
from host.fakes.openai.realtime.events import (
    EventHandler,
    EventSession,
    audio_of,
    in_base64,
    merged,
    object_in,
    text_in,
)
from host.fakes.openai.realtime.settings import EXPIRES_AT
from host.fakes.openai.text import seed_of, sentence
from host.fakes.websocket import Close, FakeMessage

_BYTES_A_MS: Final = 48
_MODEL: Final = "gpt-live-1"
_WITHOUT_IDS: Final = "session.output_audio.delta"  # an event that has none
Role = Literal["own", "fork", "beside"]


class LiveSession(EventSession):
    """`of` is the session that it forks, or stands beside."""

    def __init__(self, role: Role, state: RealtimeState, of: str = "") -> None:
        super().__init__(seed_of("live", role, of, len(state.live)))
        self._role = role
        self._state = state
        self._id = of if role == "beside" else ""
        self._parent = of
        self._ms = 0
        self._pieces = 0
        self._closed = False
        handlers: dict[str, EventHandler] = {
            "session.update": self._update,
            "session.input_audio.mute": self._acknowledged("session.input_audio.muted"),
            "session.input_audio.unmute": self._acknowledged("session.input_audio.unmuted"),
            "session.output_audio.fixture.play": self._play,
            "session.instructions.append": self._appended("instructions"),
            "session.thinking.append": self._appended("thinking"),
            "session.commentary.append": self._appended("commentary"),
            "decision.item.create": self._create_item,
            "decision.item.delete": self._delete_item,
            "decision.create": self._decide,
            "response.item.create": self._take_item,
            "response.create": self._respond,
            "session.close": self._close,
        }
        if role == "beside":
            handlers["transport.dtmf.send"] = self._dial
        else:
            handlers |= {"session.start": self._start, "session.input_audio.append": self._append}
        self.handlers = handlers
        self._items: dict[str, dict[str, Any]] = {}

    def received(self, message: str | bytes) -> Iterator[FakeMessage]:
        yield from super().received(message)
        if self._closed:
            yield Close(1000)

    def failure(self, error: errors.ApiError, event: dict[str, Any]) -> dict[str, Any]:
        shown = super().failure(error, event)
        named = shown["error"].pop("event_id", None)
        if named is not None:
            shown["error"]["client_event_id"] = named
        return shown

    def named(self, event: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        ident = event.get("event_id")
        if answer["type"] == _WITHOUT_IDS:
            return answer
        return {**answer, "client_event_id": ident} if isinstance(ident, str) else answer

    def numbered(self, event: dict[str, Any]) -> dict[str, Any]:
        return event if event["type"] == _WITHOUT_IDS else super().numbered(event)

    def _session(self) -> dict[str, Any]:
        """Raises ApiError before the session was started."""
        if not self._id:
            raise errors.ApiError(400, "The session has not started.", param="type", code="session_not_started")
        return self._state.live[self._id]

    def _start(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        if self._id:
            raise errors.ApiError(400, "The session has started already.", param="type", code="session_started")
        given = object_in(event, "session")
        known = self._state.live.get(self._parent, {}) if self._role == "fork" else {}
        model = known.get("model", _MODEL) if self._role == "fork" else text_in(given, "model")
        self._id = self.identifier("live_")
        session = {"id": self._id, "status": "active", "expires_at": EXPIRES_AT, **given, "model": model}
        self._state.live[self._id] = session
        return ({"type": "session.started", "session": session},)

    def _update(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        self._state.live[self._id] = session = merged(self._session(), object_in(event, "session"))
        return ({"type": "session.updated", "session": session},)

    def _append(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        self._session()
        began = self._ms
        self._ms += len(audio_of(event)) // _BYTES_A_MS
        self._pieces += 1
        heard = sentence(seed_of(self.seed.hex(), self._pieces), 3)
        said = sentence(seed_of(self.seed.hex(), self._pieces, "said"), 3)
        at = {"start_ms": began, "end_ms": self._ms}
        return (
            {"type": "session.input_transcript.delta", "delta": heard, **at},
            {"type": "session.output_transcript.delta", "delta": said, **at},
            {"type": "session.output_audio.delta", "delta": in_base64(sound_of(said)), **at},
            {"type": "session.usage.updated", "usage": self._usage()},
        )

    def _usage(self) -> dict[str, Any]:
        return {"seconds": self._ms / 1_000}

    def _acknowledged(self, kind: str) -> EventHandler:
        def answer(event: dict[str, Any]) -> Iterable[dict[str, Any]]:
            del event
            self._session()
            return ({"type": kind},)

        return answer

    def _appended(self, what: str) -> EventHandler:
        def answer(event: dict[str, Any]) -> Iterable[dict[str, Any]]:
            self._session()
            text_in(event, "content")
            return ({"type": f"session.{what}.appended", "start_ms": self._ms, "end_ms": self._ms},)

        return answer

    def _play(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        self._session()
        audio_of(event)
        return tuple({"type": f"session.output_audio.fixture.{how}"} for how in ("playing", "played"))

    def _create_item(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        self._session()
        item = {"type": "message", **object_in(event, "item")}
        item.setdefault("id", self.identifier("item_"))
        self._items[item["id"]] = item
        return ({"type": "decision.item.created", "item": item},)

    def _delete_item(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        ident = text_in(event, "item_id")
        if self._items.pop(ident, None) is None:
            raise errors.ApiError(400, f"Item '{ident[:80]}' was not found.", param="item_id", code="item_not_found")
        return ({"type": "decision.item.deleted", "item_id": ident},)

    def _decide(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        del event
        self._session()
        message = "The session has no questions to decide."
        raise errors.ApiError(400, message, param="session.delegation", code="no_decisions")

    def _take_item(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        self._session()
        object_in(event, "item")
        return ()

    def _respond(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        del event
        self._session()
        said = sentence(seed_of(self.seed.hex(), "response", self._pieces), 5)
        ident = self.identifier("resp_")
        delegation = {"delegation_id": self.identifier("dlg_")}
        delta = {"type": "response.output_text.delta", "delta": said, "response_id": ident}
        done = {"type": "response.completed", "response": {"id": ident, "object": "response", "status": "completed"}}
        return tuple({"type": "response.event", "event": one, **delegation} for one in (delta, done))

    def _dial(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        return ({"type": "transport.dtmf.sent", "event": text_in(event, "event")},)

    def _close(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        del event
        session = self._session()
        self._closed = True
        closed = {"type": "session.closed", "reason": "close_requested", "session": session, "usage": self._usage()}
        return (closed,)
