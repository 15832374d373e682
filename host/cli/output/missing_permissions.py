"""Permissions that a manifest requests and that are not granted yet: asked once on a terminal, listed elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from host.cli.output.terminal import confirmed, one_line, say
from host.cli.permissions import RunPermissions
from host.cli.secret_values import ask as ask_value
from host.component.manifest import Manifest, SecretNeed
from host.core.names import SecretName
from host.errors import Refusal
from host.policy.permissions import destinations_to_choose, overlap, requested_by
from host.policy.urls import DomainPattern


@dataclass(frozen=True, slots=True)
class MissingPermissions:
    """`domains` and required `secrets` that the manifest requests and the grant lacks."""

    domains: tuple[DomainPattern, ...] = ()
    secrets: tuple[SecretNeed, ...] = ()

    def options(self) -> str:
        """The options of `host run` that grant all of them, quoted for a shell."""
        domains = [word for domain in self.domains for word in ("--allow-domain", str(domain))]
        return shlex.join(domains + [word for secret in self.secrets for word in ("--secret", secret.name)])

    def hint(self, refusals: Iterable[Refusal]) -> str | None:
        """For the error after a denial, if the lack of one of them caused it."""
        lacking = {"domain_blocked": self.domains, "secret_denied": self.secrets}
        if not any(lacking.get(refusal.kind) for refusal in refusals if refusal.grantable):
            return None
        return f"to allow all that its manifest asks for, add {self.options()}"

    def __bool__(self) -> bool:
        return bool(self.domains or self.secrets)


def unmet(manifest: Manifest | None, permissions: RunPermissions) -> MissingPermissions:
    """The requests of `manifest` that `permissions` do not meet."""
    if manifest is None:
        return MissingPermissions()
    allowed = permissions.policy.terms().domains
    requested = requested_by(manifest, permissions.config).domains or ()
    return MissingPermissions(
        tuple(domain for domain in requested if not any(overlap(domain, one) for one in allowed)),
        tuple(
            secret
            for secret in manifest.secrets
            if secret.required and secret.name not in permissions.secrets and secret.name not in permissions.granted
        ),
    )


def ask(manifest: Manifest | None, permissions: RunPermissions, name: str) -> RunPermissions:
    """`permissions` and those that the operator grants on the terminal, for this run only. `name` is the catalyst's."""
    name, missing = one_line(name), unmet(manifest, permissions)
    requested = requested_by(manifest, permissions.config)
    for domain in missing.domains:
        if confirmed(f"{name} asks to reach {domain}. Allow it for this run?"):
            permissions = permissions.with_domains(str(domain))
    for secret in missing.secrets:
        about = f" ({one_line(secret.description)})" if secret.description else ""
        goes = str(requested.declared.get(SecretName.parse(secret.name), ""))
        say(f"{name} asks for the secret {secret.name}{about}; it never sees the value.")
        if goes:
            say(f"the value goes {goes}")
        if offered := permissions.find(secret.name):
            value = offered.value if confirmed(f"Use {offered.place}?") else None
        else:
            value = ask_value(f"{secret.name}, or nothing to refuse")
        if value is not None:
            permissions = permissions.with_secret(secret.name, value)
    for given in permissions.secrets:
        if given not in permissions.secret_domains:
            open_ = destinations_to_choose(SecretName.parse(given), permissions.policy, requested)
            chosen = [str(domain) for domain in open_ if confirmed(f"May {given} go to {domain}?")]
            permissions = permissions.with_secret_domains(given, *chosen) if open_ else permissions
    return permissions
