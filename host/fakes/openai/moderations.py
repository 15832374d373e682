"""POST /v1/moderations (platform.openai.com/docs/api-reference/moderations)."""

from __future__ import annotations

import re
from typing import Any

from host.fakes.messages import Response
from host.fakes.openai import errors
from host.fakes.openai.call import Call
from host.fakes.openai.params import Params
from host.fakes.openai.text import identifier, seed_of

_TEXT_ONLY = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "sexual/minors",
)
_TEXT_OR_IMAGE = (
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "violence",
    "violence/graphic",
)
# The words that flag, as whole words in any case; everything else passes.
TRIGGERS = {
    "kill": "violence",
    "murder": "violence",
    "gore": "violence/graphic",
    "hate": "hate",
    "idiot": "harassment",
    "suicide": "self-harm",
    "porn": "sexual",
    "bomb": "illicit/violent",
}
_WORD = re.compile(r"[a-z]+")


def create(call: Call) -> Response:
    params = call.params
    model = params.text("model", "omni-moderation-latest")
    inputs = _inputs(params)
    return Response.json(
        {
            "id": identifier("modr-", seed_of("moderation", model, inputs)),
            "model": model,
            "results": [_result(item) for item in inputs],
        }
    )


def _result(item: list[dict[str, Any]]) -> dict[str, Any]:
    texts = [part["text"] for part in item if part["type"] == "text"]
    words = {word for text in texts for word in _WORD.findall(text.lower())}
    flagged = {TRIGGERS[word] for word in words & TRIGGERS.keys()}
    seed = seed_of("scores", item)
    kinds = sorted({"text" if part["type"] == "text" else "image" for part in item})
    names = (*_TEXT_ONLY, *_TEXT_OR_IMAGE)
    return {
        "flagged": bool(flagged),
        "categories": {name: name in flagged for name in names},
        "category_scores": {
            name: 0.9 + seed[at] / 2560 if name in flagged else seed[at] / 25600 for at, name in enumerate(names)
        },
        "category_applied_input_types": {
            name: [kind for kind in kinds if kind == "text" or name in _TEXT_OR_IMAGE] for name in names
        },
    }


def _inputs(params: Params) -> list[list[dict[str, Any]]]:
    """One list of parts for each result: a string has one, strings have one each, an array of parts is one input."""
    given = params.required("input")
    match given:
        case str():
            return [[_text_part(given)]]
        case [str(), *_] if all(isinstance(item, str) for item in given):
            return [[_text_part(item)] for item in given]
        case [dict(), *_] if all(_is_part(item) for item in given):
            return [given]
        case _:
            raise errors.wrong_type("input", "a string, or a non-empty array of strings or parts", given)


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _is_part(item: Any) -> bool:
    match item:
        case {"type": "text", "text": str()} | {"type": "image_url", "image_url": {"url": str()}}:
            return True
        case _:
            return False
