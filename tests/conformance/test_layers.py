"""Who may import what, and who may touch what: the rules that a reader could break without noticing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

HOST = ROOT / "host"
SOURCES = sorted(HOST.rglob("*.py"))


def test_a_file_imports_only_from_below() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@cache
def nodes(file: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(file.read_text())))


def imported(file: Path) -> Iterator[str]:
    for node in nodes(file):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def used(file: Path) -> Iterator[str]:
    """Dotted names such as `os.environ`, and what is imported from a module as `sys.exit`."""
    for node in nodes(file):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def within(file: Path, places: tuple[str, ...]) -> bool:
    shown = file.relative_to(HOST).as_posix()
    return any(shown == place or shown.startswith(f"{place}/") for place in places)


@pytest.mark.parametrize(
    ("modules", "places"),
    [
        pytest.param({"wasmtime"}, ("sandbox",), id="wasmtime is known to the sandbox alone"),
        pytest.param({"ssl"}, ("egress", "server/serving.py"), id="TLS is spoken by the egress, and where the server listens"),
        pytest.param({"socket"}, ("egress", "fakes", "server/serving.py"), id="sockets are opened by the egress, and listened on by servers"),
        pytest.param({"click"}, ("cli",), id="the command line is known to the command line alone"),
        pytest.param({"asyncio"}, ("runtime", "service", "fakes", "server"), id="the core is synchronous"),
        pytest.param({"requests", "urllib3", "http.client", "urllib.request"}, (), id="there is one road out"),
        pytest.param({"pickle", "marshal", "shelve"}, (), id="nothing is unpickled"),
    ],
)  # fmt: skip
def test_a_module_has_its_place(modules: set[str], places: tuple[str, ...]) -> None:
    offenders = {
        f"{file.relative_to(ROOT)} imports {name}"
        for file in SOURCES
        for name in imported(file)
        if any(name == module or name.startswith(f"{module}.") for module in modules) and not within(file, places)
    }
    assert offenders == set()


@pytest.mark.parametrize(
    ("names", "places"),
    [
        pytest.param({"sys.exit", "os._exit"}, ("cli", "sandbox/compiler.py", "server/serving.py"), id="only programs end the program"),
        pytest.param({"os.environ", "os.getenv", "os.environb"}, ("core/environment.py",), id="the environment is read in one place"),
        pytest.param({"print"}, (), id="nothing prints"),
        pytest.param({"eval", "exec", "os.system", "os.popen"}, (), id="nothing runs text as code"),
        pytest.param({"signal.signal"}, ("sandbox/compiler.py", "server/serving.py"), id="signals are left to whoever embeds the host"),
    ],
)  # fmt: skip
def test_an_effect_has_its_place(names: set[str], places: tuple[str, ...]) -> None:
    offenders = {
        f"{file.relative_to(ROOT)} uses {name}"
        for file in SOURCES
        for name in used(file)
        if name in names and not within(file, places)
    }
    assert offenders == set()


def test_no_error_is_told_by_its_words() -> None:
    told = re.compile(r"\bin (?:str|repr)\((?:error|exc|exception|e)\)|\.args\[0\]")
    assert [str(file.relative_to(ROOT)) for file in SOURCES if told.search(file.read_text())] == []


def test_every_lint_that_is_silenced_has_its_reason_on_the_line() -> None:
    bare = re.compile(r"# noqa(?:: ?[A-Z0-9, ]+)?\s*$")
    found = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in SOURCES
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if bare.search(line)
    ]
    assert found == []
