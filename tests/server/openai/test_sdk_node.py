"""The official Node SDK against the gateway, by its `baseURL` alone: `node/exercise.mjs`."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import with_packages
from tests.server.conftest import Server

SOURCES = Path(__file__).parent / "node"
NAMES = re.findall(r"^  async (\w+)\(\)", (SOURCES / "exercise.mjs").read_text(), re.MULTILINE)

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def installed() -> Path:
    return with_packages("openai-node", SOURCES)


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
