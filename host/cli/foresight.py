"""What a component may do by what is kept for it, seen without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from host.errors import NotFound
from host.limits import CEILING
from host.names import Reference
from host.policy.asked import Asked, asked_by
from host.policy.grant import Grant, grant_authority

if TYPE_CHECKING:
    from host.registry.component import Component
    from host.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Foreseen:
    """`component` is None where none is installed: then no manifest bounds the grant."""

    reference: Reference
    component: Component | None
    grant: Grant


def foresee(workspace: Workspace, reference: Reference) -> Foreseen:
    """For a reference without a version, of the version that a run would take. Raises InputError, StateError."""
    try:
        component = workspace.components.resolve(reference)
    except NotFound:
        component = None
    named = component.reference if component else reference
    kept = workspace.policies.effective(named)
    grant = grant_authority(
        reference=str(named),
        interfaces=component.imports if component else (),
        asked=asked_by(component.manifest, workspace.config.effective(named)) if component else Asked(),
        policy=kept.policy,
        secrets=workspace.grants.of(named),
        ceiling=CEILING,
        kept=kept,
    )
    return Foreseen(named, component, grant)
