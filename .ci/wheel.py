"""What the wheel has beside its packages: the OpenAI component; a guest's world, for the tools of its author; an SBOM
in `.dist-info/sboms` (PEP 770)."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import version as installed
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
            component = _component(root)
            build_data["force_include"][str(component)] = "host/_guest/dist/openai.wasm"
            (file := Path(self._place.name) / "catalyst-host.cdx.json").write_bytes(_sbom(root, component))
            build_data["sbom_files"].append(str(file))

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


def _sbom(root: Path, component: Path) -> bytes:
    """The document of the wheel: what it declares, in the versions that were tested together, and the component in it
    with its own parts."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    from host.component.sbom import document_of, embedded, part

    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    wheel = part("application", name, version, f"pkg:generic/{name}", project["license"])
    pinned = re.findall(r"^([\w.-]+)==([\w.+-]+)", (root / "constraints.txt").read_text(), re.MULTILINE)
    versions = {_normal(one): known for one, known in pinned}
    required = {_normal(line) for line in project["dependencies"]}
    extras = project["optional-dependencies"]
    optional = {_normal(line) for extra, lines in extras.items() if extra != "test" for line in lines} - required
    declared = [
        {**part("library", one, versions[one], f"pkg:pypi/{one}"), "scope": scope}
        for scope, names in (("required", required), ("optional", optional))
        for one in sorted(names)
    ]
    wasm = component.read_bytes()
    inside = embedded(wasm)
    assert inside is not None
    parts = [{**one, "bom-ref": f"{component.name}:{one['bom-ref']}"} for one in inside["components"]]
    digest = {"alg": "SHA-256", "content": hashlib.sha256(wasm).hexdigest()}
    catalyst = {**inside["metadata"]["component"], "hashes": [digest], "components": parts}
    tools = [part("application", "hatchling", installed("hatchling"), "pkg:pypi/hatchling")]
    return document_of(wheel, [*declared, catalyst], tools)


def _normal(requirement: str) -> str:
    """The name in a requirement, as indexes write it."""
    found = re.match(r"[\w.-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found[0]).lower()


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
