"""The permissions of a run: those of its target, those of the options, and the operator's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from host.cli.inputs import blaming, read_text
from host.cli.options import HiddenText
from host.cli.output.terminal import say
from host.cli.secret_values import read_option
from host.core import environment
from host.core.strict_json import Json, parse_json
from host.errors import InputError, PolicyError
from host.policy.document import Policy
from host.policy.urls import DomainPattern
from host.secrets.value import SecretValue, weakness

if TYPE_CHECKING:
    from host.runtime.deployment import Secret


@dataclass(frozen=True, slots=True)
class OfferedSecret:
    """A value that was found although no option names it, and the words for its place."""

    value: SecretValue
    place: str


def find_variable(name: str) -> OfferedSecret | None:
    """The variable of that name."""
    value = environment.optional(name)
    return OfferedSecret(SecretValue(value), f"the variable {name} of your environment") if value else None


@dataclass(frozen=True, slots=True)
class RunPermissions:
    """What a run may do: first that of its target, then with the options added, then with the answers of the operator.

    `secrets` are values by name, `secret_domains` where they may go, for those of which that was said. `granted` names
    the secrets that the target has without an option. `find` looks for the value of any other, which is offered to the
    operator.
    """

    policy: Policy = field(default_factory=Policy)
    secrets: Mapping[str, SecretValue] = field(default_factory=dict)
    secret_domains: Mapping[str, Sequence[str]] = field(default_factory=dict)
    config: Mapping[str, Json] = field(default_factory=dict)
    wasi: tuple[str, ...] = ()
    granted: frozenset[str] = frozenset()
    find: Callable[[str], OfferedSecret | None] = find_variable

    def with_domains(self, *domains: str) -> RunPermissions:
        return replace(self, policy=with_domains(self.policy, *domains))

    def with_time(self, seconds: float) -> RunPermissions:
        """With `seconds` at least for a run, streamed or not: for a file without a policy, whose operator says so."""
        limits = self.policy.terms().limits
        whole, stream = max(seconds, limits.timeout_s), max(seconds, limits.stream_timeout_s)
        return replace(self, policy=replace(self.policy, timeout=whole, stream_timeout=stream))

    def bound(self) -> dict[str, Secret]:
        """The secrets as `Host.load` takes them."""
        from host.runtime.deployment import Secret  # noqa: PLC0415 - while the component loads

        return {
            name: Secret(value, self.secret_domains.get(name), weak=True)  # `read_permissions` has warned
            for name, value in self.secrets.items()
        }

    def with_secret_domains(self, name: str, *domains: str) -> RunPermissions:
        return replace(self, secret_domains={**self.secret_domains, name: domains})

    def with_secret(self, name: str, value: SecretValue) -> RunPermissions:
        return replace(self, secrets={**self.secrets, name: value})


def with_domains(policy: Policy, *domains: str) -> Policy:
    """`policy` with `domains` allowed too."""
    return replace(policy, allowed_domains=(*policy.allowed_domains, *domains))


def read_permissions(
    target: RunPermissions,
    *,
    policy_file: str | None,
    allow_domain: tuple[str, ...],
    allow_private: tuple[str, ...],
    upstream: tuple[str, ...],
    secrets: tuple[HiddenText, ...],
    config: tuple[str, ...],
    secret_to: tuple[str, ...] = (),
    allow_import: tuple[str, ...] = (),
) -> RunPermissions:
    """The permissions of `target` and those of the options. A policy file replaces the target's policy. Raises
    InputError and PolicyError, which name the option."""
    policy = read_policy(policy_file) if policy_file else target.policy
    with blaming("--allow-domain"):
        policy = with_domains(policy, *allow_domain)
    with blaming("--allow-private"):
        policy = replace(policy, allowed_private=(*policy.allowed_private, *allow_private))
    with blaming("--upstream", hint="like https://api.openai.com=http://127.0.0.1:8080"):
        policy = replace(policy, upstreams={**policy.upstreams, **_read_upstreams(upstream)})
    with blaming("--config", hint="KEY=VALUE for a text, KEY:=JSON for anything else"):
        settings = dict(map(parse_setting, config))
    values = {str(name): value for name, value in map(read_option, secrets)}
    for name, value in values.items():
        if why := weakness(value):
            say(f"warning: {name}: {why}")
    return replace(
        target,
        policy=policy,
        secrets=values,
        secret_domains=_read_destinations(secret_to, values),
        config={**target.config, **settings},
        wasi=allow_import,
    )


def _read_upstreams(texts: tuple[str, ...]) -> dict[str, str | list[str]]:
    """By origin; a list of those that are named for the same one."""
    found: dict[str, list[str]] = {}
    for origin, upstream in map(_split, texts):
        found.setdefault(origin, []).append(upstream)
    return {origin: some if len(some) > 1 else some[0] for origin, some in found.items()}


def _read_destinations(texts: tuple[str, ...], values: Mapping[str, SecretValue]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with blaming("--secret-to", hint="NAME=DOMAIN, like OPENAI_API_KEY=api.openai.com"):
        for name, domain in map(_split, texts):
            if name not in values:
                raise InputError(f"no --secret {name} is given")
            found.setdefault(name, []).append(str(DomainPattern.parse(domain)))
    return found


def read_policy(path: str) -> Policy:
    """The policy in a file: JSON where its name ends in `.json`, TOML otherwise. Raises InputError, PolicyError."""
    text = read_text(path, "--policy")
    try:
        return Policy.parse(text, in_json=path.endswith(".json"))
    except PolicyError as error:
        raise PolicyError(f"--policy {path}: {error.message}", field=error.field, hint=error.hint) from None


def parse_setting(text: str) -> tuple[str, Json]:
    """The key and the value of `KEY=VALUE`, a text, or of `KEY:=JSON`. Raises InputError."""
    key, value = _split(text)
    return (key[:-1], parse_json(value, key[:-1])) if key.endswith(":") else (key, value)


def _split(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise InputError(f"{text!r} has no = in it" if key else f"{text!r} has nothing before its =")
    return key, value
