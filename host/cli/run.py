"""`host run`: one operation, from a file."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import click

from host.attachments import Attachment
from host.cli import needs
from host.cli.authority import Given, authority_options, given
from host.cli.show import as_json, errors_shown, say
from host.envelope import Result
from host.errors import Denied, InputError, OperationFailed
from host.manifest import Manifest
from host.policy.units import parse_duration
from host.runtime import Catalyst, Host


@click.command("run")
@click.argument("file", metavar="FILE")
@click.option(
    "--input",
    "input_",
    required=True,
    metavar="JSON|@FILE|-",
    help="The operation, as JSON text, from a file or stdin.",
)
@authority_options
@click.option("--attach", multiple=True, metavar="NAME=PATH", help='Bytes for {"$attachment": NAME} in the input.')
@click.option("--stream", is_flag=True, help="Print events as they arrive, one JSON text a line.")
@click.option(
    "--output", metavar="PATH", help="Write the result there; the bytes themselves where it is binary. - is stdout."
)
@click.option("--timeout", metavar="DURATION", help="For the whole run: 500ms, 30s, 5m.")
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object with the record of the run; errors too.")
@click.option("--no-prompt", is_flag=True, help="Never ask, also on a terminal.")
def command(
    file: str,
    input_: str,
    attach: tuple[str, ...],
    output: str | None,
    timeout: str | None,
    *,
    stream: bool,
    in_json: bool,
    no_prompt: bool,
    **authority: Any,
) -> None:
    """Run one operation of the catalyst in FILE, in a sandbox that may do what the options grant and nothing else.

    \b
    host run dist/openai.wasm --allow-domain api.openai.com --secret OPENAI_API_KEY \\
        --input '{"operation": "models.list"}'
    """
    with errors_shown(in_json=in_json):
        granted = given(**authority)
        seconds = None if timeout is None else parse_duration(timeout)
        attachments = dict(_attachment(text) for text in attach)
        text = _read_input(input_)
        with Host() as host:
            wasm = _read_file(file)
            if not no_prompt and input_ != "-" and needs.may_ask():
                needs.ask(needs.unmet(Manifest.embedded(wasm), granted), granted, file)
            catalyst = host.load(
                wasm, policy=granted.policy, secrets=granted.secrets, config=granted.config, reference=file
            )
            with _denial_explained(catalyst, granted, file, in_json=in_json):
                if stream:
                    result = _stream(catalyst, text, seconds, attachments)
                else:
                    result = catalyst.run(text, timeout=seconds, attachments=attachments)
                    _show(result, output, in_json=in_json)
        sys.exit(0 if result.ok else 1)


class _denial_explained:  # noqa: N801 - a context manager, used like a function
    """A denial goes on, after the command that would allow what the manifest asks for was shown."""

    def __init__(self, catalyst: Catalyst, granted: Given, file: str, *, in_json: bool) -> None:
        self._catalyst, self._granted, self._file, self._in_json = catalyst, granted, file, in_json

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Denied) and not self._in_json:
            say(error.message)
            needs.say_how(needs.unmet(self._catalyst.manifest, self._granted), self._file)
            sys.exit(error.exit_status)


def _stream(catalyst: Catalyst, text: str, seconds: float | None, attachments: dict[str, Attachment]) -> Result:
    with catalyst.stream(text, timeout=seconds, attachments=attachments) as events:
        try:
            for event in events:
                click.echo(as_json(event, pretty=False))
        except OperationFailed as error:
            click.echo(as_json(error.result.as_dict(), pretty=False))
            say(f"the operation ended in status {error.result.status}")
        return events.result


def _show(result: Result, output: str | None, *, in_json: bool) -> None:
    if output is not None and result.ok:
        _write(result, output)
        if in_json:
            click.echo(as_json({"status": result.status, "output": output, "execution": _record(result)}))
        return
    inline = not sys.stdout.isatty()
    shown = _with_bytes(result.as_dict(), result, inline=inline)
    if in_json:
        shown["execution"] = _record(result)
    click.echo(as_json(shown))
    if result.attachments and not inline:
        say("the result has binary parts: --output PATH writes them")
    if not result.ok and not in_json:
        say(f"the operation ended in status {result.status}")


def _write(result: Result, output: str) -> None:
    try:
        content = result.content
    except InputError:
        content = (as_json(_with_bytes(result.data, result, inline=True), pretty=False) + "\n").encode()
    if output == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    try:
        Path(output).write_bytes(content)
    except OSError as error:
        raise InputError(f"cannot write {output!r}: {error.strerror}", field="--output") from None
    say(f"wrote {len(content)} bytes to {output}")


def _with_bytes(value: Any, result: Result, *, inline: bool) -> Any:
    """`value` with each attachment's bytes beside its size, as base64, where they are to be inline."""
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


def _read_input(given_: str) -> str:
    if given_ == "-":
        return sys.stdin.read()
    if given_.startswith("@"):
        return _read_file(given_[1:]).decode("utf-8", "replace")
    return given_


def _read_file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path!r}: {error.strerror}") from None


def _attachment(text: str) -> tuple[str, Attachment]:
    name, separator, path = text.partition("=")
    if not separator or not name:
        raise InputError(f"--attach {text!r} is not NAME=PATH", field="--attach")
    return name, Attachment.read(path)
