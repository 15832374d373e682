"""Machines that have the program, and a registry between them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import CACHE, fresh_state
from tests.oci.conftest import registry  # noqa: F401 - a fixture

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str


class Machine:
    """A user's account: a home, a state directory, and nothing kept yet."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        self.state = fresh_state(home / "state")
        self.environment: dict[str, str] = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "HOST_CACHE_DIR": str(CACHE / "host"),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
            "HOST_STATE_DIR": str(self.state),
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


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], Machine]:
    """`machine("alice")` is another one at each call."""
    return lambda name: Machine(tmp_path / name)
