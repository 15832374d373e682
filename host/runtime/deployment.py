"""A component as it is to be run: its bytes, and what the operator lets it do and read.

There are two ways to a Deployment, and one from it to a Catalyst: `of_file` takes everything from the arguments of
`Host.load`, `of_installed` adds them to what the operator keeps for an installed component.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from host.capabilities.secrets import ExpiringToken
from host.component.manifest import Manifest
from host.component.schema import InputSchema
from host.core.audit import Both, Sink
from host.core.limits import Limits
from host.core.names import SecretName
from host.core.strict_json import Json
from host.egress import TlsByOrigin, TlsFiles
from host.errors import InputError, PolicyError
from host.policy.document import Effective, Policy, SecretGrant, read_places
from host.policy.permissions import Grant, check_bound, compute_grant, requested_by
from host.policy.tls import TlsRule
from host.policy.urls import DomainPattern, Origin
from host.secrets.value import SecretValue, weakness
from host.trust.artifact import Artifact

if TYPE_CHECKING:
    from host.runtime.tokens import TokenKeeper
    from host.runtime.workspace import Installed, Workspace


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret's value and where it may go. `value` is held as a SecretValue, which does not print. `domains` None: to
    those that the policy or the manifest names for it, else to the only allowed domain. `places`: header (the headers
    that carry credentials), header:NAME (that one too), url, body. With `reveal` the guest sees the value itself.
    A weak value (see `host.secrets.value.guessing_bits`) is a warning in the log `host`, unless `weak` says that it is
    known. Raises InputError for a value that cannot be sent."""

    value: str | SecretValue = field(repr=False)
    domains: Sequence[str] | None = None
    reveal: bool = False
    places: Sequence[str] = ("header",)
    weak: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _value(self.value))


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller of `Host.load` grants, read: `bindings` say where each secret may go (None: where the policy
    says)."""

    policy: Policy | None
    secrets: Mapping[SecretName, SecretValue]
    bindings: Mapping[SecretName, SecretGrant | None]
    config: Mapping[str, Json] = field(repr=False)
    wasi: tuple[str, ...]

    @classmethod
    def of(
        cls,
        policy: Policy | None,
        secrets: Mapping[str, str | SecretValue | Secret],
        config: Mapping[str, Json],
        wasi: Iterable[str],
    ) -> Given:
        """Raises InputError, PolicyError."""
        if policy is not None and not isinstance(policy, Policy):
            kind = type(policy).__name__
            raise InputError(f"the policy is a {kind}", field="policy", hint="Policy(allowed_domains=[…])")
        values: dict[SecretName, SecretValue] = {}
        bindings: dict[SecretName, SecretGrant | None] = {}
        for text, one in secrets.items():
            name = SecretName.parse(text)
            try:
                secret = one if isinstance(one, Secret) else Secret(one)
            except InputError as error:
                raise InputError(f"secret {name}: {error.message}", field=f"secrets.{name}") from None
            values[name] = value = _value(secret.value)
            if not secret.weak and (why := weakness(value)):
                import logging  # noqa: PLC0415 - most secrets are not weak

                logging.getLogger("host").warning("secret %s: %s", name, why)
            bindings[name] = _binding(name, secret)
        return cls(policy, values, bindings, config, tuple(wasi))


@dataclass(frozen=True, slots=True)
class Deployment:
    """`reference` is how messages name it. `secrets` are the values that there are, `tokens` the secrets that expire,
    `bindings` the names that are granted, with where each may go. `given` are those that the caller of `Host.load` gave
    a value of. `keys` are the kept secrets that are private keys of its TLS, which it does not see. `sink` gets the
    events of its runs, and is None where nobody keeps them. `stored` is the policy in the store, None for a bare
    file."""

    artifact: Artifact
    reference: str
    policy: Policy
    secrets: Mapping[SecretName, SecretValue]
    bindings: Mapping[SecretName, SecretGrant | None]
    config: Mapping[str, Json] = field(repr=False)
    wasi: tuple[str, ...]
    sink: Sink | None
    stored: Effective | None = None
    given: frozenset[SecretName] = frozenset()
    keys: Mapping[SecretName, SecretValue] = field(default_factory=dict)
    tokens: Mapping[SecretName, ExpiringToken] = field(default_factory=dict)

    @classmethod
    def of_file(cls, artifact: Artifact, reference: str, given: Given, sink: Sink | None) -> Deployment:
        """Nothing but what is `given`."""
        policy = given.policy or Policy()
        return cls(
            artifact=artifact,
            reference=reference,
            policy=policy,
            secrets=given.secrets,
            bindings=given.bindings,
            config=given.config,
            wasi=given.wasi,
            sink=sink,
            given=frozenset(given.secrets),
        )

    @classmethod
    def of_installed(
        cls, installed: Installed, given: Given, workspace: Workspace, sink: Sink | None, tokens: TokenKeeper
    ) -> Deployment:
        """What is kept for it, with what is `given` added: a policy takes the place of the kept one. Its runs are
        recorded in the workspace's audit log as well. Raises StateError."""
        bindings = {**installed.secrets, **{name: one for name, one in given.bindings.items() if one is not None}}
        secrets, held = dict(given.secrets), dict[SecretName, ExpiringToken]()
        policy = given.policy or installed.effective.policy
        named = policy.terms().stand_ins
        for name in (*installed.secrets, *named):
            if name in secrets or name in held or (found := workspace.sources.find(name)) is None:
                continue
            if found.source is not None:
                held[name] = tokens.held(name, str(installed.reference.any_version), found.source)
            elif found.value is not None:
                secrets[name] = found.value
        wanted = {rule.key_name for rule in policy.terms().tls.values()}
        kept = {name: workspace.sources.find(name) for name in wanted if name is not None}
        return cls(
            artifact=installed.artifact,
            reference=str(installed.reference),
            policy=policy,
            secrets=secrets,
            bindings={**dict.fromkeys(given.bindings), **bindings},
            config={**installed.config, **given.config},
            wasi=(*installed.wasi, *given.wasi),
            sink=workspace.audit_log if sink is None else Both(sink, workspace.audit_log),
            stored=installed.effective,
            given=frozenset(given.secrets),
            keys={name: one.value for name, one in kept.items() if one is not None and one.value is not None},
            tokens=held,
        )

    @property
    def manifest(self) -> Manifest | None:
        return self.artifact.manifest

    def grant(self, imports: Iterable[str], ceiling: Limits) -> Grant:
        """What it may do: what it imports, and its manifest asks for, and the operator granted. Raises PolicyError (for
        a given secret that could go to several domains, too), ManifestError, InputError."""
        there, requested = self.secrets.keys() | self.tokens.keys(), requested_by(self.manifest, self.config)
        stand_ins = self.policy.terms().stand_ins if requested.secrets is None else frozenset[SecretName]()
        grant = compute_grant(
            reference=self.reference,
            interfaces=imports,
            requested=requested,
            policy=self.policy,
            secrets={
                name: binding
                for name, binding in self.bindings.items()
                if name in there and not (binding is None and name in stand_ins)  # which is not the catalyst's own
            },
            ceiling=ceiling,
            stored=self.stored,
            valueless=self.bindings.keys() - there,
        )
        for name in self.given:
            check_bound(name, grant)
        for one in grant.named_upstreams:
            for name, other in one.secrets.items():
                self._check_stand_in(one.origin, name, other, grant)
        return grant

    def _check_stand_in(self, at: Origin, name: SecretName, other: SecretName, grant: Grant) -> None:
        """Raises PolicyError: else a slip would send the catalyst's own secret."""
        problem, hint, requested = "", "", grant.requested
        if name in grant.secrets and grant.secrets[name].reveal:
            problem = f"{name} is revealed to the catalyst, which sends its own value of it"
            hint = "reveal = false, or the same secret at all upstreams"
        elif requested.secrets is not None and name not in requested.secrets:
            problem = f"the catalyst asks for no secret {name}"
            hint = f"it asks for: {', '.join(sorted(map(str, requested.secrets))) or 'none'}"
        elif other not in self.secrets and other not in self.tokens:
            problem, hint = f"{other}, in place of {name}, has no value", f"host secret set {other}"
        if problem:
            raise PolicyError(f"upstreams: at {at}: {problem}", field="upstreams", hint=hint)

    def stand_ins(self, grant: Grant) -> tuple[tuple[SecretName, SecretName], ...]:
        """Pairs: a secret that is granted, and another one that stands in for it at some upstream."""
        named = [pair for one in grant.named_upstreams for pair in one.secrets.items() if pair[0] in grant.secrets]
        return tuple(dict.fromkeys(named))

    def held_for(self, grant: Grant) -> tuple[dict[SecretName, SecretValue], dict[SecretName, ExpiringToken]]:
        """The values that are granted, or stand in for one that is; and the tokens."""
        names = dict.fromkeys([*grant.secrets, *(other for _, other in self.stand_ins(grant))])
        values = {name: self.secrets[name] for name in names if name in self.secrets}
        return values, {name: self.tokens[name] for name in names if name not in values}

    def tls(self) -> TlsByOrigin:
        """The TLS that its policy wants, with the files read. Raises PolicyError, which names the field."""
        policy = self.policy
        rules = policy.terms().tls
        origins = {
            at: TlsFiles.read(rule, f"tls.{at}.", self.keys.get(rule.key_name) if rule.key_name else None)
            for at, rule in rules.items()
        }
        default = TlsFiles.read(TlsRule(ca_file=policy.ca_file), "") if policy.ca_file else None
        return TlsByOrigin(origins, default)


def _value(value: str | SecretValue) -> SecretValue:
    return value if isinstance(value, SecretValue) else SecretValue(value)


def _binding(name: SecretName, secret: Secret) -> SecretGrant | None:
    """Where `secret` may go; None: where the policy says. Raises InputError."""
    if secret.domains is None and not secret.reveal and tuple(secret.places) == ("header",):
        return None
    try:
        places = read_places(secret.places)
    except InputError as error:
        raise InputError(f"secret {name}: places: {error.message}", field="places", hint=error.hint) from None
    if isinstance(secret.domains, str):
        raise InputError(f"secret {name}: domains are a list", field="domains", hint=f'domains=["{secret.domains}"]')
    domains = None if secret.domains is None else tuple(DomainPattern.parse(domain) for domain in secret.domains)
    return SecretGrant(name, domains, places, secret.reveal)


def schema_of(manifest: Manifest | None, name: str) -> InputSchema:
    """The manifest's schema for `input` or `config`. Raises ManifestError."""
    return InputSchema.compile(manifest.schemas.get(name, True) if manifest else True, f"schema.{name}")


def settings_of(manifest: Manifest | None, config: Mapping[str, Json]) -> dict[str, Json]:
    """The config as the catalyst sees it: with its own defaults, which it fills in itself."""
    return {**(manifest.defaults if manifest else {}), **config}
