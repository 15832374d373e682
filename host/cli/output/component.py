"""An installed component as the commands show it, and the commands to type next."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from host.cli.output.terminal import as_line
from host.core.names import SecretName
from host.errors import InputError
from host.policy.document import DEFAULT

if TYPE_CHECKING:
    from host.runtime.workspace import Workspace
    from host.store.components import Component


_SHOWN = ("reference", "digest", "size", "description", "imports", "source", "registered_at", "approved")


def as_facts(component: Component) -> dict[str, Any]:
    from host.service import views  # noqa: PLC0415 - a run shows no component

    facts = views.picked(views.of_component(component), *_SHOWN)
    return {**facts, "manifest": views.of_manifest(component.manifest)}


def next_step(workspace: Workspace, component: Component) -> str:
    """The command to type next, and those that grant what the manifest requests."""
    if not component.approved:
        return f"not approved yet: host approve {component.reference}"
    return "\n      ".join([f"next: host inspect {component.reference}", *lacking(workspace, component)])


def lacking(workspace: Workspace, component: Component) -> list[str]:
    """The commands that grant all that the manifest of `component` requests and that is not granted yet."""
    reference, manifest, lines = component.reference, component.manifest, list[str]()
    scope = reference.any_version
    granted = {str(name) for name in workspace.grants.of(reference)}
    for secret in manifest.secrets if manifest else ():
        missing = [] if _is_found(workspace, secret.name) else [f"host secret set {secret.name}"]
        missing += [] if secret.name in granted else [f"host secret grant {scope} {secret.name}"]
        lines += ["; ".join(missing)] if missing else []
    policy = workspace.policies.effective(reference)
    allowed, asked = policy.policy.allowed_domains, (manifest.domains if manifest else None) or ()
    if more := [domain for domain in asked if domain not in allowed and "{" not in domain]:
        origin = policy.origins["allowed_domains"]
        said = shlex.quote(json.dumps([*allowed, *more]))
        lines.append(f"host policy set {scope if origin == DEFAULT else origin} allowed_domains {said}")
    return [as_line(line) for line in lines]


def _is_found(workspace: Workspace, secret: str) -> bool:
    """Whether there is a value anywhere. A place that cannot be read counts as empty here: a run reports it."""
    try:
        return workspace.sources.find(SecretName.parse(secret)) is not None
    except InputError:
        return False
