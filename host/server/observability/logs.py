"""Logs for machines: one JSON object a line on standard error, with the id of the request.

A line has `time` (RFC 3339, UTC), `level`, `logger`, `message`, and more fields. The line of a request has its method
and the route that matched, and never its path, query or headers: those may hold secrets.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

REQUEST: ContextVar[str] = ContextVar("catalyst_host_request", default="")
"""The id of the request under way."""


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if request := REQUEST.get():
            line["request"] = request
        line |= getattr(record, "facts", {})
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, ensure_ascii=True, default=str)


class Words(logging.Formatter):
    """For people at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        said, facts = _in_words(record.getMessage(), dict(getattr(record, "facts", {})))
        shown = " ".join(f"{name}={value}" for name, value in facts.items() if value != "")
        line = f"{at} {record.levelname.lower():7} {said} {shown}".rstrip()
        if record.exc_info and record.exc_info[0] is not None:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in line)


def _in_words(said: str, facts: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The line of a request as `POST /v1/files 200 12 ms`, and its other facts. A known route begins with its
    method."""
    if said != "request" or not {"method", "route", "status", "ms"} <= facts.keys():
        return said, facts
    method, route, status, ms = (facts.pop(name) for name in ("method", "route", "status", "ms"))
    at = route if " " in str(route) else f"{method} {route}"
    return f"{at} {status} {ms:.0f} ms", facts


def configure(*, level: str = "info", in_json: bool = True, stream: TextIO | None = None) -> None:
    """For a process of the server's own. A service that mounts the server configures logging itself."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if in_json else Words())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("host", "uvicorn"):
        logging.getLogger(name).setLevel(level.upper())
    logging.getLogger("uvicorn.access").disabled = True  # the middleware logs each request
