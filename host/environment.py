"""The environment, read in one place: which variables this program knows, and where it keeps things.

HOST_CACHE_DIR   compiled components (default: $XDG_CACHE_HOME/catalyst-host, ~/.cache/catalyst-host)
HOST_STATE_DIR   keys and what the operator keeps (default: $XDG_STATE_HOME/catalyst-host, ~/.local/state/catalyst-host)

A secret given as `env:NAME` is read here too. Nothing else of the environment has any effect.
"""

from __future__ import annotations

import os
from pathlib import Path

from host.errors import InputError


def cache_dir() -> Path:
    return _place("HOST_CACHE_DIR", "XDG_CACHE_HOME", ".cache")


def state_dir() -> Path:
    return _place("HOST_STATE_DIR", "XDG_STATE_HOME", ".local/state")


def variable(name: str) -> str:
    """The value of the variable `name`. Raises InputError where it is unset or empty."""
    value = os.environ.get(name, "")
    if not value:
        raise InputError(f"the environment variable {name} is not set", hint=f"export {name}=…, or name another source")
    return value


def for_children() -> dict[str, str]:
    """What a child process of ours (a compiler) needs to start, and nothing that changes what it does."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}


def _place(own: str, xdg: str, home: str) -> Path:
    if given := os.environ.get(own):
        return Path(given).expanduser().absolute()
    base = os.environ.get(xdg) or Path.home() / home
    return Path(base).expanduser().absolute() / "catalyst-host"
