"""Audit records for other programs: each a line of text, or several where a cell has a line break.

jsonl  one JSON object a line, with every field as it is recorded (https://jsonlines.org)
csv    RFC 4180, with a line of names; cells that a spreadsheet would run as a formula begin with an apostrophe
       (https://owasp.org/www-community/attacks/CSV_Injection)
ecs    one JSON object a line, in the Elastic Common Schema 8.17, as log collectors read it
       (https://www.elastic.co/guide/en/ecs/current/ecs-event.html)
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from host.cli.show import as_json, as_words

if TYPE_CHECKING:
    from host.state.records import Record

_COLUMNS = ("seq", "time", "run", "kind", "decision", "rule", "detail", "mac")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_OUTCOMES = {"allow": "success", "deny": "failure"}


def as_jsonl(records: Iterator[Record]) -> Iterator[str]:
    for record in records:
        yield as_json(record.as_dict(), pretty=False)


def as_csv(records: Iterator[Record]) -> Iterator[str]:
    yield _line(_COLUMNS)
    for record in records:
        texts = (record.run, record.kind, record.decision or "", record.rule, as_json(record.detail, pretty=False))
        yield _line((record.seq, _utc(record.at), *map(_defused, texts), record.mac))


def as_ecs(records: Iterator[Record]) -> Iterator[str]:
    for record in records:
        yield as_json(_ecs(record), pretty=False)


FORMATS: Final[dict[str, Callable[[Iterator[Record]], Iterator[str]]]] = {
    "jsonl": as_jsonl,
    "csv": as_csv,
    "ecs": as_ecs,
}


def _line(cells: tuple[object, ...]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().removesuffix("\n")  # which whoever prints the line adds


def _defused(text: str) -> str:
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
