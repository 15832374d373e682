"""What requests of OpenAI's API cost, in tokens: before the run by an estimate, after it by the answer.

README.md beside this file has the table of units. What an answer counts itself is taken as it is; the units are for
what counts nothing, and for what is held before the answer is there. A bound of a request counts only under the name
that its own operation has for it: a name that the provider passes over bounds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from host.component.operations import OperationSpec
from host.core.operation import Attachment
from host.core.strict_json import Json
from host.service.dialects.dialect import MOST_TOKENS, Estimate, StoredAnswer, count_of
from host.service.dialects.openai_helpers import ordered

_BYTES_A_TOKEN = 4
_FILE_BYTES_A_TOKEN = 400  # of sound: 10 tokens a second at 32 kbit/s
_PICTURE = 1_105  # of a request: 768 by 2,048 pixels in tiles
_FILE = 2_000
_OPEN = 4_096  # of an answer whose length the request does not bound
_HOSTED_TOOL = 4_096
_LATER = 50_000  # of work whose size the request does not show
_SESSION = 10_000
_CONTAINER = 1_000
_VIDEO_A_SECOND = 1_000
_IMAGE: Final[Mapping[str, int]] = {"low": 408, "high": 6_208, "hd": 6_208}
_IMAGE_OTHER = 1_568
_PARTIAL_IMAGE = 100

_NAMES = re.compile(r"\{\w+\}")
_BOUNDS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    # the fields that bound the answer's tokens, and those that say how many answers
    "/chat/completions": (("max_completion_tokens", "max_tokens"), ("n",)),
    "/completions": (("max_tokens",), ("n", "best_of")),
    "/responses": (("max_output_tokens",), ()),
    "/responses/compact": ((), ()),
    "/messages": (("max_tokens",), ()),
    "/threads/runs": (("max_completion_tokens",), ()),
    "/threads/{}/runs": (("max_completion_tokens",), ()),
}
_LATER_PATHS: Final = frozenset(
    {
        *("/batches", "/evals/{}/runs", "/fine_tuning/jobs", "/threads/runs", "/threads/{}/runs"),
        *("/agents/sessions", "/agents/sessions/{}/events", "/agents/automations/{}/invocations"),
    }
)
_FLAT: Final[Mapping[str, int]] = {  # whose answers count nothing, and what they start is not seen
    "/agents/automations": _SESSION,
    "/agents/automations/{}": _SESSION,
    "/agents/automations/{}/resume": _SESSION,
    "/chatkit/sessions": _SESSION,
    "/fine_tuning/jobs/{}/resume": _SESSION,
    "/threads/{}/runs/{}/submit_tool_outputs": _OPEN,
    "/fine_tuning/alpha/graders/run": _OPEN,
    "/audio/voices": _OPEN,
    "/content_provenance_checks": _OPEN,
    "/decisions": _OPEN,
    "/videos/characters": _OPEN,
    "/containers": _CONTAINER,
}
_KEPT_AT: Final[Mapping[str, str]] = {  # where an object of each kind is read
    "response": "/responses/{}",
    "chat.completion": "/chat/completions/{}",
    "batch": "/batches/{}",
    "thread.run": "/threads/{}/runs/{}",
    "fine_tuning.job": "/fine_tuning/jobs/{}",
    "eval.run": "/evals/{}/runs/{}",
    "video": "/videos/{}",
}
_ENDS: Final = frozenset({"completed", "incomplete", "failed", "cancelled", "expired", "succeeded", "canceled"})
_FREE: Final = re.compile(
    r"/(files|uploads|vector_stores(?!/\{\}/search)|conversations|assistants|models|evals(/\{\})?\Z"
    r"|threads(?!/runs|/\{\}/runs\Z|/\{\}/runs/\{\}/submit_tool_outputs)|evals/\{\}/runs/\{\}/cancel\Z"
    r"|organization|projects|batches/\{\}|chat/completions/\{\}|responses/\{\}/cancel|responses/input_tokens"
    r"|fine_tuning/jobs/\{\}(?!/resume)|fine_tuning/checkpoints|fine_tuning/alpha/graders/validate|containers/\{\}|videos/\{\}\Z"
    r"|(realtime/calls|live/sessions)/\{\}/(hangup|refer|reject)\Z|skills|vaults|webhook_endpoints"
    r"|agents(/\{\})?\Z|agents/sessions/\{\}\Z|agents/automations/\{\}/pause|chatkit/sessions/\{\}/cancel"
    r"|agents/environments|audio/voice_consents).*"
)

# before the run


def estimate(spec: OperationSpec | None, params: Mapping[str, Json], attachments: Mapping[str, Attachment]) -> Estimate:
    if spec is not None and spec.websocket:
        return Estimate(1, likely=_SESSION)
    spec = ordered(spec)
    if spec is not None and spec.method in ("GET", "DELETE"):
        return Estimate()
    path = _NAMES.sub("{}", spec.route) if spec is not None else ""
    if _FREE.fullmatch(path):
        return Estimate()
    given = max(1, _content(params.values()))
    match path:
        case "/embeddings" | "/moderations" | "/vector_stores/{}/search":
            return Estimate(given)
        case "/images/generations" | "/images/edits" | "/images/variations":
            return Estimate(given + _PICTURE * len(attachments), _images(params))
        case "/audio/speech":
            text = params.get("input")
            return Estimate(given, len(text) if isinstance(text, str) else 0)
        case "/audio/transcriptions" | "/audio/translations":
            sound = sum(len(one.data) for one in attachments.values()) // _FILE_BYTES_A_TOKEN
            return Estimate(given + sound, likely=_OPEN, text=True)
        case "/videos" | "/videos/{}/remix" | "/videos/edits" | "/videos/extensions":
            return Estimate(given, _VIDEO_A_SECOND * (_number(params.get("seconds")) or 4))
        case _ if path in _FLAT:
            return Estimate(given, _FLAT[path])
        case _ if path.startswith(("/realtime/", "/live/")):
            return Estimate(given, _SESSION)
        case _ if path in _LATER_PATHS:
            return Estimate(given, likely=_LATER, text=True)
    return _of_text(path, given, params)


def _of_text(path: str, given: int, params: Mapping[str, Json]) -> Estimate:
    bounds, counts = _BOUNDS.get(path, ((), ()))
    answers = max([1, *(_number(params.get(name)) for name in counts)])
    if path == "/completions" and isinstance(prompts := params.get("prompt"), list):
        answers *= max(1, sum(isinstance(one, (str, list)) for one in prompts))
    most = max([0, *(_number(params.get(name)) for name in bounds)])
    hidden = sum(bool(params.get(name)) for name in ("previous_response_id", "conversation", "prompt_id"))
    tools = params.get("tools")
    hosted = sum(map(_hosted, tools)) if isinstance(tools, list) else 0
    likely = (0 if most else _OPEN * answers) + _OPEN * hidden + _HOSTED_TOOL * hosted
    output, likely = min(most * answers, MOST_TOKENS), min(likely, MOST_TOKENS)
    return Estimate(given, output, likely, text=path in _BOUNDS)


def _hosted(tool: Json) -> bool:
    """Whether the provider runs the tool, whose results are content of the next turn."""
    return isinstance(tool, dict) and tool.get("type") not in ("function", "custom", None)


def _content(values: Iterable[Json]) -> int:
    """The tokens of a request's own content: a quarter of its bytes, and a flat figure for a picture or a file."""
    size = pictures = files = sound = 0
    left: list[Any] = list(values)
    while left:
        one = left.pop()
        if isinstance(one, str):
            if one.startswith("data:"):
                pictures += 1
            else:
                size += len(one) if one.isascii() else len(one.encode("utf-8", "replace"))
        elif isinstance(one, list):
            left += one
        elif isinstance(one, dict):
            for name, value in one.items():
                size += len(name)
                if name in ("data", "file_data", "b64_json") and isinstance(value, str):
                    sound += len(value)
                elif name in ("image_url", "file_url", "file_id", "image_file", "$attachment") and value:
                    pictures += name == "image_url"
                    files += name != "image_url"
                else:
                    left.append(value)
        elif isinstance(one, int | float):
            size += _BYTES_A_TOKEN  # one of a text that was made numbers already
    found = size // _BYTES_A_TOKEN + pictures * _PICTURE + files * _FILE + sound // _FILE_BYTES_A_TOKEN
    return min(found, MOST_TOKENS)


def _images(params: Mapping[str, Json]) -> int:
    quality = params.get("quality")
    each = _IMAGE.get(quality, _IMAGE_OTHER) if isinstance(quality, str) else _IMAGE_OTHER
    each += _PARTIAL_IMAGE * _number(params.get("partial_images"))
    return min(each * max(1, _number(params.get("n"))), MOST_TOKENS)


def _number(value: Json) -> int:
    """A number above zero, also one that a form has as text; 0 for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:20])
    return count_of(value)


# after it


def answer_of(spec: OperationSpec | None, params: Mapping[str, Json], document: Json) -> StoredAnswer | None:
    """An object counts only where its kind is made, read or cancelled, and under the id in the path: a file's content,
    which somebody wrote, may look like any object."""
    spec = ordered(spec)
    inner = document.get("response") if isinstance(document, dict) and "object" not in document else None
    found = inner if isinstance(inner, dict) else document
    if spec is None or not isinstance(found, dict):
        return None
    ident, kind = found.get("id"), str(found.get("object"))
    place, path = _KEPT_AT.get(kind, ""), _NAMES.sub("{}", spec.route)
    if not (place and isinstance(ident, str) and ident):
        return None
    again = path in (place, f"{place}/cancel")
    if again and params.get(spec.in_path[-1] if spec.in_path else "") != ident:
        return None
    if not again:
        made = path == place.removesuffix("/{}") or (kind == "thread.run" and path == "/threads/runs")
        stored = params.get("store") is True if kind == "chat.completion" else params.get("store") is not False
        if not (made and stored):
            return None
    later = found.get("background") is True or kind not in ("response", "chat.completion")
    return StoredAnswer(ident, later=later, done=not later or str(found.get("status")) in _ENDS, again=again)


def comes_later(spec: OperationSpec | None, params: Mapping[str, Json]) -> bool:
    return params.get("background") is True and spec is not None and spec.route == "/responses"
