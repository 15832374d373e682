"""`host run`: one operation, of a file or of an installed component.

Beyond its options it needs most of the host. That is imported while the component loads on a thread of its own: both
take about as long.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from host.cli.inputs import is_reference, source_named
from host.cli.options import output_option, permission_options
from host.cli.output.terminal import errors_shown


@click.command("run", short_help="Run one operation of a catalyst.")
@click.argument("source", metavar="FILE|REF", nargs=-1, required=True)
@click.option("--input", "input_", required=True, metavar="JSON|@FILE|-", help="The operation: a JSON object.")
@permission_options
@click.option("--attach", multiple=True, metavar="NAME=FILE", help='Bytes for {"$attachment": NAME} in the input.')
@click.option(
    "--stream",
    is_flag=True,
    help="Print events as they arrive, one JSON text a line. Of a connection, send those of standard input.",
)
@output_option("Write the result to this file, the bytes themselves if it is binary; - is standard output.")
@click.option(
    "--timeout", metavar="DURATION", help="The time for the whole run: 500ms, 30s, 5m.", show_default="the policy's"
)
@click.option("--json", "in_json", is_flag=True, help="Add the record of the run to the result; errors in JSON, too.")
@click.option("--no-prompt", is_flag=True, help="Never ask, also on a terminal.")
def run(*, source: tuple[str, ...], in_json: bool, **options: Any) -> None:
    """Run one operation of the catalyst in FILE, in a sandbox with the permissions of the options and no others; or of
    the one that is installed under REF, which has its own grants too. A REF of a registry (oci://…) is pulled first, as
    by `host pull`.

    FILE is the path of a component, or `openai`, the catalyst that comes with this program.

    \b
    host run openai \\
        --allow-domain api.openai.com --secret OPENAI_API_KEY \\
        --input '{"operation": "models.list"}'
    host run c:local.openai --input '{"operation": "models.list"}'
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown(in_json=in_json):
        name = source_named(source)
        if is_reference(name):
            sys.exit(_run_installed(name, in_json=in_json, **options))
        sys.exit(_run_file(name, in_json=in_json, **options))


def _run_file(name: str, **options: Any) -> int:
    from host.runtime.preload import Preload, load_file  # noqa: PLC0415 - not for `--help`

    ahead = Preload(partial(load_file, name, wasi=options["allow_import"]))
    import host.component.manifest  # noqa: PLC0415 - while the file is read and hashed: what `ahead` needs next
    import host.runtime.loader  # noqa: F401, PLC0415 - and then
    from host.cli.execution import execute  # noqa: PLC0415 - while the component loads
    from host.cli.targets import FileTarget  # noqa: PLC0415 - as above

    return execute(FileTarget(ahead, name), **options)


def _run_installed(name: str, **options: Any) -> int:
    from host.cli.targets import InstalledTarget  # noqa: PLC0415 - not for `--help`

    with InstalledTarget(name, wasi=options["allow_import"]) as target:
        from host.cli.execution import execute  # noqa: PLC0415 - while the component loads

        return execute(target, **options)
