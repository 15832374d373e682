"""Audit records: a table for people, and three formats for other programs.

jsonl  one JSON object a line, with every field as it is recorded (https://jsonlines.org)
csv    RFC 4180, with a line of names; cells that a spreadsheet would run as a formula begin with an apostrophe
       (https://owasp.org/www-community/attacks/CSV_Injection)
ecs    one JSON object a line, in the Elastic Common Schema 8.17, as log collectors read it
       (https://www.elastic.co/guide/en/ecs/current/ecs-event.html)
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from host.cli.output.terminal import SHORT_ID, as_json, as_words, is_narrow, local_time, table

if TYPE_CHECKING:
    from host.core.strict_json import Json
    from host.store.audit_log.records import Record

_DECISIONS = {"allow": "allowed", "deny": "DENIED", None: ""}


def audit_table(records: Iterable[Record], *, of_one_run: bool = False, width: int | None = None) -> Iterator[str]:
    """The lines of a table; without the column of runs if all records are `of_one_run`."""
    head = ("record", "at", "run", "what", "decision", "detail")
    narrow = is_narrow(width)
    rows = [
        (
            str(record.seq),
            local_time(record.at, short=narrow),
            record.run[:SHORT_ID] if narrow else record.run,
            record.kind,
            _DECISIONS.get(record.decision, "?"),
            _detail(record),
        )
        for record in records
    ]
    columns = [index for index, name in enumerate(head) if name != "run" or not of_one_run]
    return table([head[index] for index in columns], ([row[index] for index in columns] for row in rows), width=width)


def _detail(record: Record) -> str:
    if record.kind == "run.failed" and isinstance(error := record.detail.get("error"), dict):  # runs show has all of it
        return ": ".join(_brief(error[name]) for name in ("type", "message") if error.get(name))
    parts = [f"{name}={_brief(value)}" for name, value in record.detail.items()]
    return " ".join([*parts, f"({record.rule})"] if record.rule else parts)


def _brief(value: Json) -> str:
    return value if isinstance(value, str) else as_json(value, pretty=False)


_COLUMNS = ("seq", "time", "run", "kind", "decision", "rule", "detail", "mac")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_OUTCOMES = {"allow": "success", "deny": "failure"}


def as_jsonl(records: Iterator[Record]) -> Iterator[str]:
    for record in records:
        yield as_json(record.as_dict(), pretty=False)


def as_csv(records: Iterator[Record]) -> Iterator[str]:
    yield _csv_line(_COLUMNS)
    for record in records:
        texts = (record.run, record.kind, record.decision or "", record.rule, as_json(record.detail, pretty=False))
        yield _csv_line((record.seq, _utc(record.at), *map(_defused, texts), record.mac))


def as_ecs(records: Iterator[Record]) -> Iterator[str]:
    for record in records:
        yield as_json(_ecs(record), pretty=False)


FORMATS: Final[dict[str, Callable[[Iterator[Record]], Iterator[str]]]] = {
    "jsonl": as_jsonl,
    "csv": as_csv,
    "ecs": as_ecs,
}


def _csv_line(cells: tuple[object, ...]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().removesuffix("\n")  # `put` and `_write` add it


def _defused(text: str) -> str:
    """Without what a terminal obeys, and with an apostrophe before a formula."""
    clean = as_words(text)
    return f"'{clean}" if clean.startswith(_FORMULA) else clean


def _ecs(record: Record) -> dict[str, Any]:
    return {
        "@timestamp": _utc(record.at),
        "ecs": {"version": "8.17.0"},
        "event": {
            "action": record.kind,
            "dataset": "catalyst-host.audit",
            "id": record.mac,
            "kind": "event",
            "module": "catalyst-host",
            "outcome": _OUTCOMES.get(record.decision or "", "unknown"),
            "sequence": record.seq,
        },
        "labels": {"run": record.run},
        "rule": {"name": record.rule},
        "catalyst_host": record.detail,
    }


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
