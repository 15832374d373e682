"""`host approve`: lets other bytes use what was granted, after a look at what they ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from host.cli.needs import may_ask
from host.cli.show import as_line, errors_shown, put, say
from host.cli.sources import source_named
from host.cli.state import opened
from host.errors import NotApproved
from host.names import Reference

if TYPE_CHECKING:
    from host.registry.approvals import Review
    from host.workspace import Installed


@click.command("approve", short_help="Let a component's new bytes use what was granted.")
@click.argument("reference", metavar="REF", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(*, reference: tuple[str, ...], yes: bool) -> None:
    """Show what the bytes of REF ask for beside those that were approved last, and what is granted; then approve them.

    What was granted to a reference is for the bytes that were approved. Others of the same name run only after this.
    """
    with errors_shown():
        named = Reference.parse(source_named(reference))
        with opened() as workspace:
            installed = workspace.installed(named, approved=False)
            component = installed.component
            if component.approved:
                say(f"{component.reference} ({component.digest.short}) is approved already")
                return
            for line in _page(workspace.review(component), installed):
                put(as_line(line))
            if not yes and not (may_ask() and click.confirm("Approve these bytes?", default=False, err=True)):
                raise NotApproved(f"{component.reference} is not approved", hint="answer with yes, or add --yes")
            workspace.components.approve(component)
            say(f"approved: {component.reference} ({component.digest.short})")


def _page(review: Review, installed: Installed) -> Iterator[str]:
    component, difference = review.component, review.difference
    before = review.before.short if review.before else "none"
    yield f"{component.reference}: {before} was approved, {component.digest.short} is new"
    yield f"signed {', '.join(f'by {signer}' for signer in installed.signers) or 'by nobody that is trusted'}"
    yield ""
    yield "it asks for" + ("" if difference.more or difference.less else " the same as before")
    for kind, name in difference.more:
        yield f"+ {kind} {name}"
    for kind, name in difference.less:
        yield f"- {kind} {name}"
    yield ""
    yield "it will be granted"
    domains = ", ".join(installed.effective.policy.allowed_domains) or "no domain"
    yield f"  domains {domains}"
    yield f"  secrets {', '.join(map(str, installed.secrets)) or 'none'}"
