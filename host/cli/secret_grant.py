"""`host secret grant` and `revoke`: which component may use which secret."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from host.cli.show import as_line, errors_shown, say
from host.cli.sources import source_named
from host.cli.state import opened
from host.errors import InputError
from host.names import Reference, SecretName
from host.policy.asked import asked_by
from host.policy.secrets import PLACES, Place

if TYPE_CHECKING:
    from host.workspace import Workspace


@click.command("grant", short_help="Let a component use a secret.")
@click.argument("reference", metavar="REF", nargs=-1, required=True)
@click.argument("name", metavar="NAME")
@click.option(
    "--domain", "domains", multiple=True, metavar="DOMAIN", help="Where it may go; without one: where its policy says."
)
@click.option(
    "--in",
    "places",
    multiple=True,
    type=click.Choice(PLACES),
    help="Where in a request; without one: in a header.",
)
@click.option("--reveal", is_flag=True, help="Let the component see the value, for one that computes with it.")
def grant(
    *,
    reference: tuple[str, ...],
    name: str,
    domains: tuple[str, ...],
    places: tuple[Place, ...],
    reveal: bool,
) -> None:
    """Let the component REF use the secret NAME: that version, or all versions where REF names none.

    \b
    host secret grant c:local.openai OPENAI_API_KEY
    host secret grant c:local.openai:0.1.0 OPENAI_API_KEY --domain api.openai.com
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown():
        named, secret = Reference.parse(source_named(reference)), SecretName.parse(name)
        with opened() as workspace:
            workspace.grants.grant(named, secret, domains=domains or None, places=places or ("header",), reveal=reveal)
            say(f"{secret} is granted to {_scope(named)}")
            if reveal:
                say("warning: it sees the value, and may do with it whatever it may do")
            for line in _open_ends(workspace, named, secret):
                say(line)


@click.command("revoke", short_help="Take a grant back.")
@click.argument("reference", metavar="REF", nargs=-1, required=True)
@click.argument("name", metavar="NAME")
def revoke(*, reference: tuple[str, ...], name: str) -> None:
    """Take back that the component REF may use the secret NAME; where REF names no version, from every version."""
    with errors_shown():
        named, secret = Reference.parse(source_named(reference)), SecretName.parse(name)
        with opened() as workspace:
            workspace.grants.revoke(named, secret)
            left = secret in workspace.grants.of(named)
        say(f"{secret} is no longer granted to {_scope(named)}" + (" alone" if left else ""))
        if left:
            say(f"all versions still have it: host secret revoke {named.any_version} {secret}")


def _open_ends(workspace: Workspace, reference: Reference, name: SecretName) -> Iterator[str]:
    """What is missing before the component can use it."""
    there = workspace.components.versions(reference)
    if not there:
        yield f"note: nothing is registered as {reference} yet: host register"
    asked = [asked_by(one.manifest, {}).secrets for one in there if one.manifest is not None]
    if asked and all(names is not None and name not in names for names in asked):
        yield f"note: its manifest does not ask for {name}, and so nothing comes of it"
    try:
        if workspace.sources.find(name) is None:
            yield f"next: host secret set {name}"
    except InputError as error:
        yield f"note: {error.message}"
    if not workspace.policies.effective(reference).policy.allowed_domains:
        named = {text: None for one in there if one.manifest for text in one.manifest.domains or () if "{" not in text}
        said = shlex.quote(json.dumps([*named] or ["DOMAIN"]))
        yield as_line(f"next: host policy set {reference} allowed_domains {said}")


def _scope(reference: Reference) -> str:
    return str(reference) if reference.version else f"{reference}, all versions"
