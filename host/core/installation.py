"""How this program was installed and started: what hints and examples of commands depend on."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from host.errors import InputError

DISTRIBUTION: Final = "catalyst-host"
NAMES: Final = ("host", "catalyst-host")  # of the program
COMPONENTS: Final = {"openai": "dist/openai.wasm"}  # by their names in the place of a file


def version() -> str:
    """Of this program, whether it is installed or a checkout."""
    return str(sys.modules[__name__.partition(".")[0]].__version__)  # a package is loaded before its modules


def shipped(part: str) -> Path | None:
    """The file or folder `part` that comes with this program: inside an installed package, or beside it in a
    checkout. None if this installation lacks it."""
    package = Path(__file__).parents[1]
    return next((found for root in (package / "_guest", package.parent) if (found := root / part).exists()), None)


def component_file(source: str | Path) -> Path:
    """The file of the component that `source` names: a path, or the name of a component that comes with this program.
    That name comes first, so that no file of a folder can take its place. Raises InputError."""
    part = COMPONENTS.get(str(source))
    if part is None:
        return Path(source)
    if (file := shipped(part)) is None:
        raise InputError(f"{source}: this checkout has not built it yet", field="source", hint="./build.sh build")
    return file


def remedy(extra: str) -> str:
    """The hint where a library of `extra` is missing. It names what is missing, and never this distribution: under
    that name a package index may have another one, or somebody else's."""
    missing = [one for one in _requirements(extra) if not _is_there(one)]
    source = f"install the extra '{extra}' from where this program came"
    return f"{source}, or: pip install {' '.join(map(repr, missing))}" if missing else source


def typed_name() -> str:
    """The name by which this program was started: `host`, `catalyst-host` or `python -m host`."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return "python -m host"
    return started.name if started.name in NAMES else NAMES[0]


def absolute_command() -> list[str]:
    """What starts this program from any folder and with any PATH, as programs with configurations of their own need
    it."""
    if typed_name() not in NAMES:
        return [sys.executable, "-m", "host"]
    started = Path(sys.argv[0])
    if len(started.parts) == 1:  # no path: another program of this name may come first in PATH, as BIND's `host` does
        started = Path(sys.executable).with_name(typed_name())
    return [str(started.absolute())]


def _requirements(extra: str) -> list[str]:
    """The requirements of one extra, as the distribution declares them; none if it was not installed."""
    from importlib.metadata import PackageNotFoundError, requires  # noqa: PLC0415 - slow, and only for this hint

    try:
        declared = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return []
    parts = (line.partition(";") for line in declared)
    return [text.strip() for text, _, marker in parts if re.search(rf"""\bextra == ["']{extra}["']""", marker)]


def _is_there(requirement: str) -> bool:
    from importlib.metadata import PackageNotFoundError, distribution  # noqa: PLC0415 - as above

    name = re.match(r"[\w.-]+", requirement)
    try:
        return bool(name and distribution(name[0]))
    except PackageNotFoundError:
        return False
