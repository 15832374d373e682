"""`host search`: finds installed components by words."""

from __future__ import annotations

import click

from host.cli.list import show
from host.cli.show import errors_shown
from host.cli.state import opened


@click.command("search", short_help="Search what is installed.")
@click.argument("words", nargs=-1, required=True)
@click.option("--json", "in_json", is_flag=True, help="Print a JSON list.")
def command(*, words: tuple[str, ...], in_json: bool) -> None:
    """List the installed components with every one of WORDS in their name, description, imports or secrets."""
    with errors_shown(in_json=in_json):
        text = " ".join(words)
        with opened() as workspace:
            show(workspace.components.search(text), in_json=in_json, none=f"nothing that is installed has {text!r}")
