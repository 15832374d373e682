"""The shape of the house, in figures that may not get worse: files, layers, cycles, and what a package says of itself."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

HOST = ROOT / "host"
BENCHMARKS = ROOT / "tests" / "benchmarks"
PACKAGES = sorted(
    place.parent.relative_to(ROOT).as_posix()
    for place in HOST.rglob("__init__.py")
    if place.parent != HOST and "migrations" not in place.parts
)
MOST_FILES = 345
LONGEST_FILE = 500
TOP = {"CHANGELOG.md", "LICENSE", "README.md", "build.sh", "catalyst", "constraints.txt", "host", "pyproject.toml", "tests", "wit"}  # fmt: skip


def sources() -> Iterator[Path]:
    return (file for file in HOST.rglob("*.py") if "_guest" not in file.parts)


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports: at the top, within functions, and for type checkers alone."""
    modules = {module_of(file): file for file in sources()}
    found: dict[str, set[str]] = {}
    for name, file in modules.items():
        found[name] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names} & modules.keys()
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    one = f"{node.module}.{alias.name}"
                    found[name] |= {one if one in modules else str(node.module)} & modules.keys()
        found[name].discard(name)
    return found


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one module (Tarjan, 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in graph[node]:
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            together = [stack.pop()]
            while together[-1] != node:
                together.append(stack.pop())
            if len(together) > 1:
                found.append(sorted(together))

    for node in graph:
        if node not in order:
            visit(node)
    return found


def test_nothing_lies_at_the_top_that_does_not_belong_there() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {name for line in listed.splitlines() if not (name := line.partition("/")[0]).startswith(".")} <= TOP


def test_four_files_at_most_stand_beside_the_packages() -> None:
    assert len(list(HOST.glob("*.py"))) <= 4


def test_the_layers_are_the_packages_and_nothing_by_hand() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    assert contracts.sections() == ["importlinter", "importlinter:contract:layers"]
    rules = contracts["importlinter:contract:layers"]
    assert "ignore_imports" not in rules
    assert "exclude_type_checking_imports" not in contracts["importlinter"]
    layers = rules["layers"].split("\n")[1:]
    assert len(layers) <= 16
    named = {one.strip() for layer in layers for one in layer.split("|")}
    beside = {file.stem for file in HOST.glob("*.py")} - {"__init__", "__main__"}
    assert named == beside | {place.parent.name for place in HOST.glob("*/__init__.py")}


def test_no_modules_import_each_other() -> None:
    assert cycles(imports()) == []


def test_cycles_are_found_where_there_are_some() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_there_are_no_more_files_than_there_were() -> None:
    assert len(list(sources())) <= MOST_FILES


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    long = {module_of(file): len(file.read_text().splitlines()) for file in sources()}
    assert {name: lines for name, lines in long.items() if lines > LONGEST_FILE} == {}


EXECUTORS = re.compile(r"\b(ThreadPoolExecutor|to_thread|run_in_executor|_thread\.start|Thread\(|Timer\()")
STARTS = {"host.core.waiting", "host.fakes.server"}  # the latter is a program of its own, or a test's


def test_threads_are_started_in_one_place_and_work_waits_in_one_kind_of_queue() -> None:
    """A library's queue takes work, fails to start a thread for it, and does it later, after its caller got an error."""
    found = {module_of(file): EXECUTORS.findall(file.read_text()) for file in sources()}
    assert {name: words for name, words in found.items() if words and name not in STARTS} == {}
    assert found["host.core.waiting"], "the words are those that start threads"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_lives_there(package: str) -> None:
    place = ROOT / package
    said = ast.get_docstring(ast.parse((place / "__init__.py").read_text())) or ""
    if (readme := place / "README.md").exists():
        said += readme.read_text()
    assert len(said) >= 100, f"{package}: what lives there, what it may import, how to add the next thing"


def test_the_benchmarks_can_be_started() -> None:
    argv = [sys.executable, "-m", "tests.benchmarks", "of nothing"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert "there is no benchmark of nothing" in done.stderr
    named = set(re.findall(r"tests\.benchmarks\.(\w+)", "".join(map(Path.read_text, BENCHMARKS.glob("*.py")))))
    assert named <= {file.stem for file in BENCHMARKS.iterdir()}
