"""What is imported for what: a start-up is mostly imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from host import Workspace
from host.fakes import FakeOpenAI
from tests.conftest import KEY
from tests.server.conftest import OPENAI, installed_state, send_to, state_dir, workspace  # noqa: F401 - fixtures

HEAVY = {
    "cryptography",
    "keyring",
    "semver",
    "asyncio",
    "httpcore2",
    "httpx2",
    "jsonschema_rs",
    "openai",
    "pydantic",
    "typing_extensions",
    "wasmtime",
}


def modules_after(code: str, **env: str) -> set[str]:
    script = f"import sys\n{code}\nprint('\\n' + '\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=300,  # a busy machine compiles the component meanwhile
        check=True,
        env={**os.environ, **env},
    )
    return set(done.stderr.split())


def heavy(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules} & HEAVY


def test_the_package_alone_imports_nothing_of_itself() -> None:
    modules = modules_after("import host")
    assert {module for module in modules if module.startswith("host")} == {"host"}
    assert heavy(modules) == set()


@pytest.mark.parametrize(
    ("statement", "needs"),
    [
        pytest.param("from host import errors", set(), id="the errors need nothing"),
        pytest.param("from host import Host, Policy, Secret", {"wasmtime"}, id="a host needs no database"),
    ],
)
def test_a_public_name_drags_in_what_it_needs(statement: str, needs: set[str]) -> None:
    assert heavy(modules_after(statement)) == needs


@pytest.mark.parametrize(
    ("module", "needs"),
    [
        pytest.param("host.errors", set(), id="the errors need nothing"),
        pytest.param("host.fakes", {"asyncio"}, id="the fakes need an event loop and nothing of the host"),
        pytest.param("host.policy.document", set(), id="a policy in Python needs no pydantic"),
        pytest.param("host.component.manifest", set(), id="nor does a manifest"),
        pytest.param("host.cli", set(), id="the program's help needs no command"),
        pytest.param("host.component.build", set(), id="building needs no sandbox"),
        pytest.param("host.runtime.host", {"wasmtime"}, id="the host needs the sandbox and no event loop"),
    ],
)
def test_a_module_drags_in_what_it_needs(module: str, needs: set[str]) -> None:
    assert heavy(modules_after(f"import {module}")) == needs


def test_a_whole_run_imports_neither_pydantic_nor_httpx_nor_an_event_loop(openai_file: Path, fake: FakeOpenAI) -> None:
    arguments = [
        "host", "run", str(openai_file), "--input", json.dumps({"operation": "models.list"}),
        "--upstream", f"https://api.openai.com={fake.url}", "--allow-domain", "api.openai.com",
        "--secret", "OPENAI_API_KEY=env:KEY",
    ]  # fmt: skip
    run = "from host.cli import main\ntry:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code"
    modules = modules_after(f"sys.argv = {arguments!r}\n{run}", KEY=KEY)
    assert len(fake.requests) == 1
    assert heavy(modules) == {"wasmtime"}


def test_a_whole_run_of_what_is_installed_has_no_event_loop_either(
    fake: FakeOpenAI,
    workspace: Workspace,  # noqa: F811 - the fixture
    state_dir: Path,  # noqa: F811 - the fixture
) -> None:
    send_to(workspace, OPENAI, fake.url)
    arguments = ["host", "run", str(OPENAI), "--input", json.dumps({"operation": "models.list"})]
    run = "from host.cli import main\ntry:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code"
    modules = modules_after(f"sys.argv = {arguments!r}\n{run}", HOST_STATE_DIR=str(state_dir))
    assert len(fake.requests) == 1
    assert heavy(modules) == {"wasmtime", "cryptography", "semver"}
