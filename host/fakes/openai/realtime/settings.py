"""A session's description of itself (`session` in its events), in the spelling of the API and of its beta."""

from __future__ import annotations

from typing import Any, Final, Literal

from host.fakes.openai import errors
from host.fakes.openai.realtime.events import merged
from host.fakes.openai.store import CREATED

EXPIRES_AT: Final = CREATED + 1_800
_PCM: Final = {"type": "audio/pcm", "rate": 24_000}
_MODALITIES: Final = ("text", "audio")

SessionKind = Literal["realtime", "transcription", "beta", "beta_transcription"]

_KNOWN: Final[dict[SessionKind, frozenset[str]]] = {
    "realtime": frozenset(
        {
            *("type", "audio", "include", "instructions", "max_output_tokens", "model", "output_modalities"),
            *("parallel_tool_calls", "prompt", "reasoning", "tool_choice", "tools", "tracing", "truncation"),
        }
    ),
    "transcription": frozenset({"type", "audio", "include"}),
    "beta": frozenset(
        {
            *("client_secret", "input_audio_format", "input_audio_noise_reduction", "input_audio_transcription"),
            *("instructions", "max_response_output_tokens", "modalities", "model", "output_audio_format", "speed"),
            *("temperature", "tool_choice", "tools", "tracing", "turn_detection", "voice"),
        }
    ),
    "beta_transcription": frozenset(
        {
            *("client_secret", "include", "input_audio_format", "input_audio_noise_reduction"),
            *("input_audio_transcription", "modalities", "turn_detection"),
        }
    ),
}


def first(kind: SessionKind, ident: str, model: str) -> dict[str, Any]:
    """The settings of a session that has just begun."""
    match kind:
        case "realtime":
            sound: dict[str, Any] = {
                "input": {"format": dict(_PCM), "turn_detection": None},
                "output": {"format": dict(_PCM), "voice": "marin", "speed": 1.0},
            }
            return {
                **_named(kind, ident, model),
                "output_modalities": ["audio"],
                "instructions": "",
                "tools": [],
                "tool_choice": "auto",
                "max_output_tokens": "inf",
                "truncation": "auto",
                "audio": sound,
            }
        case "transcription":
            return {**_named(kind, ident), "audio": {"input": {"format": dict(_PCM), "turn_detection": None}}}
        case "beta":
            return {
                "id": ident,
                "model": model,
                "modalities": ["text", "audio"],
                "instructions": "",
                "voice": "alloy",
                "input_audio_format": "pcm16",
                "output_audio_format": "pcm16",
                "turn_detection": None,
                "tools": [],
                "tool_choice": "auto",
                "temperature": 0.8,
                "max_response_output_tokens": "inf",
                "speed": 1.0,
            }
        case "beta_transcription":
            return {
                "client_secret": {"value": f"ek_{ident}", "expires_at": EXPIRES_AT},
                "modalities": ["text"],
                "input_audio_format": "pcm16",
                "turn_detection": None,
            }


def _named(kind: SessionKind, ident: str, model: str = "") -> dict[str, Any]:
    named = {"type": kind, "object": f"realtime.{'transcription_' * (kind == 'transcription')}session", "id": ident}
    return {**named, **({"model": model} if model else {}), "expires_at": EXPIRES_AT}


def changed(kind: SessionKind, before: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The settings after a `session.update`. Raises ApiError for a field that the session does not have, for another
    kind of session or model, and for modalities that there are not."""
    if unknown := sorted(changes.keys() - _KNOWN[kind]):
        raise errors.ApiError(
            400, f"Unknown parameter: 'session.{unknown[0]}'.", param=f"session.{unknown[0]}", code="unknown_parameter"
        )
    if kind in ("realtime", "transcription"):
        if changes.get("type") is None:
            raise errors.missing("session.type")
        if changes["type"] != kind:
            raise errors.unsupported("session.type", str(changes["type"]), (kind,))
    if "model" in changes and before.get("model") not in (None, changes["model"]):
        message = "Cannot update a conversation's model once it has begun."
        raise errors.ApiError(400, message, param="session.model", code="cannot_update_model")
    modalities = changes.get("output_modalities" if kind == "realtime" else "modalities")
    if modalities is not None:
        check_modalities("session.output_modalities" if kind == "realtime" else "session.modalities", modalities)
    return merged(before, changes)


def check_modalities(param: str, given: Any) -> None:
    """Raises ApiError."""
    if not isinstance(given, list) or not given or not all(one in _MODALITIES for one in given):
        raise errors.wrong_value(param, 'expected ["text"], ["audio"] or both.')
