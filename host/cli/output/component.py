"""An installed component as the commands show it, and the commands to type next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from host.cli.output.terminal import as_line, say
from host.core.names import Reference, SecretName
from host.errors import InputError
from host.policy.document import DEFAULT

if TYPE_CHECKING:
    from host.runtime.workspace import Workspace
    from host.store.components import Component


_SHOWN = (
    *("reference", "digest", "size", "description", "imports", "source", "registered_at"),
    *("approved", "serves", "pinned"),
)


def as_facts(component: Component) -> dict[str, Any]:
    from host.service import views  # noqa: PLC0415 - a run shows no component

    facts = views.picked(views.of_component(component), *_SHOWN)
    return {**facts, "manifest": views.of_manifest(component.manifest)}


def more_operations(before: Component | None, after: Component) -> Iterator[str]:
    """The operations that `after` has in addition, and who may run them."""
    had = before.manifest.operations if before and before.manifest else {}
    has = after.manifest.operations if after.manifest else {}
    more = [one for name, one in has.items() if name not in had]
    if before is None or not more:
        return
    from host.service.operations import kinds_of  # noqa: PLC0415 - a run shows no component

    kinds = ", ".join(f"{kind}.* ({count})" for kind, count in kinds_of(one.name for one in more).items())
    yield ""
    yield f"it has {len(more)} more operation{'s' if len(more) > 1 else ''}: {kinds}"
    apart = dict.fromkeys(one.secret for one in more if one.secret)
    but = [f"those with the secret {', '.join(apart)}"] if apart else []
    but += ["those that hand out credentials"] if any(one.apart for one in more) else []
    most = f", but for {' and '.join(but)}" if but else ""
    marked = any(one.public is not None for one in has.values())
    some = "those that are marked as public" if marked else "those that read"
    yield f"  API keys without --operation may run them{most}; a public key {some} (`host key list`)"


def next_step(workspace: Workspace, component: Component) -> str:
    """The command to type next, and those that grant what the manifest requests; which version serves, if it is
    another."""
    serving = workspace.components.resolve(component.reference.any_version)
    if not component.approved:
        return "\n".join([waiting_line(component), *([serving_line(serving)] if serving.serves else [])])
    lines = "\n      ".join([f"next: host inspect {component.reference}", *lacking(workspace, component)])
    return lines if component.serves else f"{lines}\n{serving_line(serving)}"


def say_strange(workspace: Workspace, reference: Reference) -> None:
    """A note where nothing of that name is installed: it may be a slip."""
    from host.core.fields import did_you_mean  # noqa: PLC0415 - for mistakes alone

    known = {str(one.reference.any_version) for one in workspace.components.all()}
    if known and str(reference.any_version) not in known:
        hint = did_you_mean(str(reference.any_version), sorted(known), "it counts once it is: host register")
        say(f"note: nothing is installed as {reference.any_version}: {hint}")


def state_of(component: Component) -> str:
    """In one word."""
    if not component.approved:
        return "waits"
    if component.pinned:
        return "pinned"
    return "serves" if component.serves else "approved"


def waiting_line(component: Component) -> str:
    """That these bytes wait, and the command that approves them."""
    return as_line(f"waits: {_named(component)} is not approved yet: host approve {component.reference}")


def serving_line(component: Component) -> str:
    """Which bytes their name means, and the command that lets go of a pin."""
    name = component.reference.any_version
    pinned = f", pinned: host unpin {name} lets it go" if component.pinned else ""
    return as_line(f"serves: {_named(component)}{pinned}")


def _named(component: Component) -> str:
    return f"{component.reference} ({component.digest.short})"


def lacking(workspace: Workspace, component: Component) -> list[str]:
    """The commands that grant all that the manifest of `component` requires and that is not granted yet."""
    reference, manifest, lines = component.reference, component.manifest, list[str]()
    scope = reference.any_version
    granted = {str(name) for name in workspace.grants.of(reference)}
    for secret in (one for one in (manifest.secrets if manifest else ()) if one.required):
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
