"""`catalyst:host/log`: messages for the operator. Without that import they are dropped."""

from catalyst.sdk.interfaces import interface

_interface = interface("log")

AVAILABLE = _interface is not None


def write(level: str, message: str) -> None:
    """Writes `message` at `level`: debug, info, warning, error or fatal."""
    if _interface is not None:
        _interface.write(level, message)


def debug(message: str) -> None:
    write("debug", message)


def info(message: str) -> None:
    write("info", message)


def warning(message: str) -> None:
    write("warning", message)


def error(message: str) -> None:
    write("error", message)
