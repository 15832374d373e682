"""`operations.json` is what the tool makes, from the official SDK and from an OpenAPI document."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_declaration_is_what_the_tool_makes_from_the_official_sdk():
    command = [sys.executable, ROOT / ".ci" / "operations", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
