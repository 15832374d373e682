"""Arguments for every method of the official SDK, by the types of its parameters: the same for it and for us."""

from __future__ import annotations

import base64
import collections.abc
import datetime as dt
import importlib
import sys
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import get_type_hints, is_typeddict

ROOT = Path(__file__).parents[3]
_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable, set)
_DICTS = (dict, collections.abc.Mapping)
_DEEP = 4  # objects in objects; below them only what is required


def _reader_of_the_sdk() -> types.ModuleType:
    """`.ci/operations/sdk.py`, of the tool that makes the declaration."""
    folder = str(ROOT / ".ci" / "operations")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("sdk")
    finally:
        sys.path.remove(folder)


SDK = _reader_of_the_sdk()


@dataclass(frozen=True)
class File:
    """A file: `sdk` and `ours` are how it is given to the one and the other."""

    content: bytes
    filename: str | None = None

    @property
    def sdk(self) -> Any:
        return (self.filename, self.content) if self.filename else self.content

    @property
    def ours(self) -> dict[str, str]:
        return {
            "data": base64.b64encode(self.content).decode(),
            **({"filename": self.filename} if self.filename else {}),
        }


def given_to_the_sdk(value: Any) -> Any:
    return _with_files(value, lambda file: file.sdk)


def given_to_us(value: Any) -> Any:
    return _with_files(value, lambda file: file.ours)


class Name(str):
    """A field whose name in Python is another than in the API: `wire`."""

    __slots__ = ("wire",)
    wire: str


def _with_files(value: Any, form: Any) -> Any:
    if isinstance(value, File):
        return form(value)
    if isinstance(value, dict):
        return {_name(name, form): _with_files(inner, form) for name, inner in value.items()}
    return [_with_files(inner, form) for inner in value] if isinstance(value, list) else value


def _name(name: str, form: Any) -> str:
    return name.wire if isinstance(name, Name) and form(File(b"")) != b"" else name


def _named(name: str, hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Required, typing.NotRequired):
        return _named(name, typing.get_args(hint)[0])
    aliases = [getattr(one, "alias", None) for one in getattr(hint, "__metadata__", ())]
    if alias := next(filter(None, aliases), None):
        name = Name(name)
        name.wire = alias
    return name


def example(name: str, hint: Any, deep: int = 0) -> Any:
    """A value of a type: texts have letters that URLs, forms and JSON write in their own ways."""
    members = [one for one in SDK.without_omitted(hint) if one is not type(None)]
    if not members:
        return None
    if any(map(SDK.takes_file, members)):
        several = any(typing.get_origin(one) in _LISTS for one in members if SDK.takes_file(one))
        file = File(b"\x00\xffa file of " + name.encode(), f"{name} é.png")
        return [file, File(b"another")] if several else file if name != "mask" else File(b"\x89PNG")
    one = next((one for one in members if is_typeddict(one) or typing.get_origin(one) in _LISTS), members[0])
    origin, arguments = typing.get_origin(one), typing.get_args(one)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        return example(name, arguments[0], deep)
    if origin is typing.Literal:
        return arguments[0]
    if origin in _LISTS:
        return [example(f"{name}{at}", arguments[0], deep + 1) for at in (1, 2)]
    if origin in _DICTS or one in (dict, object):
        return {"a key": example(name, arguments[1], deep + 1) if len(arguments) == 2 else "é"}
    if is_typeddict(one):
        return {
            _named(key, inner): example(key, inner, deep + 1)
            for key, inner in get_type_hints(one, include_extras=True).items()
            if deep < _DEEP or typing.get_origin(inner) is typing.Required or key in one.__required_keys__
        }
    if one in (dt.datetime, dt.date):
        return "2026-01-02T03:04:05Z"
    if name in ("idempotency_key", "betas1", "betas2"):
        return f"{name} +"  # goes into a header
    return {str: f"{name} é&=/+?", int: 3, float: 0.5, bool: True}.get(one, "x")
