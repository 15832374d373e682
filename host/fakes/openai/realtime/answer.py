"""A response of a session as its events: created, its item and parts with their deltas, done."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from host.fakes.openai.realtime.events import in_base64
from host.fakes.openai.structured import function_arguments
from host.fakes.openai.text import GeneratedText, tokens

_SOUND_BYTES: Final = 480  # of a token: 10 ms at 24 kHz


@dataclass
class SpokenResponse:
    """One response. `function` is the one that it calls, in place of saying `text`; with `sound` it speaks, and the
    text is its transcript. `beta` has the beta's names. Once `cancelled` is set it ends before its next delta."""

    id: str
    item_id: str
    seed: bytes
    text: GeneratedText
    usage_input: dict[str, int]
    sound: bool
    beta: bool
    conversation: str | None
    settings: dict[str, Any] = field(default_factory=dict)
    function: dict[str, Any] | None = None
    call_id: str = ""
    cancelled: bool = False

    def events(self, ended: Callable[[dict[str, Any]], object]) -> Iterator[dict[str, Any]]:
        """From `response.created` to `response.done`. `ended` gets the item that belongs to the conversation."""
        yield {"type": "response.created", "response": self._described("in_progress", [], None)}
        item = self._item("in_progress", None)
        yield {"type": "response.output_item.added", **self._where(), "item": item}
        yield from self._in_conversation("added", item)
        said = ""
        for event, piece in self._parts():
            if self.cancelled:
                break
            said += piece
            yield event
        if not self.cancelled:
            yield from self._parts_done(said)
        whole = not self.cancelled and self.text.finish == "stop"
        item = self._item("completed" if whole else "incomplete", said)
        if not self.cancelled:
            yield {"type": "response.output_item.done", **self._where(), "item": item}
        ended(item)
        yield from self._in_conversation("done", item)
        status = "cancelled" if self.cancelled else "completed" if whole else "incomplete"
        yield {"type": "response.done", "response": self._described(status, [item], said)}
        spent = self._usage(said)["total_tokens"]
        limits = [("requests", 10_000, 1), ("tokens", 1_000_000, spent)]
        shown = [
            {"name": name, "limit": most, "remaining": max(0, most - used), "reset_seconds": 0.1}
            for name, most, used in limits
        ]
        yield {"type": "rate_limits.updated", "rate_limits": shown}

    def _parts(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Events that add something, each with the text that it adds."""
        if self.function is not None:
            for piece in tokens(function_arguments(self.function, self.seed)):
                where = {**self._where(item=True), "call_id": self.call_id, "delta": piece}
                yield {"type": "response.function_call_arguments.delta", **where}, piece
            return
        where = {**self._where(item=True), "content_index": 0}
        yield {"type": "response.content_part.added", **where, "part": self._part("")}, ""
        for piece in self.text.tokens:
            if self.sound:
                yield {"type": self._name("audio_transcript.delta"), **where, "delta": piece}, piece
                yield {"type": self._name("audio.delta"), **where, "delta": in_base64(sound_of(piece))}, ""
            else:
                yield {"type": self._name("text.delta"), **where, "delta": piece}, piece

    def _parts_done(self, said: str) -> Iterator[dict[str, Any]]:
        if self.function is not None:
            done = {"call_id": self.call_id, "name": self.function["name"], "arguments": said}
            if self.beta:
                del done["name"]
            yield {"type": "response.function_call_arguments.done", **self._where(item=True), **done}
            return
        where = {**self._where(item=True), "content_index": 0}
        if self.sound:
            yield {"type": self._name("audio.done"), **where}
            yield {"type": self._name("audio_transcript.done"), **where, "transcript": said}
        else:
            yield {"type": self._name("text.done"), **where, "text": said}
        yield {"type": "response.content_part.done", **where, "part": self._part(said)}

    def _in_conversation(self, how: str, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if self.conversation is not None and not (self.beta and how == "done"):
            yield {"type": f"conversation.item.{'created' if self.beta else how}", "item": item}

    def _name(self, rest: str) -> str:
        return f"response.{rest}" if self.beta else f"response.output_{rest}"

    def _where(self, *, item: bool = False) -> dict[str, Any]:
        return {"response_id": self.id, "output_index": 0, **({"item_id": self.item_id} if item else {})}

    def _part(self, said: str) -> dict[str, Any]:
        return {"type": "audio", "transcript": said} if self.sound else {"type": "text", "text": said}

    def _item(self, status: str, said: str | None) -> dict[str, Any]:
        common = {"id": self.item_id, "object": "realtime.item", "status": status}
        if self.function is not None:
            call = {"call_id": self.call_id, "name": self.function["name"], "arguments": said or ""}
            return {**common, "type": "function_call", **call}
        content = [] if said is None else [self._part(said)]
        if content and not self.beta:
            content[0]["type"] = f"output_{content[0]['type']}"
        return {**common, "type": "message", "role": "assistant", "content": content}

    def _described(self, status: str, output: list[dict[str, Any]], said: str | None) -> dict[str, Any]:
        shown = {"id": self.id, "object": "realtime.response", "status": status, "output": output, **self.settings}
        if self.conversation is not None:
            shown["conversation_id"] = self.conversation
        if status == "cancelled":
            shown["status_details"] = {"type": "cancelled", "reason": "client_cancelled"}
        elif status == "incomplete":
            shown["status_details"] = {"type": "incomplete", "reason": "max_output_tokens"}
        if said is not None:
            shown["usage"] = self._usage(said)
        return shown

    def _usage(self, said: str) -> dict[str, Any]:
        spent, read = len(tokens(said)), self.usage_input
        in_sound = spent if self.sound and self.function is None else 0
        given = read["text"] + read["audio"]
        details = {"text_tokens": read["text"], "audio_tokens": read["audio"], "cached_tokens": 0}
        return {
            "input_tokens": given,
            "output_tokens": spent,
            "total_tokens": given + spent,
            "input_token_details": details,
            "output_token_details": {"text_tokens": spent - in_sound, "audio_tokens": in_sound},
        }


def sound_of(text: str) -> bytes:
    """What stands for the sound of `text`: as many bytes for any."""
    return hashlib.shake_256(text.encode("utf-8", "replace")).digest(_SOUND_BYTES)
