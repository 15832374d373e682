"""What a manifest asks for, as bounds of the operator's grant.

What a catalyst may do: what it imports, and its manifest asks for, and the operator granted. Computed once.

`decide` is pure: the same URL and grant give the same answer, and nothing is touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal, TypeAlias

from host.component.manifest import Manifest
from host.core.limits import Limits
from host.core.names import Domain, SecretName
from host.core.strict_json import Json
from host.errors import InputError, ManifestError, PolicyError, Refusal
from host.policy.addresses import allowed
from host.policy.document import METHODS, Effective, Policy, Rate, SecretGrant, Terms, default_binding
from host.policy.domains import DomainPattern
from host.policy.urls import Origin, Target, UrlError

_CONFIG_DOMAIN = re.compile(r"\{config\.([A-Za-z_][A-Za-z0-9_]*)\}\Z")


@dataclass(frozen=True, slots=True)
class Asked:
    """None stands for a manifest that does not say, or for none at all: then it sets no bound."""

    domains: tuple[DomainPattern, ...] | None = None
    secrets: frozenset[SecretName] | None = None
    optional_secrets: frozenset[SecretName] = frozenset()


def asked_by(manifest: Manifest | None, config: Mapping[str, Json]) -> Asked:
    """The bounds of `manifest`, with `{config.KEY}` filled from `config` or the manifest's defaults. Raises
    ManifestError, or InputError where the config value that names a domain is no URL."""
    if manifest is None:
        return Asked()
    optional = frozenset(SecretName.parse(secret.name) for secret in manifest.secrets if not secret.required)
    secrets = frozenset(SecretName.parse(secret.name) for secret in manifest.secrets)
    if manifest.domains is None:
        return Asked(None, secrets, optional)
    known = {**manifest.defaults, **config}
    found = dict.fromkeys(domain for text in manifest.domains if (domain := _domain(text, known)) is not None)
    return Asked(tuple(found), secrets, optional)


def _domain(text: str, config: Mapping[str, Json]) -> DomainPattern | None:
    match = _CONFIG_DOMAIN.match(text)
    if match is None:
        try:
            return DomainPattern.parse(text)
        except PolicyError as error:
            raise ManifestError(f"the manifest: domains: {error}") from None
    value = config.get(match[1])
    return None if value is None else _domain_of(match[1], value)


def _domain_of(key: str, value: Json) -> DomainPattern:
    scheme, _, rest = value.partition("://") if isinstance(value, str) else ("", "", "")
    try:
        origin = Origin.parse(f"{scheme}://{rest.partition('/')[0]}")
    except UrlError as error:
        raise InputError(f"the config value {key} is not a URL: {error.reason}", field=key) from None
    return DomainPattern(origin.scheme, origin.host, origin.port)


@dataclass(frozen=True, slots=True)
class Allow:
    """`rule` is the entry of the policy that allows it."""

    rule: str


@dataclass(frozen=True, slots=True)
class Deny:
    """`kind` is the error type that the guest sees, `rule` which rule says no, `remedy` what would allow it; `told`
    stands in place of it where the guest reads it too: a line for a kept policy tells what else is granted."""

    kind: Literal["method_blocked", "domain_blocked", "private_ip_blocked"]
    rule: str
    remedy: str
    grantable: bool = True
    told: str = ""

    def refusal(self, subject: str) -> Refusal:
        return Refusal(self.kind, subject, self.rule, self.remedy, self.grantable)

    def to_guest(self, subject: str) -> str:
        return f"{subject}: {self.rule} ({self.told or self.remedy})"


Decision: TypeAlias = Allow | Deny


@dataclass(frozen=True, slots=True)
class Grant:
    """The intersection. `reference` is how messages name the catalyst; `kept` is the policy that the operator keeps
    for it, None for a bare file; `valueless` has the secrets that were granted, but have no value anywhere."""

    reference: str
    interfaces: frozenset[str]
    domains: tuple[DomainPattern, ...]
    methods: frozenset[str]
    private: tuple[IPv4Network | IPv6Network, ...]
    upstreams: Mapping[Origin, Origin]
    secrets: Mapping[SecretName, SecretGrant]
    rate: Rate | None
    limits: Limits
    asked: Asked = field(default_factory=Asked)
    kept: Effective | None = None
    valueless: frozenset[SecretName] = frozenset()

    def destination(self, target: Target) -> Target:
        """Where a request for `target` is sent: elsewhere, if the operator mapped its origin."""
        mapped = self.upstreams.get(target.at)
        return target.rebased(mapped) if mapped else target

    def secrets_for(self, target: Target) -> tuple[SecretGrant, ...]:
        """The secrets that may travel to `target`."""
        return tuple(grant for grant in self.secrets.values() if grant.goes_to(target, self.upstreams))


def grant_authority(
    *,
    reference: str,
    interfaces: Iterable[str],
    asked: Asked,
    policy: Policy,
    secrets: Mapping[SecretName, SecretGrant | None],
    ceiling: Limits,
    kept: Effective | None = None,
    valueless: Iterable[SecretName] = (),
) -> Grant:
    """`interfaces` are the component's imports; `secrets` the ones whose values the operator handed over, with where
    they may go (None, or None for its domains: where the policy says, else the policy's domains); `ceiling` the host's
    own limits. A secret that the manifest does not ask for, or that has no value, is not in the grant. `kept` and
    `valueless` only word denials: what `policy` leaves out is not allowed by them."""
    terms = policy.terms()
    bound = {name: _bound(name, given, terms) for name, given in secrets.items()}
    wanted = {name: one for name, one in bound.items() if asked.secrets is None or name in asked.secrets}
    return Grant(
        reference=reference,
        interfaces=frozenset(interfaces),
        domains=terms.domains,
        methods=terms.methods,
        private=terms.private,
        upstreams=terms.upstreams,
        secrets=wanted,
        rate=terms.rate,
        limits=terms.limits.narrowed(ceiling),
        asked=asked,
        kept=kept,
        valueless=frozenset(valueless),
    )


def _bound(name: SecretName, given: SecretGrant | None, terms: Terms) -> SecretGrant:
    ruled = terms.secrets.get(name) or SecretGrant(name, default_binding(terms.domains))
    if given is None:
        return ruled
    return given if given.domains is not None else replace(given, domains=ruled.domains)


def decide(target: Target, method: str, grant: Grant) -> Decision:
    """May `grant`'s catalyst send `method` to `target`? Methods first, then scheme, domain and port together."""
    if method not in grant.methods:
        return _deny_method(method, grant)
    if grant.asked.domains is not None and not any(domain.matches(target) for domain in grant.asked.domains):
        return Deny(
            "domain_blocked",
            "the catalyst's manifest does not ask for this domain",
            "no grant can allow it: the manifest names " + (", ".join(map(str, grant.asked.domains)) or "none"),
            grantable=False,
        )
    for domain in grant.domains:
        if domain.matches(target):
            return Allow(f"allowed_domains: {domain}")
    return _deny_domain(str(pattern_for(target)), grant)


def _deny_method(method: str, grant: Grant) -> Deny:
    if method not in METHODS:
        return Deny("method_blocked", "not a method of the contract", "no grant can allow it")
    told = f"add {method} to allowed_methods in the policy of {grant.reference}"
    remedy = f"run: {grant.kept.adding('allowed_methods', method)}" if grant.kept else told
    return Deny("method_blocked", "method not granted", remedy, told=told)


def _deny_domain(wanted: str, grant: Grant) -> Deny:
    option = f"add --allow-domain {wanted}"
    keep = (
        f"run: {grant.kept.adding('allowed_domains', wanted)}"
        if grant.kept
        else f'in the policy of {grant.reference}: allowed_domains = ["{wanted}"]'
    )
    return Deny("domain_blocked", "domain not granted", f"{option}, or {keep}", told=option)


def deny_address(at: Origin, rule: str, grant: Grant) -> Deny:
    """The denial of `at`, whose address is not public; for a name it is not told which address that is."""
    if isinstance(at.host, Domain):
        option, network = "add --allow-private with its network, such as 127.0.0.0/8", "NETWORK"
    elif allowed(at.host, (ip_network(at.host),)):
        option, network = f"add --allow-private {at.host}", str(at.host)
    else:
        return Deny("private_ip_blocked", rule, "no grant can allow it", grantable=False)
    told = f"{option}, or map its origin with --upstream"
    keep = f", or run: {grant.kept.adding('allowed_private', network)}" if grant.kept else ""
    return Deny("private_ip_blocked", rule, told + keep, told=told)


def overlap(one: DomainPattern, other: DomainPattern) -> bool:
    """Whether there is anything that both cover."""
    if (one.scheme, one.port) != (other.scheme, other.port):
        return False
    if one.host is None or other.host is None:
        return True
    return _lies_in(one, other) or _lies_in(other, one)


def _lies_in(inner: DomainPattern, outer: DomainPattern) -> bool:
    below = outer.subdomains and str(inner.host).endswith(f".{outer.host}")
    return below or (inner.host, inner.subdomains) == (outer.host, outer.subdomains)


def pattern_for(target: Target) -> DomainPattern:
    """The narrowest entry of `allowed_domains` that covers `target`."""
    return DomainPattern(target.scheme, target.host, target.port)


def decide_secret(name: SecretName, grant: Grant) -> Allow | Refusal:
    """May `grant`'s catalyst use the secret `name` at all? Where it may go is decided for each request."""
    if name in grant.secrets:
        return Allow(f"secrets: {name}")
    if grant.asked.secrets is not None and name not in grant.asked.secrets:
        return Refusal(
            "secret_denied",
            f"secret {name}",
            "the catalyst's manifest does not ask for this secret",
            "no grant can allow it",
            grantable=False,
        )
    if name in grant.valueless:
        return Refusal(
            "secret_denied", f"secret {name}", "granted, but it has no value", f"run: host secret set {name}"
        )
    keep = (
        f"run: host secret grant {grant.kept.reference.any_version} {name}"
        if grant.kept
        else "hand it over as secrets={…}"
    )
    return Refusal("secret_denied", f"secret {name}", "not granted", f"add --secret {name}, or {keep}")


def to_bind(name: SecretName, target: Target, grant: Grant) -> str:
    """What would let the secret `name`, which is granted, into a request to `target`."""
    if grant.kept is None:
        return (
            f"in the policy of {grant.reference}, secrets.{name}: domains with it, over https or mapped by upstreams, "
            'and in = ["header", "url", "body"] as needed'
        )
    line = grant.kept.granting(grant.secrets[name], str(pattern_for(target)))
    return f"run: {line}, and add --in header, url or body, where it stands; only over https or mapped by upstreams"
