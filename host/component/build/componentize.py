"""componentize-py: a folder of Python and a world in WIT to a component, by a program of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from host.core import environment, installation
from host.errors import BuildError

# componentize-py is where this program found it, and pip's isolated builds say where in a variable alone. Its place
# comes last, as that of installed packages does.
_PROGRAM = "import sys; sys.path.append(sys.argv.pop(1)); from componentize_py import script; script()"
_LONGEST_S = 600.0  # the guest's own top level and its examples run in it


def component_of(wit: Path, world: str, stage: Path, first: str, output: Path) -> bytes:
    """The component for the world `world` in the folder `wit`, of the module `first` in the folder `stage`. It imports
    nothing of WASI. Raises BuildError."""
    spec = find_spec("componentize_py")
    if spec is None or spec.origin is None:
        raise BuildError("componentize-py is not installed", hint=installation.remedy("build"))
    argv = [
        sys.executable, "-c", _PROGRAM, str(Path(spec.origin).parents[1]),
        "-d", str(wit), "-w", world, "componentize", "--stub-wasi", first, "-p", str(stage), "-o", str(output),
    ]  # fmt: skip
    # Without this variable it adds the packages of a Python in PATH. A guest could import them, and neither the sources
    # nor the SBOM would have them.
    (nothing := output.parent / "environment" / "lib" / "site-packages").mkdir(parents=True, exist_ok=True)
    env = environment.for_children() | {"VIRTUAL_ENV": str(nothing.parents[1])}
    output.unlink(missing_ok=True)
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter
            argv, capture_output=True, text=True, check=False, env=env, timeout=_LONGEST_S
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"componentize-py did not end within {_LONGEST_S:g} s") from None
    if done.returncode != 0 or not output.is_file():
        said = "\n".join(_guest_lines(done.stderr or done.stdout))
        raise BuildError(f"componentize-py could not build it:\n{said}")
    return output.read_bytes()


def _guest_lines(stderr: str) -> Iterator[str]:
    """The part of componentize-py's messages about the guest: its traceback, without the tool's own."""
    lines = stderr.splitlines()
    begin = next((index for index, line in enumerate(lines) if line.startswith("AssertionError: ")), 0)
    for line in lines[begin:]:
        if line.startswith(("Stack backtrace", "Caused by")):
            return
        if shown := line.removeprefix("AssertionError: ").rstrip():
            yield shown.replace('"/0/', '"')
