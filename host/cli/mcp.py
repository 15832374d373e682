"""`host mcp`: what is installed, as tools for a program that starts this one."""

from __future__ import annotations

import sys

import click

from host.cli.show import errors_shown, say
from host.cli.state import opened
from host.errors import StateError
from host.names import Reference


@click.command("mcp", short_help="Serve MCP to a desktop client, over standard input and output.")
@click.option("--reference", "references", multiple=True, metavar="REF", help="Only these catalysts; all without one.")
@click.option(
    "--manage",
    is_flag=True,
    help="Also the tools that set secrets and policies. An agent reads what strangers wrote, and may do what it says.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="The least that is logged, on standard error.",
)
def command(*, references: tuple[str, ...], manage: bool, log_level: str) -> None:
    """Serve what is installed as tools, by the Model Context Protocol, to a program that starts this one. Each run is
    in a sandbox, with what was granted to its catalyst and nothing else.

    In the configuration of a desktop client:

    \b
    {
      "mcpServers": {
        "catalysts": {"command": "host", "args": ["mcp"]}
      }
    }

    It may run operations, look at runs, and see what is installed; to change anything takes --manage. It ends with its
    standard input.
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown():
        only = [Reference.parse(text) for text in references]
        try:
            from host.server import logs  # noqa: PLC0415 - not for `--help`
            from host.server.mcp.program import serve  # noqa: PLC0415 - as above
        except ModuleNotFoundError as error:
            raise StateError(
                f"this needs {error.name}, which is not installed", hint="pip install 'catalyst-host[serve]'"
            ) from None
        if only:
            with opened() as workspace:
                there = {one.reference for one in workspace.components.all()}
            for reference in only:
                if reference not in there and reference not in {one.any_version for one in there}:
                    say(f"there is no {reference}; it is served once it is there (host register)")
        if sys.stdin.isatty():
            say("reading MCP messages from standard input, which a client usually writes (Ctrl-D ends it)")
        logs.configure(level=log_level, in_json=not sys.stderr.isatty())
        serve(only, manage=manage)
