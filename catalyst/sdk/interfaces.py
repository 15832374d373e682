"""Access to the imports of this catalyst. Its `wit_world` has only those that the manifest asks for."""

from importlib import import_module
from typing import Any


def interface(name: str) -> Any:
    """Returns the functions of the WIT interface `name`, or None if the component does not import it.

    Call it at the top of a module: the build includes only modules that are imported then.
    """
    try:
        return import_module(f"wit_world.imports.{name}")
    except ModuleNotFoundError:
        return None
