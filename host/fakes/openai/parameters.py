"""The types of the parameters of each JSON endpoint, as OpenAI's specification has them. A value of another type is
refused; null stands for a parameter that is not given, and parameters that are not listed are passed over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from host.fakes.openai import errors
from host.fakes.openai.call import Params

Types = Mapping[str, str]  # what is expected: the names of the parameters

_TEXT_MODELS: Final = {
    "a decimal number": "temperature top_p presence_penalty frequency_penalty",
    "a string or an array of strings": "stop",
}

CHAT: Final[Types] = {
    **_TEXT_MODELS,
    "a string": (
        "model reasoning_effort verbosity service_tier prompt_cache_key prompt_cache_retention safety_identifier user"
    ),
    "a boolean": "stream logprobs parallel_tool_calls store",
    "an integer": "max_completion_tokens max_tokens n top_logprobs seed",
    "an array of objects": "messages tools functions",
    "an array of strings": "modalities",
    "an object": (
        "stream_options logit_bias response_format audio prediction web_search_options metadata prompt_cache_options "
        "moderation"
    ),
    "a string or an object": "tool_choice function_call",
}
COMPLETIONS: Final[Types] = {
    **_TEXT_MODELS,
    "a string": "model suffix user",
    "a boolean": "stream echo",
    "an integer": "max_tokens n best_of logprobs seed",
    "an object": "stream_options logit_bias",
    "a string or an array of strings or tokens": "prompt",
}
RESPONSES: Final[Types] = {
    "a string": (
        "model instructions previous_response_id truncation service_tier prompt_cache_key prompt_cache_retention "
        "safety_identifier user"
    ),
    "a boolean": "stream parallel_tool_calls background store",
    "an integer": "max_output_tokens max_tool_calls top_logprobs",
    "a decimal number": "temperature top_p",
    "an array of objects": "tools context_management",
    "an array of strings": "include",
    "an object": "stream_options prompt text reasoning image metadata prompt_cache_options access_programs moderation",
    "a string or an object": "tool_choice conversation",
    "a string or an array of input items": "input",
}
EMBEDDINGS: Final[Types] = {
    "a string": "model encoding_format user",
    "an integer": "dimensions",
    "a string or an array of strings or tokens": "input",
}
MODERATIONS: Final[Types] = {"a string": "model", "a string or an array of strings or parts": "input"}
IMAGES: Final[Types] = {
    "a string": (
        "prompt model size quality output_format background moderation response_format style complexity "
        "safety_identifier user"
    ),
    "a boolean": "stream",
    "an integer": "n output_compression partial_images frame_count frame_duration_ms",
    "an object": "svg",
}
SPEECH: Final[Types] = {
    "a string": "model input instructions response_format stream_format",
    "a decimal number": "speed",
    "a string or an object": "voice",
}

_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "a string": (str,),
    "a boolean": (bool,),
    "an integer": (int,),
    "a decimal number": (int, float),
    "an array": (list,),
    "an object": (dict,),
}


def check_types(params: Params, types: Types) -> None:
    """Raises ApiError for the first value of another type, also within `metadata` and `stream_options`."""
    for expected, names in types.items():
        for name in names.split():
            if not _fits(value := params.raw(name), expected):
                raise errors.wrong_type(name, expected, value)
            if expected == "an array of objects":
                params.objects(name)
    for name, expected in (("metadata", "a string"), ("stream_options", "a boolean")):
        if name in types.get("an object", "").split():
            for key, value in params.mapping(name).items():
                if not _fits(value, expected):
                    raise errors.wrong_type(f"{name}.{key}", expected, value)


def _fits(value: Any, expected: str) -> bool:
    if value is None:
        return True
    kinds = [kind for words, kind in _KINDS.items() if any(one.startswith(words) for one in expected.split(" or "))]
    return any(isinstance(value, kind) and (bool in kind or not isinstance(value, bool)) for kind in kinds)
