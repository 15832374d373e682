"""`host fake`: deterministic stand-ins for outside services, for tests."""

from __future__ import annotations

import click

from host.cli.show import errors_shown


@click.group("fake", short_help="Run a stand-in for an outside service.")
def command() -> None:
    """Run a deterministic fake of an outside service, on the loopback interface."""


@command.command("openai", short_help="A deterministic OpenAI API.")
@click.option("--port", default=4747, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
def openai(port: int) -> None:
    """An OpenAI API whose answers follow from the requests alone: no key, no cost, no network."""
    from host.fakes import FakeOpenAI  # noqa: PLC0415 - only this command needs it

    with errors_shown():
        FakeOpenAI(port=port).serve_forever(
            lambda url: click.echo(f"fake OpenAI on {url}/v1 (any key will do; Ctrl-C ends it)")
        )
