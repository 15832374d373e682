"""The grant of a component by its stored policy, and whether it may reach a URL. Runs nothing, sends nothing and looks
up no name.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from host.core.limits import CEILING
from host.core.names import Domain, Reference, SecretName
from host.core.wit import FETCH, STREAMING
from host.errors import InputError, NotFound, PolicyError
from host.policy.addresses import classify
from host.policy.document import SecretGrant, SecretRule, listed_places
from host.policy.explain import shown_upstreams
from host.policy.permissions import (
    Allow,
    Decision,
    Deny,
    Grant,
    Requested,
    compute_grant,
    decide,
    deny_address,
    overlap,
    requested_by,
)
from host.policy.urls import Target, UrlError

if TYPE_CHECKING:
    from host.runtime.workspace import Workspace
    from host.store.components import Component


_NOTHING: Final[Mapping[SecretName, SecretGrant | None]] = {}


@dataclass(frozen=True, slots=True)
class DomainUse:
    """The allowed domains that the manifest requests (`used`) and does not request (`unused`), and its requests that
    are not allowed (`open`)."""

    used: tuple[str, ...]
    unused: tuple[str, ...]
    open: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The grant for `reference`. `component` is None if none is installed; then no manifest bounds the grant."""

    reference: Reference
    component: Component | None
    grant: Grant

    def domain_use(self) -> DomainUse | None:
        """None where no manifest says which domains the component requests."""
        requested, allowed = self.grant.requested.domains, self.grant.domains
        if requested is None:
            return None
        used = [one for one in allowed if any(overlap(one, want) for want in requested)]
        return DomainUse(
            used=tuple(map(str, used)),
            unused=tuple(str(one) for one in allowed if one not in used),
            open=tuple(str(want) for want in requested if not any(overlap(one, want) for one in used)),
        )


def explain(
    workspace: Workspace, reference: Reference, more: Mapping[SecretName, SecretGrant | None] = _NOTHING
) -> Explanation:
    """The grant for `reference`; without a version, for the version that a run would take. With the secrets `more`
    granted too. Raises InputError, StateError."""
    try:
        component = workspace.components.resolve(reference)
    except NotFound:
        component = None
    named = component.reference if component else reference
    kept = workspace.policies.effective(named)
    grant = compute_grant(
        reference=str(named),
        interfaces=component.imports if component else (),
        requested=requested_by(component.manifest, workspace.config.effective(named)) if component else Requested(),
        policy=kept.policy,
        secrets={**workspace.grants.of(named), **more},
        ceiling=CEILING,
        stored=kept,
    )
    return Explanation(named, component, grant)


def grant_secret(workspace: Workspace, reference: Reference, name: SecretName, rule: SecretRule) -> None:
    """Grant the secret `name` to `reference`, as `rule` says. Raises PolicyError where the rule, the policy and the
    manifest name no domain for it, and several are allowed; StateError."""
    if rule.domains is None:
        foreseen = explain(workspace, reference, {name: None}).grant
        if name in foreseen.secrets and foreseen.secrets[name].domains is None:
            allowed = ", ".join(map(str, foreseen.domains))
            line = ["host", "secret", "grant", str(reference), str(name), "--allow-domain", str(foreseen.domains[0])]
            raise PolicyError(
                f"more than one domain is allowed ({allowed}), and nothing says to which of them {name} goes",
                field="domains",
                hint=f"for example: {shlex.join(line)}",
            )
    workspace.grants.grant(reference, name, domains=rule.domains, places=rule.places, reveal=rule.reveal)


@dataclass(frozen=True, slots=True)
class Reachability:
    """Whether a request may be sent. `sent_to` is the origin that the operator maps it to, or several in their order;
    `address` is the condition on the address that it goes to; `secrets` may be put into it."""

    request: str
    decision: Decision
    sent_to: str
    address: str
    secrets: tuple[str, ...]
    installed: bool

    def as_dict(self) -> dict[str, Any]:
        denied = isinstance(self.decision, Deny)
        remedy = {"remedy": self.decision.remedy} if isinstance(self.decision, Deny) else {}
        return {
            "decision": "deny" if denied else "allow",
            "request": self.request,
            "rule": self.decision.rule,
            **remedy,
            "sent_to": self.sent_to or None,
            "address": self.address or None,
            "secrets": list(self.secrets),
            "installed": self.installed,
        }


def would_reach(workspace: Workspace, reference: Reference, url: str, method: str = "GET") -> Reachability:
    """Whether `reference` may send `method` to `url`. Raises InputError; its field is `URL` if `url` is not a URL."""
    try:
        target = Target.parse(url)
    except UrlError as error:
        raise InputError(f"URL: {error.reason}", field="URL") from None
    foreseen = explain(workspace, reference)
    grant = foreseen.grant
    destination = grant.destination(target)
    decision, address = _decided(target, method, foreseen), ""
    if isinstance(decision, Allow):
        decision, address = _addressed(destination, decision, grant)
    allowed = isinstance(decision, Allow)
    return Reachability(
        request=f"{method} {target.shown}",
        decision=decision,
        sent_to=shown_upstreams(grant.upstreams[target.at]) if allowed and destination is not target else "",
        address=address,
        secrets=tuple(_secrets(target, grant)) if allowed else (),
        installed=foreseen.component is not None,
    )


def _decided(target: Target, method: str, foreseen: Explanation) -> Decision:
    grant = foreseen.grant
    if foreseen.component is not None and not grant.interfaces & {FETCH, STREAMING}:
        rule = "the component imports nothing that sends requests"
        return Deny("domain_blocked", rule, "no grant can allow it", grantable=False)
    return decide(target, method, grant)


def _addressed(destination: Target, allowed: Allow, grant: Grant) -> tuple[Decision, str]:
    """The decision with the address taken into account, and the condition that only the request itself can settle."""
    from host.egress import AddressPolicy  # noqa: PLC0415 - brings h11

    host = destination.host
    reach = AddressPolicy(private=grant.private, mapped=frozenset(str(one.origin) for one in grant.named_upstreams))
    if str(destination.at) in reach.mapped:
        return allowed, "any: the operator named its origin in upstreams"
    if isinstance(host, Domain):
        private = f", or in {', '.join(map(str, grant.private))}" if grant.private else ""
        return allowed, f"decided at each connection: all that {host} resolves to has to be public{private}"
    if not reach.accepts(destination.at, host):
        return deny_address(destination.at, f"{host} is not public ({classify(host)})", grant), ""
    return allowed, "public" if classify(host) is None else "in allowed_private"


def _secrets(target: Target, grant: Grant) -> Iterator[str]:
    for secret in grant.secrets_for(target):
        headers = [f"header:{name}" for name in sorted(secret.declared)] if "header" in secret.places else []
        yield f"{secret.name} in {', '.join(listed_places({*secret.places, *headers}))}"
