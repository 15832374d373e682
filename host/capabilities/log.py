"""`catalyst:host/log`: messages for the operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.core.wit import LOG
from host.run import Run

_LEVELS = frozenset({"debug", "info", "warning", "error", "fatal"})


class LogWriter:
    interface = LOG

    def functions(self) -> Mapping[str, Any]:
        return {"write": self.write}

    def write(self, run: Run, level: str, message: str) -> None:
        run.note(level if level in _LEVELS else "info", message)
