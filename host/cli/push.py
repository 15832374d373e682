"""`host push`: hands an installed component on, through a registry."""

from __future__ import annotations

from dataclasses import replace

import click

from host.cli.bars import Bars
from host.cli.show import errors_shown, put, say
from host.cli.sources import source_named
from host.cli.state import opened
from host.names import Reference


@click.command("push", short_help="Put a component into a registry.")
@click.argument("reference", metavar="REF", nargs=-1, required=True)
@click.argument("target", metavar="oci://REGISTRY/NAME[:TAG]")
@click.option("--plain-http", is_flag=True, help="The registry speaks HTTP without TLS (on loopback it may anyway).")
def command(*, reference: tuple[str, ...], target: str, plain_http: bool) -> None:
    """Put the component that is installed under REF, and its signatures, into a registry; print the reference by digest
    under which these very bytes can be had.

    Credentials are docker's: see `docker login`.
    """
    with errors_shown():
        from host.registry.oci.reference import OciReference  # noqa: PLC0415 - not for `--help`

        named = Reference.parse(source_named(reference))
        at = OciReference.parse(target)
        with opened() as workspace:
            component = workspace.components.resolve(named)
            if not workspace.components.bundles(component.digest):
                say(f"{component.reference} is not signed, and so nobody can pull it: host sign {component.reference}")
            digest = workspace.push(component.reference, target, plain_http=plain_http, progress=Bars())
        put(str(replace(at, tag="", digest=digest)))
