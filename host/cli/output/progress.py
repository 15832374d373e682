"""The progress of a transfer: a bar on standard error if that is a terminal, else nothing."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import click


class ProgressBars:
    """One bar after another. A `host.oci.blobs.Progress`."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._bar: Any = None

    def begin(self, name: str, total: int) -> None:
        self.end()
        if sys.stderr.isatty():
            self._bar = self._open.enter_context(
                click.progressbar(length=total, label=name, file=sys.stderr, show_pos=False)
            )

    def advance(self, count: int) -> None:
        if self._bar is not None:
            self._bar.update(count)

    def end(self) -> None:
        self._bar = None
        self._open.close()
