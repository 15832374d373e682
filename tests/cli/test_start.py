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


@pytest.mark.parametrize("command", ["run", "serve", "batch", "fake"])
def test_the_program_collects_garbage_seldom(command: str) -> None:
    """In a server too, where it is 2 to 5 % of a request."""
    program = (
        "import gc, sys, os; usual = gc.get_threshold(); import host.cli\n"
        f"sys.argv = ['host', {command!r}, '--help']; left = os._exit\n"
        "def ending(status): print(gc.get_threshold() > usual, file=sys.__stderr__, flush=True); left(status)\n"
        "os._exit = ending; host.cli.program()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "True"
