"""`host pull`: installs a component from a registry."""

from __future__ import annotations

import click

from host.cli.bars import Bars
from host.cli.components import as_facts, next_step
from host.cli.show import as_json, errors_shown, one_line, put, say
from host.cli.state import opened


@click.command("pull", short_help="Install a component from a registry.")
@click.argument("source", metavar="oci://REGISTRY/NAME[:TAG][@DIGEST]")
@click.option("--replace", is_flag=True, help="Take the place of other bytes of the same version.")
@click.option("--allow-older", is_flag=True, help="Although a newer version was installed before.")
@click.option("--allow-import", multiple=True, metavar="NAME", help="A part of WASI that it may import, as for `run`.")
@click.option("--plain-http", is_flag=True, help="The registry speaks HTTP without TLS (on loopback it may anyway).")
@click.option("--json", "in_json", is_flag=True, help="Print a JSON object.")
def command(
    *, source: str, replace: bool, allow_older: bool, allow_import: tuple[str, ...], plain_http: bool, in_json: bool
) -> None:
    """Install the component that an OCI reference names, under the reference that its manifest has.

    Its signatures come with it, and are verified as `host trust` says before anything is kept. A pull that broke off is
    continued. Credentials are docker's: see `docker login`.
    """
    with errors_shown(in_json=in_json):
        from host.loader import Loader  # noqa: PLC0415 - not for `--help`

        with opened() as workspace:
            one = workspace.pull(
                source,
                Loader(),
                replace=replace,
                older=allow_older,
                wasi=allow_import,
                plain_http=plain_http,
                progress=Bars(),
            )
            step = "" if in_json else next_step(workspace, one)
        if in_json:
            put(as_json(as_facts(one)))
            return
        put(one_line(f"{one.reference} {one.digest.short} {one.description}"))
        say(step)
