"""A name means one thing: no two public classes or type aliases under `host/` share one."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

_ALIASES = ("Literal", "Annotated", "Callable", "Mapping", "Union")


def named(tree: ast.Module) -> Iterator[str]:
    """The public classes and type aliases at the top of a module."""
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation) if "TypeAlias" in ast.unparse(
                annotation
            ):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript(value=ast.Name(id=of))) if of in _ALIASES:
                yield name


def places() -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for file in sorted((ROOT / "host").rglob("*.py")):
        for name in named(ast.parse(file.read_text())):
            if not name.startswith("_"):
                found[name].append(str(Path(file).relative_to(ROOT)))
    return found


def test_no_two_classes_share_a_name() -> None:
    assert {name: files for name, files in places().items() if len(files) > 1} == {}
