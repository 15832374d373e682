"""What a catalyst's manifest asks for and nobody has granted yet: asked once on a terminal, listed elsewhere."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass

import click

from host.cli.authority import Given, ask_secret, widened
from host.cli.show import as_words, say
from host.manifest import Manifest, SecretNeed
from host.policy.asked import asked_by
from host.policy.domains import DomainPattern


@dataclass(frozen=True, slots=True)
class Needs:
    """`domains` and `secrets` that the manifest names and the grant lacks."""

    domains: tuple[DomainPattern, ...]
    secrets: tuple[SecretNeed, ...]

    def options(self) -> list[str]:
        """The options of `host run` that would grant all of it."""
        domains = [word for domain in self.domains for word in ("--allow-domain", str(domain))]
        return domains + [word for secret in self.secrets for word in ("--secret", secret.name)]

    def __bool__(self) -> bool:
        return bool(self.domains or self.secrets)


def unmet(manifest: Manifest | None, given: Given) -> Needs:
    if manifest is None:
        return Needs((), ())
    allowed = set(given.policy.terms().domains)
    asked = asked_by(manifest, given.config).domains or ()
    return Needs(
        tuple(domain for domain in asked if domain not in allowed),
        tuple(secret for secret in manifest.secrets if secret.required and secret.name not in given.secrets),
    )


def ask(needs: Needs, given: Given, name: str) -> None:
    """Ask the terminal for each need, once, and add to `given` what is allowed: for this run only."""
    for domain in needs.domains:
        if click.confirm(as_words(f"{name} asks to reach {domain}. Allow it for this run?"), default=False, err=True):
            given.policy = widened(given.policy, (str(domain),))
    for secret in needs.secrets:
        about = f" ({secret.description})" if secret.description else ""
        say(f"{name} asks for the secret {secret.name}{about}; it never sees the value.")
        found = os.environ.get(secret.name, "")
        if found and click.confirm(f"Use the variable {secret.name} of your environment?", default=False, err=True):
            given.secrets[secret.name] = found
        elif not found and (value := ask_secret(f"{secret.name}, or nothing to refuse")):
            given.secrets[secret.name] = value


def may_ask() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def say_how(needs: Needs, file: str) -> None:
    """After a denial: the command that would allow all that the manifest asks for."""
    if needs:
        command = shlex.join(["host", "run", file, *needs.options()])
        say(f"its manifest asks for this; to allow it: {command} …")
