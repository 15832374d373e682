"""What the wheel has beside its packages: the OpenAI component, and a guest's world, for the tools of its author."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Hook(BuildHookInterface[Any]):
    """Named in pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        self._place = tempfile.TemporaryDirectory()
        bindings = {str(file): name for file, name in _bindings(root, Path(self._place.name))}
        if version == "editable":  # the checkout has the component, once build.sh has made it
            build_data["force_include_editable"].update(bindings)
        else:
            build_data["force_include"].update(bindings)
            build_data["force_include"][str(_component(root))] = "host/_guest/dist/openai.wasm"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self._place.cleanup()


def _component(root: Path) -> Path:
    """The OpenAI catalyst, built if it has to be."""
    spec = importlib.util.spec_from_file_location("openai_component", root / ".ci" / "openai.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    file: Path = module.built()
    return file


def _bindings(root: Path, place: Path) -> list[tuple[Path, str]]:
    """What `catalyst.sdk` imports, made by componentize-py of wit/: each file with its place in the wheel. In a sandbox
    a component has its own; outside, it is for editors, type checkers and an author's tests, and its functions raise
    NotImplementedError."""
    program = "from componentize_py import script; script()"
    argv = [sys.executable, "-c", program, "--quiet", "-d", str(root / "wit"), "-w", "catalyst", "bindings", str(place)]
    subprocess.run(argv, check=True)
    for package in ("wit_world", "componentize_py_types"):
        (place / package).mkdir(exist_ok=True)
        (place / package / "py.typed").touch()
    (place / "componentize_py_types.py").rename(place / "componentize_py_types" / "__init__.py")
    packages = (place / "wit_world", place / "componentize_py_types")
    files = (file for package in packages for file in sorted(package.rglob("*")) if file.is_file())
    return [(file, file.relative_to(place).as_posix()) for file in files]
