"""`host run`: one operation, of a file or of what is installed.

Beyond its options it needs most of the host. That is imported while the component loads, on a thread of its own: both
take about as long.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from host.cli.options import authority_options
from host.cli.show import errors_shown
from host.cli.sources import is_reference, source_named


@click.command("run", short_help="Run one operation of a catalyst.")
@click.argument("source", metavar="FILE|REF", nargs=-1, required=True)
@click.option("--input", "input_", required=True, metavar="JSON|@FILE|-", help="The operation: a JSON object.")
@authority_options
@click.option("--attach", multiple=True, metavar="NAME=PATH", help='Bytes for {"$attachment": NAME} in the input.')
@click.option("--stream", is_flag=True, help="Print events as they arrive, one JSON text a line.")
@click.option(
    "--output", metavar="PATH", help="Write the result there; the bytes themselves where it is binary. - is stdout."
)
@click.option("--timeout", metavar="DURATION", help="For the whole run: 500ms, 30s, 5m.")
@click.option("--json", "in_json", is_flag=True, help="Add the record of the run to the result; errors in JSON, too.")
@click.option("--no-prompt", is_flag=True, help="Never ask, also on a terminal.")
def command(*, source: tuple[str, ...], in_json: bool, **options: Any) -> None:
    """Run one operation of the catalyst in FILE, in a sandbox that may do what the options grant and nothing else; or
    of the one that is installed under REF, which may do what was kept for it as well. A REF of a registry (oci://…) is
    pulled first, as `host pull` does.

    \b
    host run dist/openai.wasm \\
        --allow-domain api.openai.com --secret OPENAI_API_KEY \\
        --input '{"operation": "models.list"}'
    host run c:local.openai --input '{"operation": "models.list"}'
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown(in_json=in_json):
        name = source_named(source)
        if is_reference(name):
            sys.exit(_kept(name, in_json=in_json, **options))
        sys.exit(_file(name, in_json=in_json, **options))


def _file(name: str, **options: Any) -> int:
    from host.ahead import Ahead, load_file  # noqa: PLC0415 - not for `--help`

    ahead = Ahead(partial(load_file, name, wasi=options["allow_import"]))
    import host.loader  # noqa: F401, PLC0415 - while the file is read: what `ahead` needs next
    from host.cli.execution import execute  # noqa: PLC0415 - while the component loads
    from host.cli.origins import File  # noqa: PLC0415 - as above

    return execute(File(ahead, name), **options)


def _kept(name: str, **options: Any) -> int:
    from host.cli.origins import Kept  # noqa: PLC0415 - not for `--help`

    with Kept(name, wasi=options["allow_import"]) as origin:
        from host.cli.execution import execute  # noqa: PLC0415 - while the component loads

        return execute(origin, **options)
