"""`catalyst:host/config`: the operator's configuration for this catalyst. Empty without that import."""

from json import loads
from typing import Any

from catalyst.sdk.interfaces import interface

_interface = interface("config")

AVAILABLE = _interface is not None


def get() -> dict[str, Any]:
    """Returns the operator's JSON object, by default `{}`."""
    document = loads(_interface.get() or "{}") if _interface is not None else {}
    return document if isinstance(document, dict) else {}
