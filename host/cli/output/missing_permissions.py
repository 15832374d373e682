"""What a catalyst's manifest asks for and nobody has granted yet: asked once on a terminal, listed elsewhere."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import click

from host.cli.options import Given, ask_secret, with_domains
from host.cli.output.terminal import one_line, say
from host.component.manifest import Manifest, SecretNeed
from host.errors import Refusal
from host.policy.domains import DomainPattern
from host.policy.permissions import overlap, requested_by


@dataclass(frozen=True, slots=True)
class MissingPermissions:
    """`domains` and `secrets` that the manifest names and the grant lacks."""

    domains: tuple[DomainPattern, ...] = ()
    secrets: tuple[SecretNeed, ...] = ()

    def options(self) -> str:
        """The options of `host run` that would grant all of it, as a shell reads them."""
        domains = [word for domain in self.domains for word in ("--allow-domain", str(domain))]
        return shlex.join(domains + [word for secret in self.secrets for word in ("--secret", secret.name)])

    def hint(self, refusals: Iterable[Refusal]) -> str | None:
        """After a denial for the lack of one of these: what would allow all that the manifest asks for."""
        lacking = {"domain_blocked": self.domains, "secret_denied": self.secrets}
        if not any(lacking.get(refusal.kind) for refusal in refusals if refusal.grantable):
            return None
        return f"to allow all that its manifest asks for, add {self.options()}"

    def __bool__(self) -> bool:
        return bool(self.domains or self.secrets)


def unmet(manifest: Manifest | None, given: Given) -> MissingPermissions:
    if manifest is None:
        return MissingPermissions()
    allowed = given.policy.terms().domains
    asked = requested_by(manifest, given.config).domains or ()
    return MissingPermissions(
        tuple(domain for domain in asked if not any(overlap(domain, one) for one in allowed)),
        tuple(
            secret
            for secret in manifest.secrets
            if secret.required and secret.name not in given.secrets and secret.name not in given.kept
        ),
    )


def ask(needs: MissingPermissions, given: Given, name: str) -> None:
    """Ask on the terminal for each need, once, and add to `given` what is allowed: for this run only."""
    name = one_line(name)
    for domain in needs.domains:
        if _confirmed(f"{name} asks to reach {domain}. Allow it for this run?"):
            given.policy = with_domains(given.policy, str(domain))
    for secret in needs.secrets:
        about = f" ({one_line(secret.description)})" if secret.description else ""
        say(f"{name} asks for the secret {secret.name}{about}; it never sees the value.")
        found = given.find(secret.name)
        if found and _confirmed(f"Use {found.place}?"):
            given.secrets[secret.name] = found.value
        elif not found and (value := ask_secret(f"{secret.name}, or nothing to refuse")):
            given.secrets[secret.name] = value


def may_ask() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _confirmed(question: str) -> bool:
    return click.confirm(question, default=False, err=True)
