"""`host signing-key`: the operator's own keys to sign components with, sealed in the vault."""

from __future__ import annotations

import click

from host.cli.show import as_json, errors_shown, local_time, put, say
from host.cli.state import opened
from host.cli.table import table
from host.errors import InputError
from host.names import SecretName


@click.group("signing-key", short_help="Keep keys to sign components with.")
def command() -> None:
    """Keep keys to sign components with. The private half never leaves the vault; others are given the public one."""


@command.command("generate", short_help="Make a key.")
@click.argument("name", metavar="NAME")
@click.option(
    "--algorithm",
    type=click.Choice(["ecdsa-p256", "ed25519"]),
    default="ecdsa-p256",
    show_default=True,
    help="ed25519 is verified here and by cosign, not by every Sigstore client.",
)
def generate(*, name: str, algorithm: str) -> None:
    """Make the key NAME, and print its public half (PEM): what others trust.

    \b
    host signing-key generate acme >acme.pem
    host trust add acme.pem --namespace acme
    host sign dist/tool.wasm --key acme
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown():
        named = _name(name)
        with opened() as workspace:
            key = workspace.signing_keys.generate(named, "ed25519" if algorithm == "ed25519" else "ecdsa-p256").public
        put(key.pem.rstrip("\n"))
        say(f"made {named}: {key.algorithm}, {key.id}")


@command.command("list", short_help="List the keys.")
@click.option("--json", "in_json", is_flag=True, help="Print a JSON list.")
def list_(*, in_json: bool) -> None:
    """List the keys by name."""
    with errors_shown(in_json=in_json):
        with opened() as workspace:
            found = workspace.signing_keys.all()
        if in_json:
            facts = [
                {
                    "name": str(one.name),
                    "id": one.public.id,
                    "algorithm": one.public.algorithm,
                    "made_at": one.made_at,
                    "public_key": one.public.pem,
                }
                for one in found
            ]
            put(as_json(facts))
            return
        if not found:
            say("there is no signing key: host signing-key generate NAME")
        rows = ((str(one.name), one.public.algorithm, local_time(one.made_at), one.public.id) for one in found)
        for line in table(("name", "algorithm", "made", "key"), rows):
            put(line)


@command.command("export", short_help="Print a key's public half.")
@click.argument("name", metavar="NAME")
def export(*, name: str) -> None:
    """Print the public half of the key NAME (PEM), for those who are to trust it."""
    with errors_shown():
        named = _name(name)
        with opened() as workspace:
            put(workspace.signing_keys.get(named).public.pem.rstrip("\n"))


def _name(text: str) -> SecretName:
    try:
        return SecretName.parse(text)
    except InputError:
        raise InputError(
            f"{text[:80]!r} is not the name of a key", field="NAME", hint="letters, digits, _ . and -, like acme"
        ) from None
