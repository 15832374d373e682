"""Dataclasses as JSON that others write and read. Pydantic checks the types, and passes over what is not ours."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError, with_config
from pydantic.alias_generators import to_camel

from host.errors import ArtifactError, InputError
from host.jsontext import Json, parse_object, write_json

wired: Final = with_config(strict=True, alias_generator=to_camel)
_adapter: Final[Callable[[type], TypeAdapter[Any]]] = cache(TypeAdapter)
_MOST_VALUES = 200_000  # in one document; a descriptor is some ten

T = TypeVar("T")


def json_object(content: bytes, what: str) -> dict[str, Json]:
    """The JSON object in `content`. Raises ArtifactError."""
    try:
        return parse_object(content, what, most=_MOST_VALUES)
    except InputError as error:
        raise ArtifactError(str(error)) from None


def read(kind: type[T], value: Json, where: str) -> T:
    """The `wired` dataclass that `value` spells. Raises ArtifactError with the first mistake: `where`, and its path."""
    try:
        found: T = _adapter(kind).validate_json(write_json(value))  # strictly, a list is a tuple in JSON alone
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    else:
        return found
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    reason = first.get("ctx", {}).get("error") or first["msg"]
    raise ArtifactError(f"{where}{path}: {reason}")  # out here, so that it has no context: that has what was read


def written(value: object) -> dict[str, Json]:
    """A `wired` dataclass as a JSON object, without the fields that have their defaults."""
    shown: dict[str, Json] = _adapter(type(value)).dump_python(value, by_alias=True, exclude_defaults=True)
    return shown
