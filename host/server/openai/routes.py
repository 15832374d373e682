"""Which operation a method and a path stand for: OpenAI's routes, as the catalysts that are served declare them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from host.component.operations import OperationSpec
from host.core.names import Reference
from host.errors import NotFound

_NAMED = re.compile(r"\{\w+\}")


@dataclass(frozen=True, slots=True)
class Route:
    """`template` is a path such as `/models/{model}`; `specs` has each catalyst that declares it, by its reference with
    a version, with what the operation is there: the names of what stands in the path may differ."""

    method: str
    template: str
    specs: dict[Reference, OperationSpec]

    def spec(self, reference: Reference) -> OperationSpec:
        """Raises NotFound."""
        found = self.specs.get(reference)
        if found is None:
            others = ", ".join(map(str, self.specs))
            raise NotFound(f"{reference} has no {self}", hint=f"those that have it: {others}")
        return found

    def __str__(self) -> str:
        return f"{self.method} {self.template}"


@dataclass(frozen=True, slots=True)
class Matched:
    """`values` are what stands in the path, decoded, in the template's order."""

    route: Route
    values: tuple[str, ...] = ()

    def in_path(self, spec: OperationSpec) -> dict[str, str]:
        return dict(zip(spec.in_path, self.values, strict=True))


class Routes:
    """Made of each catalyst's operations; catalysts by their references with a version. A path without names in it goes
    before one with (`/files/search` before `/files/{file_id}`)."""

    def __init__(self, declared: Iterable[tuple[Reference, Iterable[OperationSpec]]]) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        self._named: dict[int, list[tuple[list[str], dict[str, Route]]]] = {}  # by the number of steps
        shapes: dict[str, dict[str, Route]] = {}
        for reference, specs in declared:
            for spec in (one for one in specs if one.path):
                shape = _NAMED.sub("{}", spec.path)
                methods = shapes.setdefault(shape, {})
                methods.setdefault(spec.method, Route(spec.method, spec.path, {})).specs[reference] = spec
        for shape, methods in shapes.items():
            if "{}" in shape:
                steps = shape.split("/")
                self._named.setdefault(len(steps), []).append((steps, methods))
            else:
                self._exact[shape] = methods
        for found in self._named.values():
            found.sort(key=lambda one: one[0].count("{}"))

    def find(self, method: str, path: str) -> Matched | Sequence[str]:
        """The route, for a `path` as it is on the wire; else the methods that there are for it, none where nothing has
        that path. HEAD is answered as GET."""
        method = "GET" if method == "HEAD" else method
        if (methods := self._exact.get(path)) is not None and method in methods:
            return Matched(methods[method])
        allowed = set(methods or ())
        steps = path.split("/")
        for template, others in self._named.get(len(steps), ()):
            pairs = list(zip(template, steps, strict=True))
            if not all(step if name == "{}" else name == step for name, step in pairs):
                continue
            if method in others:
                return Matched(others[method], tuple(unquote(step) for name, step in pairs if name == "{}"))
            allowed |= others.keys()
        return sorted(allowed)

    def __iter__(self) -> Iterator[Route]:
        for methods in (*self._exact.values(), *(one[1] for found in self._named.values() for one in found)):
            yield from methods.values()
