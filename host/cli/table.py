"""Rows for people to read: columns as wide as they need to be, nothing that a terminal would obey."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from host.cli.show import one_line


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of it, the head first; nothing where there are no rows."""
    shown = [[one_line(cell) for cell in row] for row in rows]
    if not shown:
        return
    shown.insert(0, [name.upper() for name in head])
    widths = [max(len(row[column]) for row in shown) for column in range(len(head) - 1)]
    for row in shown:
        cells = [f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[-1]]).rstrip()
