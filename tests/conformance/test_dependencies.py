"""What is imported is declared, what is declared is needed, and the lowest versions that are declared will do."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from host.fakes import FakeOpenAI
from tests.conftest import CACHE, KEY, MASTER_KEY, ROOT, fresh_state

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: lines for name, lines in PROJECT["optional-dependencies"].items() if name != "test"}
HOST = ROOT / "host"
KNOWN = packages_distributions()  # which reads all that is installed
STARTED = {"httptools", "uvloop", "componentize-py", "meld-cli"}  # by uvicorn, and as a program: nothing imports them


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def named(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found
    return normal(found[0])


BASE = {named(line) for line in PROJECT["dependencies"]}
OPTIONAL = {named(line): extra for extra, lines in EXTRAS.items() for line in lines}


def imported(file: Path, *, at_the_top: bool = False) -> Iterator[str]:
    tree = ast.parse(file.read_text())
    for node in tree.body if at_the_top else ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name.partition(".")[0] for alias in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield ".".join(module.split(".")[:1])


def distributions(file: Path, *, at_the_top: bool = False) -> set[str]:
    """Those that a module imports. OpenTelemetry's share one package: they are told apart by the declared ones."""
    theirs = set(imported(file, at_the_top=at_the_top)) - sys.stdlib_module_names - {"host"}
    found = {name: {normal(one) for one in KNOWN[name]} for name in theirs}
    return {one for these in found.values() for one in (these & (BASE | OPTIONAL.keys()) or these)}


SOURCES = [file for file in HOST.rglob("*.py") if "_guest" not in file.parts]


def test_whatever_is_imported_is_declared() -> None:
    declared = BASE | OPTIONAL.keys()
    assert {file: more for file in SOURCES if (more := distributions(file) - declared)} == {}


def test_what_tests_import_is_declared() -> None:
    tests = [file for file in (ROOT / "tests").rglob("*.py") if "guests" not in file.parts]
    declared = BASE | OPTIONAL.keys() | {named(line) for line in PROJECT["optional-dependencies"]["test"]}
    ours = {"host", "tests", "catalyst", "wit_world", "app", "operations", "nowhere_to_be_found"}
    found = {name for file in tests for name in imported(file)} - sys.stdlib_module_names - ours
    assert {name for name in found if not declared & {normal(one) for one in KNOWN.get(name, [])}} == set()


def test_whatever_is_declared_is_imported() -> None:
    used = {one for file in SOURCES for one in distributions(file)}
    assert (BASE | OPTIONAL.keys()) - used - STARTED == set()


def test_what_belongs_to_an_extra_is_imported_where_it_is_asked_for() -> None:
    """At the top of a module only within `host/server`, which is the extra `serve` as a whole, and in the modules that
    `host.openai` imports where the official SDK is installed."""
    top = {file: distributions(file, at_the_top=True) & OPTIONAL.keys() for file in SOURCES}
    rooms = HOST / "server", HOST / "openai"
    assert {file: names for file, names in top.items() if names and not any(map(file.is_relative_to, rooms))} == {}
    within = {(file.relative_to(HOST).parts[0], OPTIONAL[one]) for file, names in top.items() for one in names}
    assert within == {("server", "serve"), ("openai", "openai")}


def test_every_requirement_has_a_lowest_version() -> None:
    for line in [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]:
        assert re.search(r"(>=|==)\d", line), line


PINNED = re.compile(r"^([\w.-]+)==([^\s;]+)[^\n]*((?:\n +--hash=sha256:[0-9a-f]{64}(?: \\)?)*)", re.MULTILINE)


def test_every_version_is_pinned_with_the_hashes_of_its_files() -> None:
    text = (ROOT / "constraints.txt").read_text()
    found = {normal(name): hashes.count("--hash=") for name, _, hashes in PINNED.findall(text)}
    assert {name for name, count in found.items() if not count} == set()
    declared = {named(line) for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]}
    assert (declared | OPTIONAL.keys()) - {"catalyst-host"} - found.keys() == set()


def test_what_is_installed_without_the_tests_is_the_first_part() -> None:
    first, mark, rest = (ROOT / "constraints.txt").read_text().partition("# Only for tests:")
    assert mark
    theirs = {normal(name) for name, _, _ in PINNED.findall(first)}
    assert (BASE | OPTIONAL.keys()) - theirs == set()
    assert {"hatchling", "editables"} <= theirs
    assert "pytest" in {normal(name) for name, _, _ in PINNED.findall(rest)}


# The lowest versions -------------------------------------------------------------------------------------------------


def floors() -> list[str]:
    lines = [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]
    return [re.sub(r"(>=|==)([\w.]+).*", r"==\2", re.sub(r"\[.*\]", "", line)) for line in lines]


def newest_python() -> str:
    """The newest Python that is declared, where it is here: old releases fail on it first. Else this one."""
    declared = [line.rpartition(".")[2] for line in PROJECT["classifiers"] if ":: 3." in line]
    name = f"python3.{max(map(int, declared))}"
    for found in (shutil.which(name), *(Path.home() / ".pyenv" / "versions").glob(f"3.*/bin/{name}")):
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return str(found)
    return sys.executable


@pytest.fixture(scope="module")
def lowest() -> Path:
    """The programs of an environment with the lowest version of every dependency, kept until pyproject.toml changes."""
    python, place = newest_python(), CACHE / "lowest"
    state = f"{ROOT}\0{python}\0{(ROOT / 'pyproject.toml').read_text()}"
    made = place / hashlib.sha256(state.encode()).hexdigest()[:20]
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "complete").exists():
            for old in place.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            _install(python, made)
            (made / "complete").touch()
    return made / "bin"


def _install(python: str, into: Path) -> None:
    subprocess.run([python, "-m", "venv", into], check=True, timeout=300)
    constraints = into / "floors.txt"
    constraints.write_text("\n".join(floors()))
    extras = ",".join(EXTRAS)
    pip = [into / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    done = subprocess.run(
        [*pip, "--constraint", constraints, "--editable", f"{ROOT}[{extras}]"],
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


EVERY_MODULE = """
import importlib, pkgutil, host
for found in pkgutil.walk_packages(host.__path__, "host."):
    if not found.name.startswith(("host._guest", "host.__main__")):
        importlib.import_module(found.name)
"""
USED = f"""
host register openai.wasm
echo {KEY} | host secret set OPENAI_API_KEY
host secret grant c:local.openai OPENAI_API_KEY
host policy set c:local.openai allowed_domains '["api.openai.com"]'
host policy set c:local.openai upstreams "{{\\"https://api.openai.com\\": \\"$FAKE\\"}}"
host signing-key generate acme > acme.pem
host sign openai.wasm
host trust add acme.pem --namespace local
host verify openai.wasm
host run c:local.openai --input '{{"operation": "models.list"}}'
host key create --name ci --type secret
host audit verify
"""
INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}},
}  # fmt: skip


@pytest.mark.slow
def test_the_lowest_versions_will_do(lowest: Path, openai_file: Path, fake: FakeOpenAI, tmp_path: Path) -> None:
    shutil.copy(openai_file, tmp_path / "openai.wasm")
    env = {
        "PATH": f"{lowest}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "HOST_CACHE_DIR": str(CACHE / "host"),
        "HOST_STATE_DIR": str(fresh_state(tmp_path / "state")),
        "HOST_MASTER_KEY": MASTER_KEY,
        "FAKE": fake.url,
    }

    def typed(*argv: str, given: str = "") -> str:
        done = subprocess.run(
            argv, cwd=tmp_path, env=env, input=given, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    typed("python", "-c", EVERY_MODULE)
    typed("bash", "-euo", "pipefail", "-c", USED)
    assert [request["path"] for request in fake.requests] == ["/v1/models"]
    answered = json.loads(typed("host", "mcp", given=json.dumps(INITIALIZE) + "\n"))
    assert answered["result"]["serverInfo"]
    serving = "import host.server.app as a; a.create_app(); import uvicorn, uvloop, httptools"
    typed("python", "-c", serving)
