"""`host runs`: the runs in the audit log, and what each did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from host.cli.inputs import blaming, opened
from host.cli.options import json_option
from host.cli.output.audit import audit_table
from host.cli.output.terminal import (
    SHORT_ID,
    as_json,
    as_line,
    as_words,
    errors_shown,
    is_narrow,
    local_time,
    one_line,
    put,
    say,
    table,
    terminal_width,
)
from host.core.names import Reference, looks_like_reference
from host.errors import InputError

if TYPE_CHECKING:
    from host.core.strict_json import Json
    from host.store.audit_log.records import Record, RunSummary


@click.group("runs", short_help="Show which runs there were, and what each did.")
def runs() -> None:
    """Show the runs in the audit log, and what each did."""


@runs.command("list", short_help="List the latest runs.")
@click.option("--limit", default=20, show_default=True, metavar="N", type=click.IntRange(1), help="How many at most.")
@click.option("--reference", metavar="REF", help="Only of this component; of all versions if it names none.")
@click.option("--failed", is_flag=True, help="Only those that failed, or did not end.")
@json_option
def list_(*, limit: int, reference: str | None, failed: bool, in_json: bool) -> None:
    """List the latest runs, the newest first. A run without an end still runs, or its process was killed. A narrow
    terminal shows less of each."""
    with errors_shown(in_json=in_json):
        from host.store.audit_log.records import runs as latest_runs  # noqa: PLC0415 - not for `--help`

        named = None if reference is None else _canonical(reference)
        with opened() as workspace:
            found = latest_runs(workspace.database, limit=limit, reference=named, failed=failed)
        if in_json:
            put(as_json([_run_facts(run) for run in found]))
            return
        if not found:
            say("there are no such runs" if reference or failed else "there are no runs yet")
        for line in _runs_table(found, terminal_width()):
            put(line)


@runs.command("show", short_help="Show what a run did.")
@click.argument("ident", metavar="ID")
@json_option
def show(*, ident: str, in_json: bool) -> None:
    """Show what the run ID did, what it was denied, and why it failed: its error, its traceback, and the last of what
    the guest logged. The beginning of an ID is enough if only one run has it."""
    with errors_shown(in_json=in_json):
        from host.store.audit_log.records import failure, run  # noqa: PLC0415 - not for `--help`

        with opened() as workspace:
            summary, records = run(workspace.database, ident)
        why = failure(records)
        if in_json:
            shown = None if summary is None else _run_facts(summary)
            put(as_json({"run": shown, "failure": why, "records": [record.as_dict() for record in records]}))
        else:
            put("\n".join(_page(summary, records, why)))


@runs.command("cancel", short_help="End a run.")
@click.argument("ident", metavar="ID")
@json_option
def cancel(*, ident: str, in_json: bool) -> None:
    """End the run ID, whichever process has it: a server, or another `host run`. It ends within a second or so, with
    the error `cancelled`. The beginning of an ID is enough if only one run has it."""
    with errors_shown(in_json=in_json):
        from host.store.audit_log.records import run  # noqa: PLC0415 - not for `--help`

        with opened() as workspace:
            summary, records = run(workspace.database, ident)
            if summary is None or not summary.running(time.time()):
                outcome = "its beginning was pruned" if summary is None else f"outcome {summary.outcome}"
                raise InputError(f"the run {records[0].run} has ended: {outcome}", field="ID", hint="host runs list")
            workspace.cancellations.ask(summary.id)
        if in_json:
            put(as_json({"run": summary.id, "cancelled": True}))
        else:
            say(f"{summary.id} is asked to end")


def _canonical(reference: str) -> str:
    if not looks_like_reference(reference):
        return reference
    with blaming("--reference"):
        return str(Reference.parse(reference))


def _run_facts(run: RunSummary) -> dict[str, Any]:
    from host.service import views  # noqa: PLC0415 - not for `--help`

    names = (one.name for one in fields(run))
    return views.picked(views.of_run(run, time.time()), *names, "operation", "model", "outcome", "state")


def _runs_table(found: Sequence[RunSummary], width: int | None) -> Iterator[str]:
    """A line each. A narrow terminal shows short ids and times, and no counts of requests; these it shows whole. A
    column that would be empty is left out: only a server's runs have keys."""
    narrow = is_narrow(width)
    columns: dict[str, Callable[[RunSummary], str]] = {
        "run": lambda run: run.id[:SHORT_ID] if narrow else run.id,
        "started": lambda run: local_time(run.started_at, short=narrow),
        "reference": lambda run: run.reference,
        "operation": lambda run: run.operation,
        "model": lambda run: run.model,
        "outcome": lambda run: run.outcome,
        "took": lambda run: _seconds(run.duration_s),
        "tokens": _tokens,
        "requests": lambda run: str(run.requests),
        "denied": lambda run: str(run.denied),
        "key": _caller,
    }
    for name in ("requests", "denied") if narrow else ():
        del columns[name]
    for name in ("operation", "model", "tokens", "key"):
        if not any(map(columns[name], found)):
            del columns[name]
    rows = ([cell(run) for cell in columns.values()] for run in found)
    return table(tuple(columns), rows, width=width, spared=("run", "started", "took"))


def _caller(run: RunSummary) -> str:
    """The API key: its name if the log has it, and its id."""
    named = run.caller.get("name")
    return f"{named} ({run.key})" if run.key and isinstance(named, str) and named else run.key


def _tokens(run: RunSummary) -> str:
    """Input and output."""
    return "" if run.input_tokens is None else f"{run.input_tokens}/{run.output_tokens}"


def _seconds(duration: float | None) -> str:
    return "" if duration is None else f"{duration:.3f} s"


def _page(run: RunSummary | None, records: Sequence[Record], why: Mapping[str, Json] | None) -> Iterator[str]:
    yield f"run        {one_line(records[0].run)}"
    if run is None:
        yield "its beginning was pruned; what is left of it:"
    else:
        yield f"reference  {one_line(run.reference)}"
        yield f"digest     {one_line(run.digest)}"
        yield f"started    {local_time(run.started_at)}"
        asked = {"operation": run.operation, "model": run.model, "key": _caller(run), "tokens": _tokens(run)}
        for name, value in asked.items():
            if value:
                yield f"{name:9}  {one_line(value)}"
        if isinstance(first := run.caller.get("first"), str):
            yield f"attempt    {one_line(str(run.caller.get('attempt')))} of a request; the first was {one_line(first)}"
        yield f"outcome    {one_line(run.outcome)}" + (f" after {_seconds(run.duration_s)}" if run.duration_s else "")
        if run.outcome == "unfinished":
            goes_on = run.running(time.time())
            yield f"{'':10} {'it goes on' if goes_on else 'its process was killed, and what it logged went with it'}"
        yield from _request_lines(records)
    yield from _failure_lines(why or {})
    yield ""
    yield from audit_table(records, of_one_run=True, width=terminal_width())


def _request_lines(records: Sequence[Record]) -> Iterator[str]:
    """What did not go at the first attempt, or not at once."""
    end = next((record.detail for record in records if record.kind == "run.ended"), {})
    repeats, moved, waited, said = end.get("retries"), end.get("moved"), end.get("waited_s"), []
    if repeats:
        said.append(
            f"{end.get('http_requests')}, of which {repeats} {'is a repeat' if repeats == 1 else 'are repeats'}"
        )
    if moved:
        said.append(f"an upstream was passed over, or did not serve, {'once' if moved == 1 else f'{moved} times'}")
    if isinstance(waited, float):
        said.append(f"waited {waited:.1f} s")
    if said:
        yield "requests   " + ", ".join(said)
    if isinstance(earlier := end.get("earlier_runs"), int):
        yield f"sandbox    {earlier} {'run' if earlier == 1 else 'runs'} of its key had it before"


def _failure_lines(why: Mapping[str, Json]) -> Iterator[str]:
    """The error, with its traceback and what else is long below it, and the log."""
    error = why.get("error")
    given = dict(error) if isinstance(error, dict) else {}
    long = [text for name in ("traceback", "stderr") if isinstance(text := given.pop(name, None), str) and text]
    for name, value in given.items():
        if value not in (None, ""):
            yield as_line(f"{'error' if name == 'message' else one_line(name):9}  {one_line(str(value))}")
    for text in long:
        yield ""
        yield as_words(text.rstrip())
    logs = why.get("logs")
    if isinstance(logs, list) and logs:
        yield ""
        if dropped := why.get("dropped"):
            yield f"log: {dropped} lines before these are not kept"
        for level, message in (line for line in logs if isinstance(line, list) and len(line) == 2):
            yield as_line(f"log: {level}: {one_line(str(message))}")
