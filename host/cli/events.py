"""Audit records as lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from host.cli.show import as_json, local_time
from host.cli.table import table

if TYPE_CHECKING:
    from host.jsontext import Json
    from host.state.records import Record

_DECISIONS = {"allow": "allowed", "deny": "DENIED", None: ""}


def events(records: Iterable[Record], *, of_one_run: bool = False) -> Iterator[str]:
    """A table of them; with the run that each belongs to, unless that is known."""
    head = ("record", "at", "run", "what", "decision", "detail")
    rows = [
        (
            str(record.seq),
            local_time(record.at),
            record.run,
            record.kind,
            _DECISIONS.get(record.decision, "?"),
            _said(record),
        )
        for record in records
    ]
    columns = [index for index, name in enumerate(head) if name != "run" or not of_one_run]
    return table([head[index] for index in columns], ([row[index] for index in columns] for row in rows))


def _said(record: Record) -> str:
    parts = [f"{name}={_brief(value)}" for name, value in record.detail.items()]
    return " ".join([*parts, f"({record.rule})"] if record.rule else parts)


def _brief(value: Json) -> str:
    return value if isinstance(value, str) else as_json(value, pretty=False)
