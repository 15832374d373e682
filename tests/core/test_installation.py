import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from host.core import installation
from tests.conftest import ROOT

BIN = Path(sys.executable).parent


@pytest.fixture
def nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this distribution is installed."""

    own = importlib.metadata.distribution(installation.DISTRIBUTION)

    def distribution(name: str) -> importlib.metadata.Distribution:
        if name != installation.DISTRIBUTION:
            raise importlib.metadata.PackageNotFoundError(name)
        return own

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)


@pytest.mark.usefixtures("nothing_else")
def test_a_missing_library_is_installed_by_its_own_name() -> None:
    assert installation.remedy("build") == (
        "install the extra 'build' from where this program came, or: pip install 'componentize-py==0.25.1' 'meld-cli==0.65.1'"
    )
    assert "'uvicorn<1,>=0.54'" in installation.remedy("serve")


def test_what_is_there_is_not_named() -> None:
    assert installation.remedy("build") == "install the extra 'build' from where this program came"


@pytest.mark.usefixtures("nothing_else")
def test_what_was_not_installed_says_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert installation.remedy("build") == "install the extra 'build' from where this program came"


def test_no_hint_names_a_package_that_somebody_else_may_publish() -> None:
    """`pip install catalyst-host[…]` would install what an index has under that name."""
    found = {
        file: line
        for file in (ROOT / "host").rglob("*.py")
        for line in file.read_text().splitlines()
        if re.search(r"(?:pip|pipx|uv|uvx)\b.* ['\"]?catalyst-host\b", line)
    }
    assert found == {}


def typed(*argv: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {"HOME": str(cwd), "PATH": "/usr/bin:/bin", "HOST_STATE_DIR": str(cwd / "state")}
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        pytest.param([BIN / "host"], "host", id="the usual name"),
        pytest.param([BIN / "catalyst-host"], "catalyst-host", id="the other name"),
        pytest.param([sys.executable, "-m", "host"], "python -m host", id="as a module"),
    ],
)
def test_hints_and_help_begin_with_what_was_typed(argv: list[str | Path], name: str, tmp_path: Path) -> None:
    said = typed(*argv, "list", cwd=tmp_path).stderr
    assert said == f"nothing is installed: {name} register, or {name} pull\n"
    helped = typed(*argv, "register", "--help", cwd=tmp_path).stdout
    assert f"Usage: {name} register" in helped
    assert f"\n  {name} run c:local.openai" in helped
    refused = json.loads(typed(*argv, "run", "nothing", "--json", "--input", "{}", cwd=tmp_path).stdout)
    assert refused["error"]["hint"].endswith(f"see {name} list")


def test_a_desktop_client_gets_a_command_that_it_can_start_from_anywhere(tmp_path: Path) -> None:
    helped = typed(BIN / "catalyst-host", "mcp", "--help", cwd=tmp_path).stdout
    found = re.search(r"^  (\{\n.*?^  \})", helped, re.MULTILINE | re.DOTALL)
    assert found
    server = json.loads(found[1])["mcpServers"]["catalysts"]
    command = Path(server["command"])
    assert command.is_absolute()
    done = typed(command, *server["args"], cwd=Path("/"))
    assert (done.returncode, done.stdout) == (0, "")
