"""Which models a request of OpenAI's API may use: those that it names, in whatever place, and those that it hides.

A provider reads more than the parameter `model`: tools, sessions, graders and lists of fallbacks name models too. A
stored prompt, an assistant, an uploaded batch and some tools bring a model of their own, which no request shows. Only
keys for some models are held to this; for them, what the host cannot see is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from host.component.operations import OperationSpec
from host.core.strict_json import Json
from host.errors import InputError
from host.service.dialects.openai_helpers import ordered

_MOST_FIELDS: Final = 50_000  # of a request by a key for some models
_PATH: Final = "/models/{"
_PARAMS: Final = ("model", "model_id")
_NOT_A_LETTER = re.compile(r"[^a-z]")

# Names of fields that hold a model, or several: without case, and letters alone, as lenient readers compare names.
_NAMES: Final = frozenset(
    {
        *("model", "models", "modelid", "modelids", "modelname", "modelnames", "modelslug", "basemodel", "rootmodel"),
        *("fallback", "fallbacks", "fallbackmodel", "fallbackmodels", "contextwindowfallbacks", "deployment"),
        *("deploymentid", "engine", "engineid", "draftmodel", "judgemodel", "gradermodel", "embeddingmodel"),
        *("rerankmodel", "reranker"),
    }
)
# Names of fields that stand for something kept by the provider, which has a model.
_KEPT: Final = frozenset({"assistantid", "inputfileid", "workflow", "workflowid", "evalid", "agentid", "preset"})
_INERT: Final = frozenset({"metadata", "logitbias"})  # the caller's own words, which a provider hands back
_SCHEMAS: Final = frozenset({"parameters", "schema", "input_schema"})  # a JSON Schema: `model` there is a property
_TOOLS: Final = frozenset({"tools", "plugins", "toolresources"})
_OWN_TOOLS: Final = frozenset({"function", "custom", "local_shell", "apply_patch"})  # the client runs them
_FUNCTIONS: Final = (  # of a tool without a type
    frozenset({"function"}),
    frozenset({"name", "description", "input_schema", "cache_control"}),
    frozenset({"functionDeclarations", "function_declarations"}),
)
# Routes that use a model of something kept: a batch's lines, an evaluation's graders, an assistant, an agent, a video;
# and those that hand out a way past this host.
_HIDING: Final = re.compile(
    r"/(batches|threads/(\{\w+\}/)?runs(/\{\w+\}/submit_tool_outputs)?|evals(/\{\w+\}/runs)?|chatkit/sessions"
    r"|videos/(\{\w+\}/\w+|edits|extensions)|(realtime|live|agents)/.*|responses/\{\w+\}/(?!cancel\Z)\w+|vector_stores/\{\w+\}/search"
    r"|fine_tuning/jobs/\{\w+\}/resume)"
)
# Where an event has to name its model, since nothing before it did: by path and type, the object that has it.
_FIRST: Final = {("/responses", "response.create"): "", ("/live/sessions", "session.start"): "session"}
_PURPOSES: Final = frozenset({"assistants", "vision", "user_data", "fine-tune"})  # of files that name no model


def model_params(spec: OperationSpec | None, given: Mapping[str, Json]) -> Sequence[str]:
    in_path = spec.in_path[:1] if spec is not None and spec.path.startswith(_PATH) else ()
    return [name for name in dict.fromkeys((*in_path, *_PARAMS)) if given.get(name)]


def other_models(given: Mapping[str, Json]) -> Iterator[Json]:
    """What stands where a model is named, but for the parameters that `model_params` has. It may be no text."""
    for depth, name, value in _fields(given):
        if _plain(name) in _NAMES and value and (depth or name not in _PARAMS):
            found = value if isinstance(value, list) else [value]
            yield from (one for one in found if not isinstance(one, dict) or _plain(name) == "model")


def names_unseen(spec: OperationSpec | None, given: Mapping[str, Json], schema: Json) -> bool:
    spec = ordered(spec)
    if spec is not None and spec.request == "multipart" and given.get("multipart") is not None:
        return True  # a form that is made ready stands in place of all other parameters
    if spec is not None and spec.websocket:
        return _opens_unseen(spec, given)
    if spec is not None and spec.method not in ("GET", "DELETE") and _hides(spec, given):
        return True
    if any(_kept(name, value) for _, name, value in _fields(given)):
        return True
    return not (_names_its_own(spec, given) or _takes_none(spec, schema))


def _opens_unseen(spec: OperationSpec, given: Mapping[str, Json]) -> bool:
    """Whether a connection uses a model that neither its request names nor its first event has to: that of a session or
    a call of another connection, or one that the provider chooses."""
    if spec.in_path or given.get("call_id"):
        return True
    return not any(path == spec.path for path, _ in _FIRST) and not given.get("model")


def message_hides(spec: OperationSpec | None, event: Mapping[str, Json]) -> bool:
    """A stored prompt, a hosted tool; and the first event of a session whose request names no model, without one."""
    first = _FIRST.get((spec.path if spec else "", str(event.get("type"))))
    if first is not None:
        holder = event.get(first) if first else event
        if not isinstance(holder, dict) or not isinstance(holder.get("model"), str):
            return True
    return any(_kept(name, value) for _, name, value in _fields(event))


def _names_its_own(spec: OperationSpec | None, given: Mapping[str, Json]) -> bool:
    """Whether the request has the very parameter that the operation takes its model from. One that the operation does
    not list names nothing."""
    found = model_params(spec, given)
    listed = spec.parameters if spec is not None else None
    if spec is None or spec.path.startswith(_PATH):
        return bool(found)
    if listed is None:
        return "model" in found
    return ("model" if "model" in listed else "model_id") in {*found}.intersection(listed)


def _hides(spec: OperationSpec, given: Mapping[str, Json]) -> bool:
    if _HIDING.fullmatch(spec.route) or (spec.route == "/responses" and given.get("prompt")):
        return True
    purpose = given.get("purpose")
    return spec.route in ("/files", "/uploads") and not (isinstance(purpose, str) and purpose in _PURPOSES)


def _kept(name: str, value: Json) -> bool:
    """Whether the field brings a model that it does not name."""
    plain = _plain(name)
    if plain in _TOOLS and value:
        return any(map(_hosted, value if isinstance(value, list) else [value]))
    return (plain in _KEPT and bool(value)) or (plain == "prompt" and isinstance(value, dict))


def _hosted(tool: Json) -> bool:
    """Whether the provider itself runs the tool, with a model that the request does not name."""
    if not isinstance(tool, dict):
        return True
    kind = tool.get("type")
    if kind is None:
        return not any(tool.keys() <= names for names in _FUNCTIONS)
    if kind in ("image_generation", "namespace"):  # tools of a namespace are looked at by themselves
        return not tool.get("model" if kind == "image_generation" else "tools")
    return not (isinstance(kind, str) and kind in _OWN_TOOLS)


def _fields(given: Mapping[str, Json]) -> Iterator[tuple[int, str, Json]]:
    """The fields of all objects in `given` that a provider may act by, each with its depth. Raises InputError for more
    than there is time to look at."""
    left: list[tuple[int, Any]] = [(0, given)]
    seen = 0
    while left:
        depth, one = left.pop()
        if isinstance(one, list):
            left += [(depth, inner) for inner in one if isinstance(inner, (dict, list))]
        fields = one if isinstance(one, dict) else {}
        seen += 1 + (len(fields) or len(one) // 16)  # a value that is none of these takes less time
        if seen > _MOST_FIELDS:
            raise InputError(f"the parameters have more than {_MOST_FIELDS} fields", field="params")
        for name, value in fields.items():
            yield depth, name, value
            if isinstance(value, (dict, list)) and _plain(name) not in _INERT and not (depth and name in _SCHEMAS):
                left.append((depth + 1, value))


@lru_cache(maxsize=1024)
def _plain(name: str) -> str:
    return _NOT_A_LETTER.sub("", name.casefold())


def _takes_none(spec: OperationSpec | None, schema: Json) -> bool:
    """Whether the operation, or a whole input with this schema, has no model among its parameters."""
    if spec is None:
        properties = _properties(schema)
        return properties is not None and "model" not in properties
    several = not (spec.path or spec.method)  # without a route it makes several requests, which are not seen
    if spec.path.startswith(_PATH) or several:
        return False
    if spec.parameters is None:
        return spec.method in ("GET", "DELETE")
    return "model" not in spec.parameters


def _properties(schema: Json) -> Mapping[str, Json] | None:
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else None
