"""Machines that have the program, and a registry between them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import CACHE, MASTER_KEY, fresh_state
from tests.oci.conftest import registry  # noqa: F401 - a fixture
from tests.warm import running_warm

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str


class Machine:
    """A user's account: a home, a state directory, and nothing kept yet."""

    def __init__(self, home: Path, warm: Path) -> None:
        self.home = home
        home.mkdir()
        self.state = fresh_state(home / "state")
        self.environment: dict[str, str] = {
            "PATH": os.pathsep.join([str(warm), str(BIN), os.environ["PATH"]]),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "HOST_CACHE_DIR": str(CACHE / "host"),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
            "HOST_STATE_DIR": str(self.state),
            "HOST_MASTER_KEY": MASTER_KEY,
        }

    def types(self, line: str, *, stdin: str = "", env: Mapping[str, str] | None = None) -> Ran:
        """What comes of a line in a shell."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=self.home,
            env={**self.environment, **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for PATH, with a `host` that needs no start-up."""
    with running_warm(tmp_path_factory.mktemp("warm")) as folder:
        yield folder


@pytest.fixture
def machine(tmp_path: Path, warm: Path) -> Callable[[str], Machine]:
    """`machine("alice")` is another one at each call."""
    return lambda name: Machine(tmp_path / name, warm)
