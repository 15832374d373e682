"""Audit records as lines for people.

Audit records for other programs: each a line of text, or several where a cell has a line break.

jsonl  one JSON object a line, with every field as it is recorded (https://jsonlines.org)
csv    RFC 4180, with a line of names; cells that a spreadsheet would run as a formula begin with an apostrophe
       (https://owasp.org/www-community/attacks/CSV_Injection)
ecs    one JSON object a line, in the Elastic Common Schema 8.17, as log collectors read it
       (https://www.elastic.co/guide/en/ecs/current/ecs-event.html)

`host audit`: the record of everything that was allowed, denied and changed.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from host.cli.inputs import blaming, opened
from host.cli.output.terminal import as_json, as_words, errors_shown, local_time, put, say, table
from host.cli.times import parse_past
from host.errors import InputError

if TYPE_CHECKING:
    from host.core.strict_json import Json
    from host.store.audit_log.chain import Checkpoint
    from host.store.audit_log.records import Record, Wanted
    from host.store.audit_log.verification import Verified


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
            "dataset": "catalyst-host.core.audit",
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


_HEAD = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})\Z")


@click.group("audit", short_help="Show, export, verify and prune the audit record.")
def audit() -> None:
    """The record of every run and of every change that the operator made: each entry is chained to the one before it
    under a key, so that nobody can change one afterwards without `host audit verify` finding it."""


@audit.command("list", short_help="List the latest records.")
@click.option("--run", metavar="ID", help="Of this run.")
@click.option("--kind", metavar="KIND", help="Of this kind: run.started, http.request, secret.use, policy.changed, …")
@click.option("--denied", is_flag=True, help="Only what was denied.")
@click.option("--since", metavar="AGE|TIME", help="Not older: 30m, 1h, 90d, 2026-11-20.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="How many at most.")
@click.option("--json", "in_json", is_flag=True, help="Print a JSON list.")
def list_(*, run: str | None, kind: str | None, denied: bool, since: str | None, limit: int, in_json: bool) -> None:
    """List the latest records, the last one at the end."""
    with errors_shown(in_json=in_json):
        from host.store.audit_log.records import newest_records  # noqa: PLC0415 - not for `--help`

        wanted = _wanted(run, kind, since, denied=denied)
        with opened() as workspace:
            found = newest_records(workspace.database, limit, wanted)
        if in_json:
            put(as_json([record.as_dict() for record in found]))
            return
        if not found:
            say("there are no such records")
        for line in events(found):
            put(line)


@audit.command("export", short_help="Write the record for other programs.")
@click.option(
    "--format", "format_", default="jsonl", show_default=True, type=click.Choice(sorted(FORMATS)), help="How."
)
@click.option("--since", metavar="AGE|TIME", help="Not older: 30m, 1h, 90d, 2026-11-20.")
@click.option("--output", metavar="FILE", default="-", help="Write it there; - is stdout, the default.")
def export(*, format_: str, since: str | None, output: str) -> None:
    """Write all records, the oldest first: as JSON lines, as CSV, or as JSON lines in the Elastic Common Schema."""
    with errors_shown():
        from host.store.audit_log.records import records  # noqa: PLC0415 - not for `--help`

        wanted = _wanted(None, None, since, denied=False)
        with opened() as workspace:
            lines = FORMATS[format_](records(workspace.database, wanted))
            if output == "-":
                for line in lines:
                    put(line)
            else:
                _write(lines, output)


@audit.command("verify", short_help="Find out whether a record was changed.")
@click.option("--head", metavar="NUMBER:MAC", help="As an earlier verify printed it: it has to be part of the record.")
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object.")
def verify(*, head: str | None, in_json: bool) -> None:
    """Find out whether any record was edited, deleted, exchanged, put in or cut off. Exit status 6 if one was.

    What it prints as the head proves more when it is kept elsewhere: that nobody put the whole state back to an earlier
    one."""
    with errors_shown(in_json=in_json):
        from host.store.audit_log.verification import verify as verified  # noqa: PLC0415 - not for `--help`

        expected = None if head is None else _head(head)
        with opened() as workspace:
            found = verified(workspace.audit_log, expected)
        if in_json:
            put(as_json({**asdict(found), "head": str(found.head)}))
        else:
            _tell(found)


@audit.command("prune", short_help="Delete old records.")
@click.option("--older-than", required=True, metavar="AGE|TIME", help="90d, 2w, 2026-01-01.")
def prune(*, older_than: str) -> None:
    """Delete the records that are older. What stays can still be verified: a record says what was pruned."""
    with errors_shown():
        from host.store.audit_log.verification import prune as pruned  # noqa: PLC0415 - not for `--help`

        with blaming("--older-than"):
            before = parse_past(older_than)
        with opened() as workspace:
            gone = pruned(workspace.audit_log, before)
        put(f"{_records(gone.records)} from before {local_time(before)} pruned")
        if gone.broken is not None:
            say(f"among them, record {gone.broken} was not as it was written; the record of this says so")


@audit.command("accept", short_help="Take the record's end as it is.")
def accept() -> None:
    """Take the end of the record as it is, where `host audit verify` finds some missing: after an older copy was
    restored, or a power failure. A record says that this was done."""
    with errors_shown(), opened() as workspace:
        put(f"the record's head is now {workspace.audit_log.accept()}")


def _wanted(run: str | None, kind: str | None, since: str | None, *, denied: bool) -> Wanted:
    from host.store.audit_log.records import Wanted  # noqa: PLC0415 - not for `--help`

    with blaming("--since"):
        return Wanted(run=run, kind=kind, denied=denied, since=None if since is None else parse_past(since))


def _head(text: str) -> Checkpoint:
    from host.store.audit_log.chain import Checkpoint  # noqa: PLC0415 - not for `--help`

    if match := _HEAD.match(text):
        return Checkpoint(int(match[1]), bytes.fromhex(match[2]))
    raise InputError(
        f"--head: {text[:80]!r} is no head", field="--head", hint="NUMBER:MAC, as an earlier verify printed it"
    )


def _tell(found: Verified) -> None:
    if found.since is None:
        put("there are no records yet")
    else:
        put(f"{_records(found.records)} since {local_time(found.since)}, all as they were written")
        put(f"head {found.head}")
    if found.pruned_through:
        say(f"records up to {found.pruned_through} were pruned")
    if found.noted is None and found.records:
        say("this machine has noted no head: that none are missing at the end, another one has to say")


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count} records"


def _write(lines: Iterable[str], path: str) -> None:
    """For this user alone: what a catalyst was asked to do may be nobody else's business."""
    try:
        with open(  # noqa: PTH123 - with its mode from the start
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600),
            "w",
            encoding="utf-8",
            newline="",
        ) as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise InputError(f"--output: cannot write {path!r}: {error.strerror}", field="--output") from None
