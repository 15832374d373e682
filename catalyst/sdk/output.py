"""`catalyst:host/output`: events to whoever called the run, while it runs. Without that import nobody listens."""

from json import dumps
from typing import Any

from catalyst.sdk.interfaces import interface

_interface = interface("output")

AVAILABLE = _interface is not None


def emit(event: Any) -> bool:
    """Send `event` to the caller now. True: delivered; False: nobody listens, and further events are in vain."""
    return _interface is not None and _interface.emit(dumps(event))


def emit_json(text: str) -> bool:
    """`emit` for an event that is a JSON text already."""
    return _interface is not None and _interface.emit(text)
