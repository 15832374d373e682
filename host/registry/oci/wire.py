"""Dataclasses as JSON that others write and read: pydantic checks the types, and passes over fields that are not ours."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError, with_config
from pydantic.alias_generators import to_camel

from host.errors import ArtifactError, InputError
from host.jsontext import Json, parse_object, write_json

wired: Final = with_config(strict=True, alias_generator=to_camel, hide_input_in_errors=True)
_MOST_VALUES = 200_000  # in one document; a descriptor is some ten

T = TypeVar("T")


def json_object(content: bytes, what: str) -> dict[str, Json]:
    """The JSON object in `content`. Raises ArtifactError."""
    try:
        return parse_object(content, what, most=_MOST_VALUES)
    except InputError as error:
        raise ArtifactError(str(error)) from None


def read(kind: type[T], value: Json, where: str) -> T:
    """A `wired` dataclass from `value`, which `where` names. Raises ArtifactError with the path of the first mistake."""
    try:
        return _adapter(kind).validate_json(write_json(value))  # strictly, a list is a tuple in JSON alone
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise ArtifactError(f"{where}{path}: {first.get('ctx', {}).get('error') or first['msg']}") from None


def written(value: object) -> dict[str, Any]:
    """The JSON object of a `wired` dataclass, without the fields that have their defaults."""
    return _adapter(type(value)).dump_python(value, by_alias=True, exclude_defaults=True)


@cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)
