"""Rows for people to read: columns as wide as they need to be, nothing that a terminal would obey."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence

from host.cli.show import one_line


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None) -> Iterator[str]:
    """The lines of it, the head first; nothing where there are no rows. With `width` the last column is cut at it, but
    not to less than its name."""
    shown = [[one_line(cell) for cell in row] for row in rows]
    if not shown:
        return
    shown.insert(0, [name.upper() for name in head])
    widths = [max(len(row[column]) for row in shown) for column in range(len(head) - 1)]
    for row in shown:
        cells = [f"{cell:{wide}}" for cell, wide in zip(row, widths, strict=False)]
        left = None if width is None else max(width - sum(widths) - 2 * len(widths), len(head[-1]))
        yield "  ".join([*cells, _cut(row[-1], left)]).rstrip()


def terminal_width() -> int | None:
    """In columns; None where standard output is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _cut(text: str, most: int | None) -> str:
    return text if most is None or len(text) <= most else text[: most - 1] + "…"
