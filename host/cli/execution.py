"""One run for `host run`: its input, the questions before it, and its result to standard output or a file."""

from __future__ import annotations

import base64
import codecs
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from host.cli import conversation
from host.cli.inputs import OutputFile, blaming, read_bytes, write_output
from host.cli.output import missing_permissions
from host.cli.output.terminal import as_json, document_text, may_ask, put, say, say_logs, say_rerouted
from host.cli.permissions import read_permissions
from host.cli.targets import FileTarget, Job, RunTarget
from host.core.operation import Attachment, Result, read_input
from host.core.quantities import parse_duration
from host.core.strict_json import Json
from host.errors import Denied, InputError, OperationFailed, StateError

if TYPE_CHECKING:
    from host.runtime.catalyst import Catalyst
    from host.runtime.events import EventStream

_INPUT_HINT = 'JSON like {"operation": "models.list"}, @FILE, or - for standard input'


def execute(
    target: RunTarget,
    *,
    input_: str,
    attach: tuple[str, ...],
    stream: bool,
    output: str | None,
    timeout: str | None,
    in_json: bool,
    no_prompt: bool,
    **authority: Any,
) -> int:
    """The exit status of the operation: 0 or 1. Raises HostError for everything else."""
    _check_output(output, stream=stream)
    granted = read_permissions(target.permissions, **authority)
    given_input, seconds = _operation(input_), _seconds(timeout)
    if seconds is not None and isinstance(target, FileTarget) and not authority["policy_file"]:
        granted = granted.with_time(seconds)
    attachments = dict(_attachment(text) for text in attach)
    sink = None
    if output is not None and not stream and not (output == "-" and sys.stdout.isatty()):
        sink = OutputFile(output, "--output")
    job = Job(given_input, attachments, seconds, None if sink is None else sink.write)
    manifest = target.manifest
    if not no_prompt and input_ != "-" and may_ask():
        granted = missing_permissions.ask(manifest, granted, target.name)
    with target.catalyst(granted) as catalyst, sink or nullcontext():
        try:
            if stream and conversation.connects(catalyst, given_input):
                result = _converse(target, catalyst, job, from_input=input_ == "-", in_json=in_json)
            elif stream:
                with target.stream(catalyst, job) as events:
                    result = _show_events(events, in_json=in_json)
            else:
                result = target.run(catalyst, job)
                _show(result, output, sink, in_json=in_json)
        except Denied as denied:
            denied.hint = target.hint(granted, denied.refusals)
            raise
    if not in_json:  # there they are in the record
        say_rerouted(result.execution)
        say_logs(result.execution)
    return 0 if result.ok else 1


def _converse(target: RunTarget, catalyst: Catalyst, job: Job, *, from_input: bool, in_json: bool) -> Result:
    if from_input or job.attachments:
        field = "--input" if from_input else "--attach"
        hint = "--input JSON or @FILE: standard input has the events" if from_input else "send the bytes in events"
        raise InputError(f"{field} does not go with a connection", field=field, hint=hint)
    with target.connect(catalyst, job) as connection:
        result = conversation.show_conversation(connection)
    if in_json or not result.ok:
        last = result.as_dict()
        put(as_json({**last, "execution": _record(result)} if in_json else last, pretty=False))
    return result


def _show_events(events: EventStream, *, in_json: bool) -> Result:
    shown = 0
    try:
        for shown, event in enumerate(events, start=1):  # noqa: B007 - the count is used after the loop
            put(as_json(event, pretty=False))
    except OperationFailed as error:
        say(f"the operation ended in status {error.result.status}")
    result = events.result
    if _as_it_came(result):
        _put_document(result, in_json=in_json)
        return result
    last: dict[str, Any] = {} if result.ok and shown else _with_bytes(result.as_dict(), result, inline=True)
    if in_json:
        last = {"status": result.status, **last, "execution": _record(result)}
    if last:
        put(as_json(last, pretty=False))
    return result


def _as_it_came(result: Result) -> bool:
    """Whether the result is a document that is printed as it came: always into a file or a pipe, and on a terminal if
    it is long, or holds what strict readers refuse."""
    return result.ok and result.document is not None and (result.brief is not None or not sys.stdout.isatty())


def _put_document(result: Result, *, in_json: bool) -> None:
    more = f',"execution":{as_json(_record(result), pretty=False)}' if in_json else ""
    put(f'{{"status":{result.status},"data":{document_text(result.document or b"")}{more}}}')


def _show(result: Result, output: str | None, sink: OutputFile | None, *, in_json: bool) -> None:
    on_terminal = sys.stdout.isatty()
    shown: dict[str, Any]
    if output is None or not result.ok or (output == "-" and on_terminal):
        if _as_it_came(result):
            _put_document(result, in_json=in_json)
            return
        shown = _with_bytes(result.as_dict(), result, inline=not on_terminal)
        if result.attachments and on_terminal:
            say("the result has binary parts, which --output FILE writes to a file")
    else:
        _write(result, output, sink)
        if output == "-" or not in_json:
            return
        shown = {"status": result.status, "output": output}
    if in_json:
        shown["execution"] = _record(result)
    put(as_json(shown))
    if not result.ok:
        say(f"the operation ended in status {result.status}")


def _write(result: Result, output: str, sink: OutputFile | None) -> None:
    if sink is not None and sink.written is not None:
        sink.keep()
        if output != "-":
            say(f"wrote {sink.written} bytes to {output}")
        return
    try:
        content = result.content if result.document is None else result.document
    except InputError:
        content = (as_json(_with_bytes(result.data, result, inline=True), pretty=False) + "\n").encode()
    write_output(output, content)
    if output != "-":
        say(f"wrote {len(content)} bytes to {output}")


def _with_bytes(value: Any, result: Result, *, inline: bool) -> Any:
    """`value` with the size of each attachment, and with its bytes in base64 if they are to be inline."""
    match value:
        case {"$attachment": ident, **more} if ident in result.attachments:
            held = result.attachments[ident]
            known = {"content_type": held.content_type, "size": len(held.data), **more}
            return {**known, "base64": base64.b64encode(held.data).decode("ascii")} if inline else known
        case dict():
            return {key: _with_bytes(inner, result, inline=inline) for key, inner in value.items()}
        case list():
            return [_with_bytes(inner, result, inline=inline) for inner in value]
    return value


def _record(result: Result) -> dict[str, Any]:
    from dataclasses import asdict  # noqa: PLC0415 - only --json needs it

    return asdict(result.execution)


def _check_output(output: str | None, *, stream: bool) -> None:
    """Before the run, which may cost money. Raises InputError, StateError."""
    if output in (None, "-") and not sys.stdout.writable():
        raise StateError("standard output is closed: the result would be lost", hint="-o FILE, or >/dev/null")
    if output is None:
        return
    if stream:
        raise InputError("--output does not go with --stream", field="--output", hint="redirect standard output")
    if not Path(output).parent.is_dir():
        raise InputError(f"--output: there is no directory {str(Path(output).parent)!r}", field="--output")
    if Path(output).is_dir():
        raise InputError(f"--output: {output!r} is a directory", field="--output")
    if output != "-" and not os.access(output if Path(output).exists() else Path(output).parent, os.W_OK):
        raise InputError(f"--output: {output!r} cannot be written", field="--output")


def _operation(text: str) -> dict[str, Json]:
    with blaming("--input", hint=_INPUT_HINT):
        if text == "-":
            return read_input(sys.stdin.buffer.read())
        if text.startswith("@"):
            return read_input(read_bytes(text[1:], "--input").removeprefix(codecs.BOM_UTF8))
        return read_input(os.fsencode(text))  # the bytes that were typed, in whatever locale


def _seconds(timeout: str | None) -> float | None:
    with blaming("--timeout"):
        if timeout is None:
            return None
        return parse_duration(float(timeout) if timeout.replace(".", "", 1).isdecimal() else timeout)


def _attachment(text: str) -> tuple[str, Attachment]:
    name, separator, path = text.partition("=")
    if not separator or not name:
        raise InputError(f"--attach: {text!r} is not NAME=FILE", field="--attach")
    with blaming("--attach"):
        return name, Attachment.read(path)
