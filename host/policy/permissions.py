"""What a catalyst may do: the intersection of its imports, the permissions that its manifest requests, and the
operator's policy.

`compute_grant` makes a Grant of the three, once for each loaded catalyst. `decide`, `decide_secret` and `deny_address`
answer single questions from it. All of them are pure: equal arguments give equal answers, and nothing else is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, Literal, TypeAlias

from host.component.manifest import Manifest
from host.core.limits import Limits
from host.core.names import Domain, SecretName
from host.core.strict_json import Json
from host.errors import InputError, ManifestError, PolicyError, Refusal
from host.policy.addresses import allowed
from host.policy.document import (
    METHODS,
    PLACES,
    Effective,
    Isolation,
    Policy,
    RateLimit,
    SecretGrant,
    Terms,
    default_binding,
    listed_places,
)
from host.policy.reliability import Breaker, Retries, Throttle
from host.policy.upstreams import UpstreamPlace
from host.policy.urls import DomainPattern, Origin, Target, UrlError, UrlHost

_CONFIG_DOMAIN = re.compile(r"\{config\.([A-Za-z_][A-Za-z0-9_]*)\}\Z")


@dataclass(frozen=True, slots=True)
class Declared:
    """What a manifest says of one secret: the `headers` that it goes into beyond those that carry credentials, in lower
    case; and the `domains` that it goes to, None where the manifest does not say."""

    headers: frozenset[str] = frozenset()
    domains: tuple[DomainPattern, ...] | None = None

    def __str__(self) -> str:
        parts = [f"in the header {name}" for name in sorted(self.headers)]
        if self.domains is not None:
            parts.append("to " + (", ".join(map(str, self.domains)) or "no domain"))
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Requested:
    """The permissions that a manifest requests. None sets no bound: the manifest lacks the field, or there is no
    manifest. `declared` has the secrets of which it says more than the name. `headers` are those of a caller's request
    that the catalyst sends on, in lower case."""

    domains: tuple[DomainPattern, ...] | None = None
    secrets: frozenset[SecretName] | None = None
    optional_secrets: frozenset[SecretName] = frozenset()
    declared: Mapping[SecretName, Declared] = field(default_factory=dict)
    headers: frozenset[str] = frozenset()

    def shown(self, name: SecretName) -> str:
        """The secret `name`, with the headers that the manifest declares for it."""
        headers = self.declared[name].headers if name in self.declared else ()
        return f"{name}, {Declared(frozenset(headers))}" if headers else str(name)


def requested_by(manifest: Manifest | None, config: Mapping[str, Json]) -> Requested:
    """The permissions that `manifest` requests. `{config.KEY}` in a domain is replaced from `config`, else from the
    manifest's defaults. Raises ManifestError, and InputError where that config value is not a URL."""
    if manifest is None:
        return Requested()
    optional = frozenset(SecretName.parse(secret.name) for secret in manifest.secrets if not secret.required)
    secrets = frozenset(SecretName.parse(secret.name) for secret in manifest.secrets)
    known = {**manifest.defaults, **config}
    declared = {
        SecretName.parse(secret.name): Declared(frozenset(secret.headers), _domains(secret.domains, known))
        for secret in manifest.secrets
        if secret.headers or secret.domains is not None
    }
    return Requested(
        _domains(manifest.domains, known), secrets, optional, declared, frozenset(manifest.passes.headers or ())
    )


def _domains(texts: Sequence[str] | None, config: Mapping[str, Json]) -> tuple[DomainPattern, ...] | None:
    if texts is None:
        return None
    return tuple(dict.fromkeys(domain for text in texts if (domain := _domain(text, config)) is not None))


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
    """The request is allowed. `rule` is the policy's entry that allows it."""

    rule: str


@dataclass(frozen=True, slots=True)
class Deny:
    """The request is refused. `kind` is the error type for the guest, `rule` the rule that refuses it, `remedy` the
    change that would allow it. `guest_remedy` replaces `remedy` in the guest's message, where `remedy` is a command
    that quotes the stored policy: the guest must not read the other entries."""

    kind: Literal["method_blocked", "domain_blocked", "private_ip_blocked"]
    rule: str
    remedy: str
    grantable: bool = True
    guest_remedy: str = ""

    def refusal(self, subject: str) -> Refusal:
        return Refusal(self.kind, subject, self.rule, self.remedy, self.grantable)

    def to_guest(self, subject: str) -> str:
        return f"{subject}: {self.rule} ({self.guest_remedy or self.remedy})"


Decision: TypeAlias = Allow | Deny


@dataclass(frozen=True, slots=True)
class Grant:
    """The permissions of one loaded catalyst. `reference` names it in messages. `requested` is what its manifest
    requests. `forwards` are the headers of a caller's request that go to the upstream, in lower case. `stored` is the
    operator's stored policy, None for a bare file. `valueless` names secrets that are granted but have no value.
    `several_upstreams`: there is an origin with more than one."""

    reference: str
    interfaces: frozenset[str]
    domains: tuple[DomainPattern, ...]
    methods: frozenset[str]
    private: tuple[IPv4Network | IPv6Network, ...]
    upstreams: Mapping[Origin, tuple[UpstreamPlace, ...]]
    secrets: Mapping[SecretName, SecretGrant]
    rate: RateLimit | None
    limits: Limits
    retries: Retries | None = None
    breaker: Breaker | None = None
    throttle: Throttle | None = None
    isolation: Isolation = "operation"
    forwards: frozenset[str] = frozenset()
    requested: Requested = field(default_factory=Requested)
    stored: Effective | None = None
    valueless: frozenset[SecretName] = frozenset()
    several_upstreams: bool = False

    def destination(self, target: Target) -> Target:
        """The URL to send a request for `target` to: at another origin if the policy's `upstreams` maps its own. Of
        several it is the first of the list."""
        mapped = self.upstreams.get(target.at)
        return target.rebased(mapped[0].origin) if mapped else target

    def stand_ins(self, target: Target, destination: Target) -> Mapping[SecretName, SecretName]:
        """The operator's secrets in place of the catalyst's, by the name of the latter, in requests for `target` that
        are sent to `destination`."""
        places = self.upstreams.get(target.at, ())
        return next((one.secrets for one in places if one.origin == destination.at), {})

    @property
    def named_upstreams(self) -> tuple[UpstreamPlace, ...]:
        """Every upstream that the policy names."""
        return tuple([place for places in self.upstreams.values() for place in places])

    def raising(self, field: str, value: str) -> str:
        """The remedy for a limit of a run that is too small: the line that sets it to `value`."""
        if self.stored is not None:
            return f"run: {self.stored.setting(field, value)}"
        return f'in the policy of {self.reference}: {field} = "{value}"'

    def secrets_for(self, target: Target) -> tuple[SecretGrant, ...]:
        """The secrets that may be sent to `target`."""
        return tuple(grant for grant in self.secrets.values() if grant.goes_to(target, self.upstreams))

    def shown_by(self, target: Target, destination: Target) -> tuple[SecretName, ...]:
        """The secrets that an answer of `destination` to a request for `target` may show: what is bound to an origin
        whose requests are sent there, with all that stands in for it."""
        at = destination.at
        mapped = (source for source, places in self.upstreams.items() if any(one.origin == at for one in places))
        asked = (target, destination, *(target.rebased(source) for source in mapped))
        return tuple(
            name for name, grant in self.secrets.items() if any(grant.goes_to(one, self.upstreams) for one in asked)
        )


def compute_grant(
    *,
    reference: str,
    interfaces: Iterable[str],
    requested: Requested,
    policy: Policy,
    secrets: Mapping[SecretName, SecretGrant | None],
    ceiling: Limits,
    stored: Effective | None = None,
    valueless: Iterable[SecretName] = (),
) -> Grant:
    """The grant for a component that imports `interfaces`.

    `secrets` are the secrets that have a value, each with its destinations; None, or None for its `domains`, means the
    destinations of the policy's rule for it, else those that the manifest names for it, else the only domain that can
    be reached. Where there are several, its `domains` stay None: it goes nowhere (see `decide_secret`). `ceiling` is
    the host's own limits. A secret that the manifest does not request, or that has no value, is left out. `stored` and
    `valueless` only change the wording of denials; they never allow anything.
    """
    terms = policy.terms()
    bound = {name: _bound(name, given, terms, requested) for name, given in secrets.items()}
    wanted = {name: one for name, one in bound.items() if requested.secrets is None or name in requested.secrets}
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
        retries=terms.retries,
        breaker=terms.breaker,
        throttle=terms.throttle,
        isolation=terms.isolation,
        forwards=_forwards(terms, requested, wanted.values()),
        requested=requested,
        stored=stored,
        valueless=frozenset(valueless),
        several_upstreams=any(len(places) > 1 for places in terms.upstreams.values()),
    )


def _forwards(terms: Terms, requested: Requested, secrets: Iterable[SecretGrant]) -> frozenset[str]:
    """The headers that the manifest names and those of the policy, without those that a secret may stand in."""
    named = requested.headers | terms.forward_headers
    return frozenset(name for name in named if not any(secret.fits_header(name) for secret in secrets))


def _bound(name: SecretName, given: SecretGrant | None, terms: Terms, requested: Requested) -> SecretGrant:
    ruled = terms.secrets.get(name) or SecretGrant(name, None)
    bound, declared = given or ruled, requested.declared.get(name, Declared())
    domains = ruled.domains if bound.domains is None else bound.domains
    if domains is None:
        domains = _only(terms, requested) if declared.domains is None else default_binding(declared.domains)
    return replace(bound, domains=domains, declared=declared.headers)


def _only(terms: Terms, requested: Requested) -> tuple[DomainPattern, ...] | None:
    """The one domain that a secret can reach, or none; None where there are several."""
    reached = _reached(terms, requested)
    return default_binding(reached) if len(reached) < 2 else None


def _reached(terms: Terms, requested: Requested) -> tuple[DomainPattern, ...]:
    """The allowed domains that a secret could be sent to: those that are requested, over https or to a mapped origin
    (see `SecretGrant.goes_to`)."""
    wanted = requested.domains
    mapped = [DomainPattern(origin.scheme, origin.host, origin.port) for origin in terms.upstreams]
    return tuple(
        one
        for one in dict.fromkeys(terms.domains)
        if (one.scheme == "https" or any(overlap(one, origin) for origin in mapped))
        and (wanted is None or any(overlap(one, want) for want in wanted))
    )


def destinations_to_choose(name: SecretName, policy: Policy, requested: Requested) -> tuple[DomainPattern, ...]:
    """The domains from which the operator has to choose for a secret that is granted without any; empty where the
    policy or the manifest settles it."""
    terms = policy.terms()
    settled = _bound(name, None, terms, requested).domains is not None
    return () if settled else _reached(terms, requested)


def decide(target: Target, method: str, grant: Grant) -> Decision:
    """Whether the catalyst may send `method` to `target`. The method is decided first, then scheme, domain and port
    together."""
    if method not in grant.methods:
        return _deny_method(method, grant)
    if grant.requested.domains is not None and not any(domain.matches(target) for domain in grant.requested.domains):
        return Deny(
            "domain_blocked",
            "the catalyst's manifest does not ask for this domain",
            "no grant can allow it: the manifest names " + (", ".join(map(str, grant.requested.domains)) or "none"),
            grantable=False,
        )
    for domain in grant.domains:
        if domain.matches(target):
            return Allow(f"allowed_domains: {domain}")
    return _deny_domain(target, grant)


def _deny_method(method: str, grant: Grant) -> Deny:
    if method not in METHODS:
        return Deny("method_blocked", "not a method of the contract", "no grant can allow it")
    guest_remedy = f"add {method} to allowed_methods in the policy of {grant.reference}"
    remedy = f"run: {grant.stored.adding('allowed_methods', method)}" if grant.stored else guest_remedy
    return Deny("method_blocked", "method not granted", remedy, guest_remedy=guest_remedy)


_LOCALHOST: Final = ("127.0.0.0/8", "::1")  # the addresses of that name (RFC 6761, 6.3)


def _near(host: UrlHost) -> bool:
    return isinstance(host, Domain) and (host.value == "localhost" or host.value.endswith(".localhost"))


def _deny_domain(target: Target, grant: Grant) -> Deny:
    wanted = str(pattern_for(target))
    near = _LOCALHOST if _near(target.host) else ()
    option = f"add --allow-domain {wanted}" + "".join(f" --allow-private {network}" for network in near)
    if grant.stored:
        keep = f"run: {grant.stored.adding('allowed_domains', wanted)}"
        more = [one for one in near if one not in grant.stored.policy.allowed_private]
        keep += f" && {grant.stored.adding('allowed_private', *more)}" if more else ""
    else:
        keep = f'in the policy of {grant.reference}: allowed_domains = ["{wanted}"]'
        keep += f" and allowed_private = {json.dumps(list(near))}" if near else ""
    return Deny("domain_blocked", "domain not granted", f"{option}, or {keep}", guest_remedy=option)


def deny_address(at: Origin, rule: str, grant: Grant) -> Deny:
    """The denial of a connection to `at`, whose address is not public. For a name it does not tell the address."""
    networks: tuple[str, ...]
    if _near(at.host):
        option, networks = f"add --allow-private {' --allow-private '.join(_LOCALHOST)}", _LOCALHOST
    elif isinstance(at.host, Domain):
        option, networks = "add --allow-private with its network, such as 127.0.0.0/8", ("NETWORK",)
    elif allowed(at.host, (ip_network(at.host),)):
        option, networks = f"add --allow-private {at.host}", (str(at.host),)
    else:
        return Deny("private_ip_blocked", rule, "no grant can allow it", grantable=False)
    guest_remedy = f"{option}, or map its origin with --upstream"
    keep = f", or run: {grant.stored.adding('allowed_private', *networks)}" if grant.stored else ""
    return Deny("private_ip_blocked", rule, guest_remedy + keep, guest_remedy=guest_remedy)


def overlap(one: DomainPattern, other: DomainPattern) -> bool:
    """Whether any URL matches both."""
    if (one.scheme, one.port) != (other.scheme, other.port):
        return False
    if one.host is None or other.host is None:
        return True
    return _lies_in(one, other) or _lies_in(other, one)


def _lies_in(inner: DomainPattern, outer: DomainPattern) -> bool:
    below = outer.subdomains and str(inner.host).endswith(f".{outer.host}")
    return below or (inner.host, inner.subdomains) == (outer.host, outer.subdomains)


def pattern_for(target: Target) -> DomainPattern:
    """The narrowest entry of `allowed_domains` that matches `target`."""
    return DomainPattern(target.scheme, target.host, target.port)


def decide_secret(name: SecretName, grant: Grant) -> Allow | Refusal:
    """Whether the catalyst may use the secret `name` at all. Its destinations are decided for each request."""
    if name in grant.secrets:
        return Allow(f"secrets: {name}") if grant.secrets[name].domains is not None else _deny_unbound(name, grant)
    if grant.requested.secrets is not None and name not in grant.requested.secrets:
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
        f"run: host secret grant {grant.stored.reference.any_version} {name}"
        if grant.stored
        else f'in Python secrets={{"{name}": …}}'
    )
    return Refusal("secret_denied", f"secret {name}", "not granted", f"add --secret {name}, or {keep}")


def _deny_unbound(name: SecretName, grant: Grant) -> Refusal:
    words = "name a domain for it"
    if grant.stored:
        words = f"run: {grant.stored.granting(grant.secrets[name], 'DOMAIN')}"
    rule = "granted for no domain, its manifest names none, and several are allowed"
    return Refusal("secret_denied", f"secret {name}", rule, words)


def check_bound(name: SecretName, grant: Grant) -> None:
    """Raises PolicyError for a granted secret of which nothing says which of several domains it goes to."""
    secret = grant.secrets.get(name)
    if secret is not None and secret.domains is None:
        raise PolicyError(
            f"secret {name}: more than one domain is allowed ({', '.join(map(str, grant.domains))}), and nothing says "
            "to which of them it goes",
            field=f"secrets.{name}",
            hint=f"--secret-to {name}=DOMAIN, or domains in the policy's secrets.{name}, or Secret(…, domains=[…])",
        )


def binding_remedy(name: SecretName, target: Target, grant: Grant, places: Collection[str] = ()) -> str:
    """The change that would let `name`, a granted secret, into a request to `target`. `places` are the ones where it
    stands, if they are known; a header that no secret can stand in is none."""
    if grant.stored is None:
        spelt = json.dumps(listed_places({*grant.secrets[name].places, *places}) if places else list(PLACES))
        return (
            f"in the policy of {grant.reference}, secrets.{name}: domains with {pattern_for(target)}, over https or "
            f"mapped by upstreams, and in = {spelt} as needed"
        )
    line = grant.stored.granting(grant.secrets[name], str(pattern_for(target)), places)
    more = "" if places else ", and add --in header, header:NAME, url or body, where it stands"
    return f"run: {line}{more}; only over https or mapped by upstreams"
