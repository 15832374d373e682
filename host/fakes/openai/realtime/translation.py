"""/v1/realtime/translations: sound in, its transcript and its translation out, with every piece of sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from host.fakes.openai import errors
from host.fakes.openai.realtime.answer import sound_of
from host.fakes.openai.realtime.events import EventSession, audio_of, in_base64, merged, object_in
from host.fakes.openai.realtime.settings import EXPIRES_AT
from host.fakes.openai.text import seed_of, sentence
from host.fakes.websocket import Close, FakeMessage

_BYTES_A_MS: Final = 48
_KNOWN: Final = frozenset({"audio", "model", "type"})


def described(ident: str, model: str, known: dict[str, Any]) -> dict[str, Any]:
    """A translation session, also that of a client secret."""
    audio = {"input": {}, "output": {"language": "en"}}
    fixed = {"id": ident, "type": "translation", "model": model, "expires_at": EXPIRES_AT}
    return merged({**fixed, "audio": audio}, {"audio": known.get("audio") or {}})


class TranslationSession(EventSession):
    def __init__(self, model: str, known: dict[str, Any] | None = None) -> None:
        super().__init__(seed_of("translation", model))
        self._settings = described(self.identifier("sess_"), model, known or {})
        self._ms = 0
        self._pieces = 0
        self._closed = False
        self.handlers = {
            "session.update": self._update,
            "session.input_audio_buffer.append": self._append,
            "session.close": self._close,
        }

    def created(self) -> Iterable[dict[str, Any]]:
        return ({"type": "session.created", "session": self._settings},)

    def received(self, message: str | bytes) -> Iterator[FakeMessage]:
        yield from super().received(message)
        if self._closed:
            yield Close(1000)

    def _update(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        changes = object_in(event, "session")
        if unknown := sorted(changes.keys() - _KNOWN):
            name = f"session.{unknown[0]}"
            raise errors.ApiError(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
        self._settings = merged(self._settings, changes)
        return ({"type": "session.updated", "session": self._settings},)

    def _append(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        sound = audio_of(event)
        self._ms += len(sound) // _BYTES_A_MS
        self._pieces += 1
        heard = sentence(seed_of(self.seed.hex(), self._pieces), 3)
        said = sentence(seed_of(self.seed.hex(), self._pieces, "translated"), 3)
        at = {"elapsed_ms": self._ms}
        how = {"format": "pcm16", "sample_rate": 24_000, "channels": 1}
        return (
            {"type": "session.input_transcript.delta", "delta": heard, **at},
            {"type": "session.output_transcript.delta", "delta": said, **at},
            {"type": "session.output_audio.delta", "delta": in_base64(sound_of(said)), **at, **how},
        )

    def _close(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        del event
        self._closed = True
        return ({"type": "session.closed"},)
