"""A component that wants more of WASI than is harmless: refused, with the option that lets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from wasmtime import wat2wasm

from tests.sandbox.conftest import component_text


def _host(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "host", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)


def test_the_refusal_names_the_option_and_with_it_the_component_runs(tmp_path: Path) -> None:
    declared = '(import "wasi:io/poll@0.2.6" (instance (export "pollable" (type (sub resource)))))'
    file = tmp_path / "polls.wasm"
    file.write_bytes(bytes(wat2wasm(component_text().replace("(component", f"(component {declared}", 1))))
    refused = _host("run", str(file), "--input", "{}")
    assert refused.returncode == 5
    assert "--allow-import wasi:io/poll@0.2.6" in refused.stderr
    allowed = _host("run", str(file), "--input", '{"a": 1}', "--allow-import", "wasi:io/poll@0.2.6")
    assert allowed.returncode == 0, allowed.stderr
    assert json.loads(allowed.stdout) == {"status": 200, "data": {"a": 1}}
