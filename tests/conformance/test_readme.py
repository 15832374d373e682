"""What the README says to type is typed, in order, in a copy of what it builds on, against a fake on a free port.

Left out are the lines that install (`pip`, `./build.sh`; test_dependencies.py and test_public_surface.py do), and those that start the fake, the registry and the
server, which run on free ports. A block runs until its first
failure; "(exit status N)" in the paragraph before it is what its last command ends in.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from host.cli.commands import docs
from host.fakes import FakeOpenAI
from tests.benchmarks import summary
from tests.benchmarks.__main__ import TABLES
from tests.conftest import CACHE, KEY, MASTER_KEY, OPENAI, ROOT, fresh_state
from tests.e2e.conftest import warm  # noqa: F401 - a fixture
from tests.oci.conftest import running_registry

_BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SET_UP = re.compile(r"^(\./build\.sh\b|pipx? install\b|host fake\b|host serve\b|docker run\b).*\n", re.MULTILINE)
_STATUS = re.compile(r"\(exit status (\d+)\)")
_BIN = Path(sys.executable).parent
_PORT = "4747"
_REGISTRY = "localhost:5000"
_SERVED = "127.0.0.1:4000"


@dataclass(frozen=True)
class Block:
    language: str
    source: str
    status: int
    line: int


def blocks(text: str) -> Iterator[Block]:
    for found in _BLOCK.finditer(text):
        source = _SET_UP.sub("", found[2])
        before = text[: found.start()].rstrip().rpartition("\n\n")[2]
        told = _STATUS.search(before)
        if source.strip():
            yield Block(found[1], source, int(told[1]) if told else 0, text[: found.start()].count("\n") + 1)


README = tuple(blocks((ROOT / "README.md").read_text()))


@pytest.fixture(scope="module")
def place(openai_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is typed: every block finds what the ones before it left."""
    folder = tmp_path_factory.mktemp("readme")
    if not OPENAI.is_current():
        OPENAI.keep(openai_file.read_bytes())  # which `openai` names
    return folder


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_state(tmp_path_factory.mktemp("kept") / "state")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="module")
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as one:
        yield one


def environment(place: Path, state: Path, *programs: Path) -> dict[str, str]:
    return {
        "PATH": os.pathsep.join([*map(str, programs), str(_BIN), os.environ["PATH"]]),
        "HOME": str(place),
        "LANG": "C.UTF-8",
        "OPENAI_API_KEY": KEY,
        "HOST_CACHE_DIR": str(CACHE / "host"),
        "HOST_STATE_DIR": str(state),
        "HOST_MASTER_KEY": MASTER_KEY,
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
    }


@pytest.fixture(scope="module")
def served(place: Path, state: Path) -> Iterator[Callable[[], str]]:
    """Where `host serve` listens, once it is asked for: over what the lines before have kept."""
    running: list[tuple[subprocess.Popen[str], str]] = []

    def address() -> str:
        if not running:
            process = subprocess.Popen(
                [str(_BIN / "host"), "serve", "--port", "0"],
                cwd=place, env=environment(place, state), stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert process.stderr is not None
            found = re.search(r"serving on http://(\S+)", process.stderr.readline())
            assert found
            running.append((process, found[1]))
        return running[0][1]

    yield address
    for process, _ in running:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def typed(
    place: Path,
    state: Path,
    server: FakeOpenAI,
    registry: str,
    served: Callable[[], str],
    warm: Path,  # noqa: F811 - a fixture
) -> Callable[[Block], subprocess.CompletedProcess[str]]:
    """Types a block, after those before it: a test process that begins in the middle types them as well."""
    done: list[subprocess.CompletedProcess[str]] = []

    def one(block: Block) -> subprocess.CompletedProcess[str]:
        source = block.source.replace(_PORT, server.url.rpartition(":")[2]).replace(_REGISTRY, registry)
        if _SERVED in source:
            source = source.replace(_SERVED, served())
        python = block.language == "python"
        argv = [sys.executable, "-c", source] if python else ["bash", "-euo", "pipefail", "-c", source]
        return subprocess.run(
            argv, cwd=place, env=environment(place, state, warm), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=500, check=False,
        )  # fmt: skip

    def up_to(block: Block) -> subprocess.CompletedProcess[str]:
        number = README.index(block)
        done.extend(one(earlier) for earlier in README[len(done) : number + 1])
        return done[number]

    return up_to


@pytest.mark.parametrize("block", README, ids=lambda block: f"{block.language} at line {block.line}")
def test_what_the_readme_says_works(block: Block, typed: Callable[[Block], subprocess.CompletedProcess[str]]) -> None:
    done = typed(block)
    assert done.returncode == block.status, f"{block.source}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert KEY not in done.stdout + done.stderr
    assert '"error"' not in done.stdout or block.status
    assert "Traceback" not in done.stderr


def test_there_is_something_to_type_in_both_languages() -> None:
    assert {block.language for block in README} == {"bash", "python"}
    assert {block.status for block in README} >= {0, 3}


# What it says, beside its commands -----------------------------------------------------------------------------------

TEXT = (ROOT / "README.md").read_text()
DOCUMENTS = [file for file in ROOT.rglob("*.md") if not {".venv", ".cache", "node_modules"} & set(file.parts)]


def test_its_links_work_from_a_package_index() -> None:
    """Which shows the file alone."""
    assert re.findall(r"\]\((?!https://|#)[^)]*\)", TEXT) == []


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_a_document_links_to_is_there(file: Path) -> None:
    for link in re.findall(r"\]\((?!https?://|#)([^)#]*)", file.read_text()):
        assert (file.parent / link).exists(), link


def test_files_that_are_cited_are_there() -> None:
    """By their names in documents, docstrings and comments."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    names = {Path(name).name for name in listed} | {"BUNDLE_SPEC.md"}  # cosign's
    for name in (name for name in listed if name.endswith((".md", ".py", ".toml", ".sh", ".wit"))):
        cited = set(re.findall(r"\b[A-Z][A-Z_]+\.md\b", (ROOT / name).read_text()))
        assert cited <= names, f"{name} cites {cited - names}"


def test_what_it_installs_are_extras_that_there_are() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = re.findall(r"^pipx? install '\./catalyst-host\[([a-z,]+)\]'", TEXT, re.MULTILINE)
    assert len(installed) == 2
    assert {one for names in installed for one in names.split(",")} <= set(extras)


def test_every_document_that_it_names_is_shipped() -> None:
    named = set(re.findall(r"`host docs ([a-zA-Z.-]+)", TEXT)) - {"NAME"}
    assert named <= set(docs.DOCUMENTS)
    assert named


def test_the_table_of_speed_is_as_the_benchmark_writes_it() -> None:
    table = TEXT[TEXT.index(summary.BEGIN) + len(summary.BEGIN) : TEXT.index(summary.END)]
    first, _, head, _, *rows = table.splitlines()
    assert re.fullmatch(
        r"Medians, measured in turns on \d+ cores \(.+\), Linux .+, Python .+, wasmtime .+, a load of [\d.]+ before\.( .+\.)?",
        first,
    )
    assert head == f"| {' | '.join(summary.COLUMNS)} |"
    assert len(rows) == 6
    assert all(re.fullmatch(r"\| .+ \| [\d.]+ m?s \| .+ \| [\d.]+ m?s \| [\d.]+ \|", row) for row in rows)
    assert "python -m tests.benchmarks summary" in TEXT
    assert "summary" in TABLES
