"""How the program treats the process that it runs in."""

from __future__ import annotations

import subprocess
import sys

import pytest


def said(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_process_that_imports_it_collects_garbage_as_before() -> None:
    assert (
        said("import gc; before = gc.get_threshold(); import host.cli; print(gc.get_threshold() == before)") == "True"
    )


@pytest.mark.parametrize(("command", "usual"), [("serve", True), ("batch", True), ("fake", True), ("run", False)])
def test_what_runs_for_long_collects_garbage_as_usual(command: str, usual: bool) -> None:
    """And what ends at once does so seldom."""
    program = (
        "import gc, sys, os; usual = gc.get_threshold(); import host.cli\n"
        f"sys.argv = ['host', {command!r}, '--help']; left = os._exit\n"
        "def ending(status): print(gc.get_threshold() == usual, file=sys.__stderr__, flush=True); left(status)\n"
        "os._exit = ending; host.cli.program()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == str(usual)
