"""Shapes that several resources share: streams of events, usage, log probabilities, sampling parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from host.fakes.messages import Response, encoded
from host.fakes.openai import errors
from host.fakes.openai.params import Params
from host.fakes.openai.text import seed_of, sentence

DONE = b"data: [DONE]\n\n"


def event(value: Any, name: str | None = None) -> bytes:
    """One server-sent event (html.spec.whatwg.org, section 9.2)."""
    named = f"event: {name}\n".encode() if name else b""
    return b"%sdata: %s\n\n" % (named, encoded(value))


def event_stream(events: Iterable[bytes]) -> Response:
    return Response(200, {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}, events)


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
    """`token` and its log probability, then `how_many` - 1 other words, each less probable."""
    seed = seed_of("logprob", token)
    best = -(1 + seed[0]) / 1024
    others = sentence(seed, max(how_many - 1, 0)).rstrip(".").split()
    return [(token, best), *((f" {word.lower()}", best - rank) for rank, word in enumerate(others, start=1))]


def check_sampling(params: Params) -> None:
    """The parameters that are validated and have no effect on a deterministic model."""
    params.check_number("temperature", 0, 2)
    params.check_number("top_p", 0, 1)
    params.check_number("presence_penalty", -2, 2)
    params.check_number("frequency_penalty", -2, 2)
    params.mapping("logit_bias")
    params.mapping("metadata")
    params.text("user", "")


def page(items: list[dict[str, Any]], query: Params, *, default: int, most: int) -> dict[str, Any]:
    """A page of `items` (oldest first), as `limit`, `order` and `after` of the query have it; newest first by default.
    An unknown `after` is a 400."""
    limit = query.integer("limit", default, high=most)
    ordered = items if query.choice("order", ("asc", "desc"), "desc") == "asc" else items[::-1]
    after = query.text("after", None)
    if after is not None:
        places = [at for at, item in enumerate(ordered) if item["id"] == after]
        if not places:
            raise errors.wrong_value("after", "no object has this ID.")
        ordered = ordered[places[0] + 1 :]
    shown = ordered[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(ordered) > limit,
    }
