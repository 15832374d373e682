"""`catalyst:host/output`: events for the caller of the run, while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.core.wit import OUTPUT
from host.run import Run


class Output:
    interface = OUTPUT

    def functions(self) -> Mapping[str, Any]:
        return {"emit": self.emit}

    def emit(self, run: Run, event: str) -> bool:
        return run.emit(event)
