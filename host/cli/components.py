"""What the commands about installed components share: how one is shown, and what to type next."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from host.registry.local import Component


def as_facts(component: Component) -> dict[str, Any]:
    return {
        "reference": str(component.reference),
        "digest": str(component.digest),
        "size": component.size,
        "description": component.description,
        "imports": list(component.imports),
        "source": component.source,
        "registered_at": component.registered_at,
        "approved": component.approved,
        "manifest": None if component.manifest is None else asdict(component.manifest),
    }


def next_step(component: Component) -> str:
    if not component.approved:
        return f"not approved yet: host approve {component.reference}"
    manifest = component.manifest
    lines = [f"next: host inspect {component.reference}"]
    lines += [
        f"      host secret set {secret.name}; host secret grant {component.reference} {secret.name}"
        for secret in (manifest.secrets if manifest else ())
    ]
    domains = [domain for domain in (manifest.domains if manifest else None) or () if "{" not in domain]
    if domains:
        said = shlex.quote("[" + ", ".join(f'"{domain}"' for domain in domains) + "]")
        lines.append(f"      host policy set {component.reference} allowed_domains {said}")
    return "\n".join(lines)
