"""OpenAI's names for tokens, text and models (platform.openai.com/docs/api-reference).

Catalysts by CYFR have the same API, with `model_id` for a model in a path, `multipart` for a form that is made ready,
and `chunks` and `combined_text` for a stream that was gathered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from host.core.sse import Texts
from host.core.strict_json import Json, parse_json
from host.errors import InputError
from host.service.dialects import openai_costs, openai_models, openai_objects
from host.service.dialects.dialect import MOST_TOKENS, Tokens, count_of

_TOKENS_A_SECOND = 10  # of sound
_COUNTS = (  # of what was given, of what was made, and of both; the first that is a count
    ("prompt_tokens", "input_tokens", "promptTokenCount"),
    ("completion_tokens", "output_tokens", "candidatesTokenCount"),
    ("total_tokens", "totalTokenCount"),
)
_CACHED = ("cache_creation_input_tokens", "cache_read_input_tokens")  # Anthropic's, beside `input_tokens`
LIST_MODELS: Final = "models.list"

_TEXT_EVENTS = ("response.output_text.delta", "transcript.text.delta")
_TRANSCRIPT: Final = "conversation.item.input_audio_transcription."
_ENDS_OF_ANSWERS: Final = frozenset(
    {
        *("response.done", "response.completed", "response.incomplete", "response.failed"),
        f"{_TRANSCRIPT}completed",
    }
)
_MODEL_PATH = "/models/{"
_ADDED = ("", "stream_options")
_COUNTS_WHEN_ASKED = ("chat.completions.create", "completions.create")

# tokens


def tokens_of_document(document: Json) -> Tokens | None:
    """From `usage`; of events, from `response.usage` or `message.usage`; of a transcript that tells its length, from
    that; of jobs and graders, from what they count."""
    if not isinstance(document, dict):
        return None
    usage = document.get("usage", document.get("usageMetadata", document.get("usage_metadata")))
    if usage is None:
        for name in ("response", "message"):
            if isinstance(inner := document.get(name), dict) and inner.get("usage") is not None:
                usage = inner["usage"]
    if isinstance(usage, dict):
        return _of_counts(usage)
    if document.get("object") == "fine_tuning.job" and document.get("trained_tokens") is not None:
        return Tokens(count_of(document["trained_tokens"]), 0)
    if isinstance(models := document.get("per_model_usage"), list):
        return _sum(_of_counts(one) for one in models if isinstance(one, dict))
    if "reward" in document and "object" not in document:  # of a grader; in an object, `metadata` is the caller's own
        said = document.get("metadata")
        graded = said.get("token_usage") if isinstance(said, dict) else None
        return Tokens(count_of(graded), 0) if graded is not None else None
    if "text" in document and document.get("duration") is not None:  # of sound, in seconds
        return Tokens(count_of(document["duration"]) * _TOKENS_A_SECOND, 0)
    return None


def _of_counts(usage: Mapping[str, Any]) -> Tokens:
    if usage.get("type") == "duration":
        return Tokens(min(count_of(usage.get("seconds")) * _TOKENS_A_SECOND, MOST_TOKENS), 0)
    found = [0, 0, 0]
    for at, names in enumerate(_COUNTS):
        for name in names:
            value = usage.get(name)
            if value.__class__ is int and 0 < value < MOST_TOKENS:
                found[at] = value
                break
            if value is not None and (count := count_of(value)):
                found[at] = count
                break
    given, made, total = found
    for name in _CACHED:
        if name in usage:
            given += count_of(usage[name])
    return Tokens(given + max(0, total - given - made), made)


def _sum(counts: Iterable[Tokens]) -> Tokens:
    given = made = 0
    for one in counts:
        given, made = given + one.input, made + one.output
    return Tokens(min(given, MOST_TOKENS), min(made, MOST_TOKENS))


def tokens_of_event(event: str) -> Tokens | None:
    if event.count('"usage') == event.count('"usage":null'):  # an event may repeat words of the request, with both
        return None
    try:
        return tokens_of_document(parse_json(event, "the event"))
    except InputError:
        return None


def tokens_of_message(message: str, before: Tokens | None) -> Tokens | None:
    """Each response says what it cost, as does each transcript. Of a session that is counted in seconds each message
    says how many there were."""
    if '"usage"' not in message and '"elapsed_ms"' not in message:
        return None
    try:
        event = parse_json(message, "the event")
    except InputError:
        return None
    if not isinstance(event, dict):
        return None
    known = before or Tokens()
    usage = event.get("usage")
    seconds = usage.get("seconds") if isinstance(usage, dict) and "type" not in usage else None
    if seconds is None and "elapsed_ms" in event:
        seconds = count_of(event["elapsed_ms"]) / 1_000
    if seconds is not None:
        return known.merged(Tokens(min(count_of(seconds) * _TOKENS_A_SECOND, MOST_TOKENS), 0))
    if event.get("type") not in _ENDS_OF_ANSWERS or (found := tokens_of_document(event)) is None:
        return None
    return _sum((known, found))


def answer_of_message(message: str) -> tuple[str, bool] | None:
    if not ('.delta"' in message or '"response.created"' in message or '"usage"' in message):
        return None
    try:
        event = parse_json(message, "the event")
    except InputError:
        return None
    if not isinstance(event, dict) or not isinstance(kind := event.get("type"), str):
        return None
    if "elapsed_ms" in event or not kind.startswith(("response.", _TRANSCRIPT)):
        return None
    ends = kind in _ENDS_OF_ANSWERS and tokens_of_document(event) is not None
    if not ends and not kind.endswith((".delta", ".created")):
        return None
    response = event.get("response")
    if kind.startswith(_TRANSCRIPT):
        ident = event.get("item_id")
    else:  # parts in Responses do not say it: there is one answer at a time
        ident = response.get("id") if isinstance(response, dict) else event.get("response_id")
    return (ident if isinstance(ident, str) else ""), ends


estimate = openai_costs.estimate
answer_of = openai_costs.answer_of
comes_later = openai_costs.comes_later


def asking_for_tokens(operation: str, params: Mapping[str, Json]) -> tuple[Mapping[str, Json], bool]:
    """By `stream_options.include_usage`. The other operations count without being asked."""
    if operation not in _COUNTS_WHEN_ASKED:
        return params, False
    options = params.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage") is True:
        return params, False
    asked = {**options, "include_usage": True} if isinstance(options, dict) else {"include_usage": True}
    return {**params, "stream_options": asked}, True


def refuses_count(status: int, error: Json) -> bool:
    """A request that is not acceptable (400 or 422), for the parameter that was added or for one that it does not
    name: servers other than OpenAI's seldom do."""
    named = error.get("param") if isinstance(error, dict) else None
    return status in (400, 422) and (not isinstance(named, str) or named.partition(".")[0] in _ADDED)


def only_counts(event: str) -> bool:
    """The event that `include_usage` adds at the end has no choices."""
    return '"choices":[]' in event.replace(" ", "") and tokens_of_event(event) is not None


# text


def text_of_event(event: Json) -> str:
    """The `delta` of a text event, or that of the first choice of a chunk."""
    return "".join(text for choice, text, _ in _texts_of(event) if choice == 0)


def text_of_document(document: Json) -> str:
    return _text(document.get("combined_text")) if isinstance(document, dict) else ""


def gathered(data: Mapping[str, Json], events: Sequence[Json]) -> dict[str, Json]:
    """`combined_text` is the first choice's, `texts` has one for each: see the SDK's `api.perform`."""
    found = Texts()
    for event in events:
        for choice, text, part in _texts_of(event):
            found.add(choice, text, part)
    each: list[Json] = [*found.each]
    if not each and isinstance(given := data.get("texts"), list):
        each = given
    return {**data, "chunks": list(events), "combined_text": text_of_document(dict(data)) or found.first, "texts": each}


def events_of(data: Json) -> list[Json]:
    chunks = data.get("chunks") if isinstance(data, dict) else None
    return chunks if isinstance(chunks, list) else []


def _texts_of(event: Json) -> Iterable[tuple[int, str, tuple[int, int]]]:
    """Choice, text and part: see Texts."""
    if not isinstance(event, dict):
        return
    if event.get("type") in _TEXT_EVENTS:
        yield 0, _text(event.get("delta")), (_number(event.get("output_index")), _number(event.get("content_index")))
    choices = event.get("choices")
    for at, choice in enumerate(choices if isinstance(choices, list) else ()):
        if isinstance(choice, dict):
            delta = choice.get("delta")
            text = delta.get("content") if isinstance(delta, dict) else choice.get("text")
            yield _number(choice.get("index", at)), _text(text), (0, 0)


def _number(value: Json) -> int:
    return value if isinstance(value, int) else 0


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


# stored objects

ids_of = openai_objects.ids_of
ids_made = openai_objects.ids_made

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
message_hides = openai_models.message_hides


def models_of(document: Json) -> list[dict[str, Any]]:
    """From `data`; from a bare list, as some servers answer; and from `models`, as others do, whose entries have a
    `name` or a `model`, or are the name."""
    listed = document
    if isinstance(document, dict):
        listed = document.get("data", document.get("models"))
    found = [_model(one) for one in listed] if isinstance(listed, list) else []
    return [one for one in found if isinstance(ident := one.get("id"), str) and ident]


def _model(entry: Json) -> dict[str, Any]:
    if isinstance(entry, str):
        entry = {"id": entry}
    if not isinstance(entry, dict):
        return {}
    if "id" in entry:
        return entry
    named = entry.get("model", entry.get("name"))
    ident = named.removeprefix("models/") if isinstance(named, str) else ""  # Gemini's names have it
    return {**entry, "id": ident, "object": "model"}


def alias_entry(alias: str, model: str) -> dict[str, Json]:
    return {"id": alias, "object": "model", "created": 0, "owned_by": f"alias of {model}"}


def model_list(models: Sequence[Json]) -> dict[str, Json]:
    return {"object": "list", "data": list(models)}
