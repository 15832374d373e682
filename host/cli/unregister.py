"""`host unregister`: takes components away again."""

from __future__ import annotations

import click

from host.cli.show import errors_shown, put, say
from host.cli.sources import source_named
from host.cli.state import opened
from host.names import Reference


@click.command("unregister", short_help="Remove what is installed.")
@click.argument("reference", metavar="REF", nargs=-1, required=True)
def command(*, reference: tuple[str, ...]) -> None:
    """Remove the version that REF names, or all versions. Policies, grants and the record stay."""
    with errors_shown():
        named = Reference.parse(source_named(reference))
        with opened() as workspace:
            for one in workspace.components.unregister(named):
                put(f"{one.reference} {one.digest.short}")
        say(f"removed; what was granted to it stays: host policy reset {named}, host secret revoke {named} NAME")
