"""The official Node SDK against the gateway, by its `baseURL` alone: `node/exercise.mjs`."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CACHE
from tests.server.conftest import Server

SOURCES = Path(__file__).parent / "node"
NAMES = re.findall(r"^  async (\w+)\(\)", (SOURCES / "exercise.mjs").read_text(), re.MULTILINE)

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def installed() -> Path:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs Node.js and npm")
    place = CACHE / "openai-node"
    place.mkdir(parents=True, exist_ok=True)
    lock, stamp = (SOURCES / "package-lock.json").read_text(), place / "installed"
    with (CACHE / "openai-node.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        shutil.copytree(SOURCES, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
        if not stamp.exists() or stamp.read_text() != lock:
            install = ["npm", "ci", "--no-audit", "--no-fund"]
            subprocess.run(install, cwd=place, check=True, capture_output=True, timeout=600)
            stamp.write_text(lock)
    return place


def test_the_node_sdk_works_by_its_base_url_alone(installed: Path, server: Server) -> None:
    done = subprocess.run(
        ["node", "exercise.mjs", f"{server.url}/v1"],
        cwd=installed,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    failed = json.loads(done.stdout)
    assert {name: why for name, why in failed.items() if why} == {}
    assert list(failed) == NAMES
