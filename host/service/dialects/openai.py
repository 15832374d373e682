"""What an answer says that it cost: the `usage` of OpenAI's API, in documents and in events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from host.core.strict_json import Json, parse_json
from host.errors import InputError

_CHARACTERS_A_TOKEN = 4  # a rule of thumb, for answers that do not say
_MOST = 1_000_000_000  # of one answer, whatever it says: what is added up has to stay a number that a database can hold


@dataclass(frozen=True, slots=True)
class Tokens:
    input: int = 0
    output: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output


def tokens_in(document: Json) -> Tokens | None:
    """What a whole answer, or an event, says in its `usage` (of the Responses API: in its `response`'s)."""
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


def tokens_in_text(event: str) -> Tokens | None:
    """The same of an event's text, which is not read where it cannot have any."""
    if '"usage"' not in event or '"usage":null' in event:
        return None
    try:
        return tokens_in(parse_json(event, "the event"))
    except InputError:
        return None


def estimated(sent: int, events: int) -> Tokens:
    """For a stream that ended without saying: from the characters that were sent, and an event for a token."""
    return Tokens(sent // _CHARACTERS_A_TOKEN + 1, events)


def asking_for_usage(operation: str, params: Mapping[str, Json]) -> tuple[Mapping[str, Json], bool]:
    """The parameters of a stream that will say what it cost, and whether that had to be asked for: then the caller did
    not, and the event that says it is not for him."""
    if operation not in ("chat.completions.create", "completions.create"):
        return params, False  # the others say so unasked
    options = params.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage") is True:
        return params, False
    asked = {**options, "include_usage": True} if isinstance(options, dict) else {"include_usage": True}
    return {**params, "stream_options": asked}, True


def only_tells_usage(event: str) -> bool:
    """Whether it is the one that `include_usage` adds at the end: it has no choices."""
    return '"choices":[]' in event.replace(" ", "") and tokens_in_text(event) is not None


def _count(usage: Mapping[str, Any], *names: str) -> int:
    """The first of `names` that is a count: 0 where none is. It is a stranger's word."""
    values = (usage.get(name) for name in names)
    found = next((one for one in values if isinstance(one, int) and not isinstance(one, bool) and one >= 0), 0)
    return min(found, _MOST)
