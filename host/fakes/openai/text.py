"""Deterministic text, and the parts that several endpoints share: event streams, usage, log probabilities, pages.

Every answer is a function of a seed, and a seed is a hash of the request.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from host.fakes.messages import FakeResponse, encode_json
from host.fakes.openai import errors
from host.fakes.openai.call import Params

_MAX_WORDS = 100_000

# 64 words, so that six bits choose one. Some are not ASCII, to catch clients that split UTF-8.
_WORDS = (  # noqa: SIM905 - a list of 64 quoted words is longer and no clearer
    "amber river stone quiet lantern harbour willow copper meadow signal orbit velvet cedar ripple canyon ember "
    "falcon garden hollow island jasper kettle ladder marble nectar orchid pepper quartz ribbon saffron timber umber "
    "valley winter yonder zephyr anchor basil cobalt drift echo fable glacier hazel indigo juniper linen mosaic "
    "nimbus opal prairie quill raven sable thistle upland vessel wander naïve café Zürich 東京 🌊 señal"
).split()
_TOKEN = re.compile(r"\s*\S+|\s+\Z")
_REQUESTED_WORDS = re.compile(r"\bin (\d{1,6}) words\b")


def seed_of(*values: Any) -> bytes:
    """32 bytes from JSON values. The order of keys does not matter."""
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).digest()


def identifier(prefix: str, seed: bytes, length: int = 24) -> str:
    return prefix + hashlib.sha256(prefix.encode() + seed).hexdigest()[:length]


def sentence(seed: bytes, words: int | None = None) -> str:
    """A sentence of `words` words, by default 8 to 23 of them, depending on the seed."""
    length = 8 + seed[0] % 16 if words is None else words
    chosen = [_WORDS[byte & 63] for byte in hashlib.shake_256(seed).digest(length)]
    text = " ".join(chosen) + "." if chosen else ""
    return text[:1].upper() + text[1:]


def requested_words(prompt: str) -> int | None:
    """The N of "in N words" in a prompt, for tests of long answers."""
    found = _REQUESTED_WORDS.search(prompt)
    return min(int(found[1]), _MAX_WORDS) if found else None


def tokens(text: str) -> list[str]:
    """The words, each with the white space before it. Joined they are `text`."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    return len(text.split())


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """Text from the model, and the reason for its end."""

    tokens: list[str]
    finish: Literal["stop", "length"]

    @property
    def text(self) -> str:
        return "".join(self.tokens)


def generate_text(text: str, *, limit: int | None = None, stops: Sequence[str] = ()) -> GeneratedText:
    """Returns `text` up to `limit` tokens or the first of `stops`, whichever comes first."""
    every = tokens(text)
    finish: Literal["stop", "length"] = "stop"
    if limit is not None and limit < len(every):
        every, finish = every[:limit], "length"
    kept = "".join(every)
    cuts = [at for stop in stops if stop and (at := kept.find(stop)) >= 0]
    if cuts:
        return GeneratedText(tokens(kept[: min(cuts)]), "stop")
    return GeneratedText(every, finish)


DONE = b"data: [DONE]\n\n"


def event(value: Any, name: str | None = None) -> bytes:
    """One server-sent event (html.spec.whatwg.org, section 9.2)."""
    named = f"event: {name}\n".encode() if name else b""
    return b"%sdata: %s\n\n" % (named, encode_json(value))


def event_stream(events: Iterable[bytes]) -> FakeResponse:
    return FakeResponse(200, {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}, events)


def completion_usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def alternatives(token: str, how_many: int) -> list[tuple[str, float]]:
    """Returns `token` with its log probability, then `how_many` - 1 other words, each less probable."""
    seed = seed_of("logprob", token)
    best = -(1 + seed[0]) / 1024
    others = sentence(seed, max(how_many - 1, 0)).rstrip(".").split()
    return [(token, best), *((f" {word.lower()}", best - rank) for rank, word in enumerate(others, start=1))]


def check_sampling(params: Params) -> None:
    """Validates the sampling parameters, which have no effect on a deterministic model."""
    params.check_number("temperature", 0, 2)
    params.check_number("top_p", 0, 1)
    params.check_number("presence_penalty", -2, 2)
    params.check_number("frequency_penalty", -2, 2)
    params.mapping("logit_bias")
    params.mapping("metadata")
    params.text("user", "")


def page(
    items: list[dict[str, Any]], query: Params, *, default: int, most: int, oldest_first: bool = False
) -> dict[str, Any]:
    """Returns the page of `items` (oldest first) for `limit`, `order`, `after` and `before` of the query.

    The order is newest first, where the query does not say another, or `oldest_first`. Raises ApiError (400) for an
    unknown `after` or `before`.
    """
    limit = query.integer("limit", default, high=most)
    order = query.choice("order", ("asc", "desc"), "asc" if oldest_first else "desc")
    ordered = items if order == "asc" else items[::-1]
    if (after := _place(ordered, query, "page" if "page" in query else "after")) is not None:
        ordered = ordered[after + 1 :]
    if (before := _place(ordered, query, "before")) is not None:
        ordered = ordered[:before]
        shown = ordered[-limit:]
    else:
        shown = ordered[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(ordered) > limit,
    }


def _place(ordered: list[dict[str, Any]], query: Params, name: str) -> int | None:
    if (identifier_of := query.text(name, None)) is None:
        return None
    places = [at for at, item in enumerate(ordered) if item["id"] == identifier_of]
    if not places:
        raise errors.wrong_value(name, "no object has this ID.")
    return places[0]
