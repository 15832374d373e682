"""`host list`: which components are installed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from host.cli.components import as_facts
from host.cli.show import as_json, errors_shown, put, say, size
from host.cli.state import opened
from host.cli.table import table, terminal_width

if TYPE_CHECKING:
    from host.registry.component import Component


@click.command("list", short_help="List what is installed.")
@click.option("--json", "in_json", is_flag=True, help="Print a JSON list.")
def command(*, in_json: bool) -> None:
    """List the components that are installed, by reference."""
    with errors_shown(in_json=in_json), opened() as workspace:
        show(workspace.components.all(), in_json=in_json, none="nothing is installed: host register, or host pull")


def show(found: Iterable[Component], *, in_json: bool, none: str) -> None:
    components = list(found)
    if in_json:
        put(as_json([as_facts(one) for one in components]))
        return
    if not components:
        say(none)
    for line in table(
        ("reference", "digest", "size", "approved", "description"),
        (
            (str(one.reference), one.digest.short, size(one.size), "yes" if one.approved else "no", one.description)
            for one in components
        ),
        width=terminal_width(),
    ):
        put(line)
