"""`wit/` and `host/core/wit.py` say the same, and each interface has its module everywhere."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from host.core.limits import Limits
from host.core.wit import CAPABILITIES, EXPORTS, IMPORTS, RUN, Signature
from tests.conftest import ROOT

_INTERFACE = re.compile(r"interface ([\w-]+) \{(.*?)\n\}", re.DOTALL)
_FUNCTION = re.compile(r"([\w-]+): func\((.*?)\)(?: -> ([^;]+))?;")
_WORLD = re.compile(r"world ([\w-]+) \{(.*?)\n\}", re.DOTALL)


def written(file: Path) -> dict[str, dict[str, Signature]]:
    """Interface -> function -> signature, of one WIT file."""
    text = re.sub(r"//.*", "", file.read_text())
    [(package, version)] = re.findall(r"^package ([\w:-]+)@([\d.]+);", text, re.MULTILINE)
    return {
        f"{package}/{name}@{version}": {
            function: Signature(tuple(_types(parameters)), result.strip() or None)
            for function, parameters, result in _FUNCTION.findall(body)
        }
        for name, body in _INTERFACE.findall(text)
    }


def _types(parameters: str) -> list[str]:
    return [one.partition(":")[2].strip() for one in parameters.split(",") if one.strip()]


def worlds() -> dict[str, set[str]]:
    text = re.sub(r"//.*", "", (ROOT / "wit" / "world.wit").read_text())
    bodies = dict(_WORLD.findall(text))
    found = {name: set(re.findall(r"import ([^;]+);", body)) for name, body in bodies.items()}
    for name, body in bodies.items():
        for included in re.findall(r"include ([\w-]+);", body):
            found[name] |= found[included]
    return found


def test_the_imports_are_those_of_the_dependencies() -> None:
    found = {}
    for file in (ROOT / "wit" / "deps").rglob("*.wit"):
        found.update(written(file))
    assert found == {name: _types_alone(members) for name, members in IMPORTS.items()}


def _types_alone(members: dict[str, Signature]) -> dict[str, Signature]:
    """WIT knows no bounds."""
    return {name: signature._replace(rooms=()) for name, signature in members.items()}


def test_every_parameter_has_a_room() -> None:
    signatures = [signature for members in IMPORTS.values() for signature in members.values()]
    assert [one for one in signatures if len(one.rooms) != len(one.params)] == []
    limits = Limits()
    rooms = [room.fixed + getattr(limits, room.limit) * room.tenths // 10 for one in signatures for room in one.rooms]
    assert max(rooms) < 2 * limits.max_request_bytes


def test_the_export_is_the_worlds() -> None:
    assert written(ROOT / "wit" / "world.wit") == EXPORTS
    assert set(EXPORTS) == {RUN}


def test_one_world_has_everything_and_the_other_what_cyfr_has() -> None:
    found = worlds()
    assert found["catalyst"] == set(IMPORTS)
    assert found["cyfr"] == {name for name in IMPORTS if name.startswith("cyfr:")}


def test_a_manifest_can_ask_for_every_interface() -> None:
    assert set(CAPABILITIES.values()) == set(IMPORTS)


@pytest.mark.parametrize("interface", [*IMPORTS, *EXPORTS])
def test_the_guide_to_the_contract_has_every_interface_and_function(interface: str) -> None:
    guide = (ROOT / "wit" / "README.md").read_text()
    [line] = [line for line in guide.splitlines() if line.startswith(f"| `{interface}`")]
    assert [name for name in {**IMPORTS, **EXPORTS}[interface] if f"{name}(" not in line] == []


@pytest.mark.parametrize(("name", "interface"), CAPABILITIES.items())
class TestEveryInterface:
    def test_has_a_capability_of_its_name(self, name: str, interface: str) -> None:
        module = import_module(f"host.capabilities.{name}")
        found = [one for one in vars(module).values() if getattr(one, "interface", None) == interface]
        assert len(found) == 1
        assert found[0].__module__ == module.__name__

    def test_has_a_module_in_the_sdk(self, name: str, interface: str) -> None:
        assert (ROOT / "catalyst" / "sdk" / f"{name}.py").is_file()

    def test_has_its_tests(self, name: str, interface: str) -> None:
        assert (ROOT / "tests" / "capabilities" / f"test_{name}.py").is_file()
