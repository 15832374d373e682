"""A session of /v1/realtime: a conversation, a buffer of sound, and responses.

A transcription session has no responses. The beta (`OpenAI-Beta: realtime=v1`) has other names for some events and
settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from host.fakes.openai import errors
from host.fakes.openai.realtime import settings
from host.fakes.openai.realtime.answer import SpokenResponse
from host.fakes.openai.realtime.events import EventHandler, EventSession, audio_of, object_in, text_in
from host.fakes.openai.structured import forced_function, function_of
from host.fakes.openai.text import count, generate_text, requested_words, seed_of, sentence

_BYTES_A_SECOND: Final = 48_000  # of PCM in 16 bits at 24 kHz
_LEAST_BYTES: Final = _BYTES_A_SECOND // 10
_AUDIO_TOKENS_A_SECOND: Final = 10
_ITEMS: Final = ("message", "function_call", "function_call_output", "mcp_approval_response")
_ROLES: Final = ("user", "assistant", "system")
_PARTS: Final = ("input_text", "input_audio", "input_image", "output_text", "output_audio", "text", "audio")
_OF_RESPONSE: Final = frozenset(
    {
        *("audio", "conversation", "input", "instructions", "max_output_tokens", "metadata", "output_modalities"),
        *("parallel_tool_calls", "prompt", "reasoning", "tool_choice", "tools", "modalities", "voice", "temperature"),
        *("max_response_output_tokens", "output_audio_format"),
    }
)


class RealtimeSession(EventSession):
    """`kind` says which settings it has. `known` are settings that a client secret brings along."""

    def __init__(self, kind: settings.SessionKind, model: str, known: dict[str, Any] | None = None) -> None:
        super().__init__(seed_of(kind, model))
        self._kind: settings.SessionKind = kind
        self._settings = settings.first(kind, self.identifier("sess_"), model)
        if known:
            typed = {} if self._beta else {"type": kind}
            self._settings = settings.changed(kind, self._settings, {**typed, **known})
        self._conversation = self.identifier("conv_")
        self._items: dict[str, dict[str, Any]] = {}
        self._sound = bytearray()
        self._answer: SpokenResponse | None = None
        self._answers = 0
        handlers: dict[str, EventHandler] = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
        }
        if self._transcribes:
            handlers["transcription_session.update"] = self._update
        else:
            handlers |= {
                "conversation.item.create": self._create_item,
                "conversation.item.retrieve": self._retrieve_item,
                "conversation.item.truncate": self._truncate_item,
                "conversation.item.delete": self._delete_item,
                "response.create": self._respond,
                "response.cancel": self._cancel,
                "output_audio_buffer.clear": self._clear_output,
            }
        self.handlers = handlers

    @property
    def _transcribes(self) -> bool:
        return self._kind.endswith("transcription")

    @property
    def _beta(self) -> bool:
        return self._kind.startswith("beta")

    def created(self) -> Iterable[dict[str, Any]]:
        yield {"type": self._of_session("created"), "session": self._settings}

    def _of_session(self, rest: str) -> str:
        return f"{'transcription_' * (self._kind == 'beta_transcription')}session.{rest}"

    def _update(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        self._settings = settings.changed(self._kind, self._settings, object_in(event, "session"))
        return ({"type": self._of_session("updated"), "session": dict(self._settings)},)

    # sound

    def _append(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        self._sound += audio_of(event)
        return ()

    def _clear(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        del event
        self._sound.clear()
        return ({"type": "input_audio_buffer.cleared"},)

    def _commit(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        del event
        if len(self._sound) < _LEAST_BYTES:
            has = len(self._sound) * 1_000 / _BYTES_A_SECOND
            raise errors.ApiError(
                400,
                f"Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, but buffer "
                f"only has {has:.2f}ms of audio.",
                code="input_audio_buffer_commit_empty",
            )
        seconds = len(self._sound) / _BYTES_A_SECOND
        transcript = sentence(seed_of(self.seed.hex(), bytes(self._sound).hex()))
        self._sound.clear()
        part = {"type": "input_audio", "transcript": transcript, "seconds": seconds}
        item = {"type": "message", "role": "user", "content": [part]}
        previous = next(reversed(self._items), None)
        added = list(self._added(item, previous))
        committed: dict[str, Any] = {"type": "input_audio_buffer.committed", "item_id": item["id"]}
        if previous is not None:
            committed["previous_item_id"] = previous
        return (committed, *added, *self._transcribed(item, transcript, seconds))

    def _transcribed(self, item: dict[str, Any], transcript: str, seconds: float) -> Iterator[dict[str, Any]]:
        sound = self._settings.get("audio", {}).get("input", {})
        wanted = sound.get("transcription") or self._settings.get("input_audio_transcription")
        if not wanted:
            return
        named = {"item_id": item["id"], "content_index": 0}
        name = "conversation.item.input_audio_transcription"
        yield {"type": f"{name}.delta", **named, "delta": transcript}
        given, made = round(seconds * _AUDIO_TOKENS_A_SECOND), count(transcript)
        usage = {"type": "tokens", "input_tokens": given, "output_tokens": made, "total_tokens": given + made}
        yield {"type": f"{name}.completed", **named, "transcript": transcript, "usage": usage}

    def _clear_output(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        del event
        message = "Only a session over WebRTC or SIP has an output audio buffer."
        raise errors.ApiError(400, message, param="type", code="invalid_event")

    # the conversation

    def _added(self, item: dict[str, Any], previous: str | None) -> Iterator[dict[str, Any]]:
        """Adds `item` behind the one of the id `previous`, or as the first, and says so."""
        item.setdefault("id", self.identifier("item_"))
        item |= {"object": "realtime.item", "status": "completed"}
        before: dict[str, dict[str, Any]] = {}
        after = dict(self._items)
        while after and previous is not None:
            name = next(iter(after))
            before[name] = after.pop(name)
            if name == previous:
                break
        self._items = {**before, item["id"]: item, **after}
        where = {} if previous is None else {"previous_item_id": previous}
        for how in ("created",) if self._beta else ("added", "done"):
            yield {"type": f"conversation.item.{how}", **where, "item": _shown(item)}

    def _create_item(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        item = _checked_item(object_in(event, "item"))
        if item.get("id") in self._items:
            raise errors.wrong_value("item.id", f"an item with the id '{item['id']}' exists already.")
        previous = event.get("previous_item_id")
        first = previous == "root"
        if previous is not None and not first:
            self._item(event, "previous_item_id")
        if previous is None:
            previous = next(reversed(self._items), None)
        return tuple(self._added(item, None if first else previous))

    def _retrieve_item(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        return ({"type": "conversation.item.retrieved", "item": _shown(self._item(event))},)

    def _truncate_item(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        item = self._item(event)
        if item.get("role") != "assistant":
            raise errors.wrong_value("item_id", "only a message of the assistant can be truncated.")
        at: dict[str, Any] = {}
        for name in ("content_index", "audio_end_ms"):
            value = event.get(name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise errors.wrong_type(name, "an integer of at least 0", value)
            at[name] = value
        return ({"type": "conversation.item.truncated", "item_id": item["id"], **at},)

    def _delete_item(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        item = self._item(event)
        del self._items[item["id"]]
        return ({"type": "conversation.item.deleted", "item_id": item["id"]},)

    def _item(self, event: dict[str, Any], name: str = "item_id") -> dict[str, Any]:
        ident = text_in(event, name)
        if ident not in self._items:
            message = f"Item with '{name}' '{ident[:80]}' was not found."
            raise errors.ApiError(400, message, param=name, code="item_not_found")
        return self._items[ident]

    # responses

    def _respond(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        if self._answer is not None:
            message = f"Conversation already has an active response in progress: {self._answer.id}."
            raise errors.ApiError(400, message, code="conversation_already_has_active_response")
        given = event.get("response") or {}
        if not isinstance(given, dict):
            raise errors.wrong_type("response", "an object", given)
        if unknown := sorted(given.keys() - _OF_RESPONSE):
            name = f"response.{unknown[0]}"
            raise errors.ApiError(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
        self._answer = answer = self._made(given)
        return answer.events(self._ended)

    def _made(self, given: dict[str, Any]) -> SpokenResponse:
        names = ("output_modalities", "max_output_tokens")
        if self._beta:
            names = ("modalities", "max_response_output_tokens")
        modalities, most = ({**self._settings, **given}.get(name) for name in names)
        settings.check_modalities(f"response.{names[0]}", modalities)
        if most is not None and most != "inf" and (not isinstance(most, int) or most < 1):
            raise errors.wrong_value(f"response.{names[1]}", 'expected a whole number of at least 1, or "inf".')
        items = list(self._items.values())
        if isinstance(own := given.get("input"), list):
            items = [_checked_item(one) if isinstance(one, dict) else {} for one in own]
        instructions = str(given.get("instructions") or self._settings.get("instructions") or "")
        said = [text for item in items for text in _texts(item)]
        self._answers += 1
        seed = seed_of(self.seed.hex(), instructions, said, self._answers)
        answer = sentence(seed, requested_words(" ".join((*said[-1:], instructions))))
        tools = given.get("tools", self._settings.get("tools")) or []
        function = forced_function(
            [function_of(one) for one in tools if isinstance(one, dict)],
            given.get("tool_choice", self._settings.get("tool_choice")),
        )
        sounds = sum(part.get("seconds", 0.0) for item in items for part in item.get("content", ()))
        shown = {names[0]: modalities, "max_output_tokens": most or "inf"}
        if isinstance(given.get("metadata"), dict):
            shown["metadata"] = given["metadata"]
        return SpokenResponse(
            id=self.identifier("resp_"),
            item_id=self.identifier("item_"),
            seed=seed,
            text=generate_text(answer, limit=None if most in (None, "inf") else most),
            usage_input={
                "text": count(instructions) + sum(map(count, said)),
                "audio": round(sounds * _AUDIO_TOKENS_A_SECOND),
            },
            sound="audio" in (modalities or ()),
            beta=self._beta,
            conversation=None if given.get("conversation") == "none" else self._conversation,
            settings=shown,
            function=function,
            call_id=self.identifier("call_") if function else "",
        )

    def _ended(self, item: dict[str, Any]) -> None:
        if self._answer is not None and self._answer.conversation is not None:
            self._items[item["id"]] = item
        self._answer = None

    def _cancel(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        named = event.get("response_id")
        if self._answer is None or named not in (None, self._answer.id):
            message = "Cancellation failed: no active response found."
            raise errors.ApiError(400, message, code="response_cancel_not_active")
        self._answer.cancelled = True
        return ()


def _checked_item(item: dict[str, Any]) -> dict[str, Any]:
    """A copy. Raises ApiError."""
    kind = text_in(item, "type")
    if kind not in _ITEMS:
        raise errors.unsupported("item.type", kind, _ITEMS)
    if kind == "message":
        if (role := item.get("role")) not in _ROLES:
            raise errors.unsupported("item.role", str(role), _ROLES)
        content = item.get("content")
        if not isinstance(content, list):
            raise errors.missing("item.content")
        for at, part in enumerate(content):
            if not isinstance(part, dict) or part.get("type") not in _PARTS:
                found = part.get("type") if isinstance(part, dict) else part
                raise errors.unsupported(f"item.content[{at}].type", str(found), _PARTS)
            if part["type"] == "input_audio":
                seconds = len(audio_of(part)) / _BYTES_A_SECOND
                content = [*content[:at], {**part, "seconds": seconds}, *content[at + 1 :]]
        item = {**item, "content": content}
    for name in {"function_call": ("name", "arguments"), "function_call_output": ("call_id", "output")}.get(kind, ()):
        if not isinstance(item.get(name), str):
            raise errors.missing(f"item.{name}")
    return dict(item)


def _shown(item: dict[str, Any]) -> dict[str, Any]:
    """The item as events show it: without the bytes and the length of its sound."""
    if "content" not in item:
        return item
    hidden = ("audio", "seconds")
    parts = [{name: one for name, one in part.items() if name not in hidden} for part in item["content"]]
    return {**item, "content": parts}


def _texts(item: dict[str, Any]) -> Iterator[str]:
    for part in item.get("content", ()):
        if isinstance(text := part.get("text", part.get("transcript")), str):
            yield text
    for name in ("output", "arguments"):
        if isinstance(text := item.get(name), str):
            yield text
