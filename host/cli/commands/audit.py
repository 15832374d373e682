"""`host audit`: the audit log of all that was allowed, denied and changed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from host.cli.inputs import blaming, opened
from host.cli.options import json_option, output_option, yes_option
from host.cli.output.audit import FORMATS, audit_table
from host.cli.output.terminal import agree, as_json, errors_shown, local_time, put, say, terminal_width, working
from host.cli.times import parse_past
from host.core.audit import KINDS
from host.core.fields import did_you_mean
from host.errors import InputError

if TYPE_CHECKING:
    from host.store.audit_log.chain import Checkpoint
    from host.store.audit_log.records import Wanted
    from host.store.audit_log.verification import Verified

_since_option = click.option(
    "--since", metavar="DURATION|DATE", help="Only records since then: 30m, 1h, 90d, 2026-11-20."
)
_CHECKPOINT = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})\Z")


@click.group("audit", short_help="Show, export, verify and prune the audit log.")
def audit() -> None:
    """The log of every run, and of every change that the operator made. Each record is chained to the one before it
    under a key, so that `host audit verify` finds any change."""


@audit.command("list", short_help="List the latest records.")
@click.option("--run", metavar="ID", help="Only of this run.")
@click.option("--kind", metavar="KIND", help="Only of this kind: run.started, http.request, policy.changed, …")
@click.option("--denied", is_flag=True, help="Only denials.")
@_since_option
@click.option("--limit", default=50, show_default=True, metavar="N", type=click.IntRange(1), help="How many at most.")
@json_option
def list_(*, run: str | None, kind: str | None, denied: bool, since: str | None, limit: int, in_json: bool) -> None:
    """List the latest records, the newest at the end. On a terminal the last column is cut at its width; --json has all
    of it."""
    with errors_shown(in_json=in_json):
        from host.store.audit_log.records import newest_records  # noqa: PLC0415 - not for `--help`

        wanted = _wanted(run, kind, since, denied=denied)
        if kind is not None and kind not in KINDS:
            say(f"note: {did_you_mean(kind, KINDS, f'no record of this version is of the kind {kind[:80]!r}')}")
        with opened() as workspace:
            found = newest_records(workspace.database, limit, wanted)
        if in_json:
            put(as_json([record.as_dict() for record in found]))
            return
        if not found:
            say("there are no such records")
        for line in audit_table(found, width=terminal_width()):
            put(line)


@audit.command("export", short_help="Write the log for other programs.")
@click.option(
    "--format", "format_", default="jsonl", show_default=True, type=click.Choice(sorted(FORMATS)), help="The format."
)
@_since_option
@output_option("Write to this file; - is standard output.", default="-", show_default=True)
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
@click.option(
    "--head", metavar="HEAD", help="The head that an earlier verify printed, NUMBER:MAC: it has to be in the log."
)
@json_option
def verify(*, head: str | None, in_json: bool) -> None:
    """Find out whether any record was edited, deleted, exchanged, put in or cut off; whether anything that the operator
    decided, or a count of a limit, was changed in the database; and whether anything in it acts that is not of this
    program. Exit status 6 if so.

    Keep the head that it prints in another place, and give it to a later verify as --head: that proves that nobody put
    the whole state back to an earlier one."""
    with errors_shown(in_json=in_json):
        from host.store.audit_log.verification import verify as verified  # noqa: PLC0415 - not for `--help`

        expected = None if head is None else _read_checkpoint(head)
        with opened() as workspace, nullcontext() if in_json else working("verifying each record"):
            found = verified(workspace.audit_log, expected)
        if in_json:
            put(as_json({**asdict(found), "head": str(found.head)}))
        else:
            _show_verified(found)


@audit.command("prune", short_help="Delete old records.")
@click.option("--older-than", required=True, metavar="DURATION|DATE", help="90d, 2w, 2026-01-01.")
@yes_option
@json_option
def prune(*, older_than: str, yes: bool, in_json: bool) -> None:
    """Delete the records that are older. The rest can still be verified: a record says what was pruned."""
    with errors_shown(in_json=in_json):
        from host.store.audit_log.verification import prune as pruned  # noqa: PLC0415 - not for `--help`

        with blaming("--older-than"):
            before = parse_past(older_than)
        agree(f"Delete the records from before {local_time(before)} for good?", yes=yes)
        with opened() as workspace:
            gone = pruned(workspace.audit_log, before)
        if in_json:
            put(as_json({"records": gone.records, "before": before, "broken": gone.broken}))
            return
        put(f"{_records(gone.records)} from before {local_time(before)} pruned")
        if gone.broken is not None:
            say(f"among them, record {gone.broken} was not as it was written; the log says so")


@audit.command("accept", short_help="Accept the end of the log as it is.")
@yes_option
@json_option
def accept(*, yes: bool, in_json: bool) -> None:
    """Accept the end of the log as it is, where `host audit verify` finds records missing: after an older copy was
    restored, or a power failure. What the operator decided and the counts of limits are accepted with it, as they are
    in the database: review them first. A record says that this was done."""
    with errors_shown(in_json=in_json), opened() as workspace:
        agree("Accept the log and the decisions in the database as they are, for good?", yes=yes)
        head = str(workspace.audit_log.accept())
        put(as_json({"head": head}) if in_json else f"the record's head is now {head}")


def _wanted(run: str | None, kind: str | None, since: str | None, *, denied: bool) -> Wanted:
    from host.store.audit_log.records import Wanted  # noqa: PLC0415 - not for `--help`

    with blaming("--since"):
        return Wanted(run=run, kind=kind, denied=denied, since=None if since is None else parse_past(since))


def _read_checkpoint(text: str) -> Checkpoint:
    from host.store.audit_log.chain import Checkpoint  # noqa: PLC0415 - not for `--help`

    if match := _CHECKPOINT.match(text):
        return Checkpoint(int(match[1]), bytes.fromhex(match[2]))
    raise InputError(
        f"--head: {text[:80]!r} is no head", field="--head", hint="NUMBER:MAC, as an earlier verify printed it"
    )


def _show_verified(found: Verified) -> None:
    if found.since is None:
        put("there are no records yet")
    else:
        put(f"{_records(found.records)} since {local_time(found.since)}, all as they were written")
        put(f"head {found.head}")
    if found.pruned_through:
        say(f"records up to {found.pruned_through} were pruned")
    if found.noted is None and found.records:
        say("this machine has noted no head, and cannot tell whether records are missing at the end")


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count} records"


def _write(lines: Iterable[str], path: str) -> None:
    """To a file that only this user can read: records show what catalysts were asked to do."""
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
