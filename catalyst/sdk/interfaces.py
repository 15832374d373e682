"""The imports that this catalyst's manifest asks for: others don't exist in its `wit_world`."""

from importlib import import_module
from typing import Any


def interface(name: str) -> Any:
    """The functions of the WIT interface `name`, or None where the component does not import it. To be called while
    a module is imported: the build keeps what was imported then, and nothing can be imported later."""
    try:
        return import_module(f"wit_world.imports.{name}")
    except ModuleNotFoundError:
        return None
