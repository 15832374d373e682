"""`catalyst:host/config`: what the operator set for this catalyst. Without that import, nothing."""

from json import loads
from typing import Any

from catalyst.sdk.interfaces import interface

_interface = interface("config")

AVAILABLE = _interface is not None


def get() -> dict[str, Any]:
    """The operator's JSON object, `{}` where there is none."""
    document = loads(_interface.get() or "{}") if _interface is not None else {}
    return document if isinstance(document, dict) else {}
