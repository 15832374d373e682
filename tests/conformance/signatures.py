"""The types in the signatures of public names: run in the installation under test, prints those that are not public.

python signatures.py        # nothing, and exit status 0, where every type in a public signature is public
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import sys
import tempfile
import typing
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import host
from host import errors, fakes, server
from host.runtime import workspace_parts

OPAQUE = {
    "Loader",  # made by its caller and handed to a Host, which alone calls it
    "Application",  # an ASGI application: whatever serves it calls it
}
MADE_BY_CALLERS = {"Host", "Secret", "Policy", "Loader"}
"""Classes whose `__init__` is for callers, beside dataclasses and exceptions; the others come from a method."""


def public() -> dict[type, str]:
    """Each public class with the place it is imported from."""
    places = [(host, host.__all__), (errors, dir(errors)), (workspace_parts, dir(workspace_parts))]
    places += [(fakes, fakes.__all__), (server, server.__all__)]
    named = ((getattr(module, name), module.__name__) for module, names in places for name in names)
    return {one: place for one, place in named if isinstance(one, type) and one.__module__.startswith("host")}


@functools.cache
def named_in(module_name: str) -> dict[str, Any]:
    """What annotations in a module may name: its globals, and its imports for type checkers."""
    module = sys.modules[module_name]
    names = dict(vars(module))
    for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = alias.asname or alias.name
                if name not in names:
                    names[name] = getattr(importlib.import_module(node.module), alias.name)
    return names


def classes(hint: object) -> Iterator[type]:
    """The classes in a type, of this package."""
    for part in (hint, typing.get_origin(hint)):
        if isinstance(part, type) and part.__module__.startswith("host"):
            yield part
    for argument in typing.get_args(hint):
        for one in argument if isinstance(argument, list | tuple) else (argument,):
            yield from classes(one)


def hints(of: Any, module: str) -> Iterator[type]:
    for name, hint in typing.get_type_hints(of, globalns=named_in(module)).items():
        if not name.startswith("_"):
            yield from classes(hint)


def function_of(member: object) -> FunctionType | None:
    found = inspect.unwrap(member) if callable(member) else member
    for name in ("fget", "__func__", "func"):
        found = getattr(found, name, found)
    return found if isinstance(found, FunctionType) and found.__module__.startswith("host") else None


def signature(kind: type) -> Iterator[type]:
    """The classes in what callers may use of `kind`: fields, methods, properties and base classes."""
    made_by_callers = kind.__name__ in MADE_BY_CALLERS or issubclass(kind, BaseException)
    for base in kind.__mro__:
        if not base.__module__.startswith("host"):
            continue
        if not base.__name__.startswith("_"):
            yield base
        yield from hints(base, base.__module__)
        for name, member in vars(base).items():
            if name == "__init__" and (dataclasses.is_dataclass(base) or not made_by_callers):
                continue
            if name.startswith("_") and name not in ("__init__", "__iter__", "__next__", "__anext__", "__enter__"):
                continue
            if (function := function_of(member)) is not None:
                yield from hints(function, function.__module__)


def attributes(workspace: host.Workspace) -> dict[str, type]:
    """The parts of a Workspace, which it sets without annotations."""
    return {name: type(part) for name, part in vars(workspace).items() if not name.startswith("_")}


def main() -> None:
    known = public()
    missing: dict[type, str] = {}
    with tempfile.TemporaryDirectory() as folder, host.Workspace.open(folder) as workspace:
        parts = attributes(workspace)
    for name, kind in parts.items():
        if kind.__module__.startswith("host") and kind not in known:
            missing[kind] = f"Workspace.{name}"
    for kind in known:
        if kind.__name__ not in OPAQUE:
            for one in signature(kind):
                if one not in known:
                    missing.setdefault(one, f"the signature of {kind.__name__}")
    for one in hints(server.create_app, server.create_app.__module__):
        if one not in known:
            missing.setdefault(one, "the signature of create_app")
    for one, where in missing.items():
        print(f"{one.__module__}.{one.__qualname__} is in {where} and not public")
    sys.exit(bool(missing))


if __name__ == "__main__":
    main()
