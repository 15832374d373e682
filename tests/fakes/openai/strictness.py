"""What the models of OpenAI's official SDK have against an answer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

# What the specification lets be null, where it is not left out.
NULLABLE = {
    *("content", "refusal", "logprobs", "finish_reason", "error", "incomplete_details", "instructions"),
    *("max_output_tokens", "previous_response_id", "reasoning.effort", "reasoning.summary", "turn_detection"),
    *("first_id", "last_id"),  # of an empty list
}

# Fields that OpenAI's own examples have, and the SDK's models have not.
OF_EXAMPLES = {"store", "task"}


def mistakes(value: Any, kind: Any) -> list[str]:
    """What the SDK's model `kind` has against `value`: missing and mistyped fields, fields that it does not know, and
    null where the specification has none."""
    try:
        read = _adapter(kind).validate_python(value)
    except ValidationError as error:
        return [str(error)]
    return [*_unknown(read, ""), *_nulls(value, "")]


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _unknown(read: Any, at: str) -> Iterator[str]:
    if isinstance(read, BaseModel):
        yield from (f"{at}.{name} is not known" for name in (read.model_extra or {}).keys() - OF_EXAMPLES)
        for name in type(read).model_fields:
            yield from _unknown(getattr(read, name), f"{at}.{name}")
    elif isinstance(read, list):
        for one in read:
            yield from _unknown(one, f"{at}[]")


def _nulls(value: Any, at: str) -> Iterator[str]:
    for name, one in value.items() if isinstance(value, dict) else ():
        if (
            one is None
            and not {name, f"{at}.{name}".lstrip(".")} & NULLABLE
            and f"{at[at.rfind('.') + 1 :]}.{name}" not in NULLABLE
        ):
            yield f"{at}.{name} is null"
        yield from _nulls(one, f"{at}.{name}")
    for one in value if isinstance(value, list) else ():
        yield from _nulls(one, at)
