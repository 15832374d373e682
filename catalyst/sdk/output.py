"""`catalyst:host/output`: events for the caller during the run. Without that import nobody listens."""

from json import dumps
from typing import Any

from catalyst.sdk.interfaces import interface

_interface = interface("output")

AVAILABLE = _interface is not None


def emit(event: Any) -> bool:
    """Sends `event` to the caller now. Returns False if nobody listens; later events are then in vain."""
    return _interface is not None and _interface.emit(dumps(event))


def emit_json(text: str) -> bool:
    """Sends an event that is already JSON text. See `emit`."""
    return _interface is not None and _interface.emit(text)
