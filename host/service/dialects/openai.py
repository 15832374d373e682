"""OpenAI's names for tokens, text and models (platform.openai.com/docs/api-reference).

Catalysts by CYFR have the same API, with `model_id` for a model in a path, `multipart` for a form that is made ready,
and `chunks` and `combined_text` for a stream that was gathered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from host.core.strict_json import Json, parse_json
from host.errors import InputError
from host.service.dialects import openai_models
from host.service.dialects.dialect import Tokens

LIST_MODELS: Final = "models.list"

_MOST = 1_000_000_000  # tokens of one answer: sums of counts must stay numbers that a database can hold
_TEXT_EVENTS = ("response.output_text.delta", "transcript.text.delta")
_MODEL_PATH = "/models/{"
_COUNTS_WHEN_ASKED = ("chat.completions.create", "completions.create")

# tokens


def tokens_of_document(document: Json) -> Tokens | None:
    """From `usage`; of the last event of the Responses API, from `response.usage`."""
    if not isinstance(document, dict):
        return None
    usage: Any = document.get("usage")
    if usage is None and isinstance(response := document.get("response"), dict):
        usage = response.get("usage")
    if not isinstance(usage, dict):
        return None
    given = _count(usage, "prompt_tokens", "input_tokens")
    made = _count(usage, "completion_tokens", "output_tokens")
    rest = _count(usage, "total_tokens") - given - made
    return Tokens(given + max(0, rest), made)


def tokens_of_event(event: str) -> Tokens | None:
    if '"usage"' not in event or '"usage":null' in event:
        return None
    try:
        return tokens_of_document(parse_json(event, "the event"))
    except InputError:
        return None


def asking_for_tokens(operation: str, params: Mapping[str, Json]) -> tuple[Mapping[str, Json], bool]:
    """By `stream_options.include_usage`. The other operations count without being asked."""
    if operation not in _COUNTS_WHEN_ASKED:
        return params, False
    options = params.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage") is True:
        return params, False
    asked = {**options, "include_usage": True} if isinstance(options, dict) else {"include_usage": True}
    return {**params, "stream_options": asked}, True


def only_counts(event: str) -> bool:
    """The event that `include_usage` adds at the end has no choices."""
    return '"choices":[]' in event.replace(" ", "") and tokens_of_event(event) is not None


def _count(usage: Mapping[str, Any], *names: str) -> int:
    """The first of `names` that is a count; 0 where none is."""
    for name in names:
        found = usage.get(name)
        if isinstance(found, int) and not isinstance(found, bool) and found >= 0:
            return min(found, _MOST)
    return 0


# text


def text_of_event(event: Json) -> str:
    """The `delta` of a text event, or those of a chunk's choices."""
    if not isinstance(event, dict):
        return ""
    if event.get("type") in _TEXT_EVENTS:
        return _text(event.get("delta"))
    choices = event.get("choices")
    return "".join(map(_text_of_choice, choices)) if isinstance(choices, list) else ""


def text_of_document(document: Json) -> str:
    return _text(document.get("combined_text")) if isinstance(document, dict) else ""


def gathered(data: Mapping[str, Json], events: Sequence[Json]) -> dict[str, Json]:
    text = text_of_document(dict(data)) or "".join(map(text_of_event, events))
    return {**data, "chunks": list(events), "combined_text": text}


def events_of(data: Json) -> list[Json]:
    chunks = data.get("chunks") if isinstance(data, dict) else None
    return chunks if isinstance(chunks, list) else []


def _text_of_choice(choice: Json) -> str:
    if not isinstance(choice, dict):
        return ""
    delta = choice.get("delta")
    return _text(delta.get("content") if isinstance(delta, dict) else choice.get("text"))


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


# models


def model_of(path: str, in_path: Sequence[str], params: Mapping[str, Json]) -> str | None:
    if path.startswith(_MODEL_PATH):
        return in_path[0]
    model = params.get("model")
    if model is not None and not isinstance(model, str):
        raise InputError("model must be a string", field="model")
    return model or None


model_params = openai_models.model_params
other_models = openai_models.other_models
names_unseen = openai_models.names_unseen


def models_of(document: Json) -> list[dict[str, Any]]:
    data = document.get("data") if isinstance(document, dict) else None
    found = [one for one in data if isinstance(one, dict)] if isinstance(data, list) else []
    return [one for one in found if isinstance(ident := one.get("id"), str) and ident]


def alias_entry(alias: str, model: str) -> dict[str, Json]:
    return {"id": alias, "object": "model", "created": 0, "owned_by": f"alias of {model}"}


def model_list(models: Sequence[Json]) -> dict[str, Json]:
    return {"object": "list", "data": list(models)}
