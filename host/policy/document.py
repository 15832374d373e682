"""A policy as an operator writes it: what one catalyst may reach and spend. Denies by default.

In TOML or JSON, or as arguments of `Policy`. Unknown fields are errors; a bad value never means "unlimited"; no field
changes another. The document holds texts, each checked; `Policy.terms` has them parsed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from host.errors import HostError, InputError, PolicyError
from host.jsontext import parse_json
from host.limits import Limits
from host.names import SecretName
from host.policy.domains import DomainPattern
from host.policy.secrets import Place, SecretGrant
from host.policy.units import parse_count, parse_duration, parse_size
from host.policy.urls import Origin, UrlError

Method = Literal["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
METHODS: tuple[Method, ...] = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")

_T = TypeVar("_T")


def _readable(parse: Callable[[Any], object]) -> Callable[[_T], _T]:
    """A validator that keeps the text and refuses what `parse` refuses."""

    def check(given: _T) -> _T:
        try:
            parse(given)
        except (HostError, UrlError) as error:
            raise ValueError(str(error)) from None
        return given

    return check


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise PolicyError(str(error), hint="a network like 127.0.0.0/8 or an address like 10.0.0.5") from None


def _sequence(given: object) -> object:
    return tuple(given) if isinstance(given, list | set | frozenset) else given


def _one_or_several(given: object) -> object:
    return (given,) if isinstance(given, str) else _sequence(given)


def _checked(parse: Callable[[Any], object]) -> AfterValidator:
    return AfterValidator(_readable(parse))


_Domains = Annotated[Sequence[Annotated[str, _checked(DomainPattern.parse)]], BeforeValidator(_sequence)]
_OriginText = Annotated[str, _checked(Origin.parse)]
_Duration = Annotated[str | float, BeforeValidator(_readable(parse_duration))]
_Size = Annotated[str | int, BeforeValidator(_readable(parse_size))]
_Count = Annotated[int, BeforeValidator(_readable(parse_count))]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    _what: ClassVar[str] = "policy"

    @model_validator(mode="wrap")
    @classmethod
    def _own_errors(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            raise _as_policy_error(error, cls._what, tuple(cls.model_fields)) from None


class SecretRule(_Document):
    """Where one secret may go: `domains` (default: the policy's allowed_domains), `in` (in Python: `places`) header, url
    or body of the request (default: header), and whether its value is shown to the guest (default: never)."""

    _what: ClassVar[str] = "policy: secrets"

    domains: _Domains | None = None
    places: Annotated[Sequence[Place], BeforeValidator(_one_or_several), Field(min_length=1)] = Field(
        ("header",), validation_alias=AliasChoices("in", "places")
    )
    reveal: bool = False


class RateLimit(_Document):
    """`requests` in any `window` (a duration)."""

    _what: ClassVar[str] = "policy: rate_limit"

    requests: _Count
    window: _Duration

    def rate(self) -> Rate:
        return Rate(self.requests, parse_duration(self.window))


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `requests` in any `window_s` seconds."""

    requests: int
    window_s: float


_DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class Terms:
    """A policy, parsed."""

    domains: tuple[DomainPattern, ...]
    methods: frozenset[str]
    private: tuple[IPv4Network | IPv6Network, ...]
    upstreams: Mapping[Origin, Origin]
    secrets: Mapping[SecretName, SecretGrant]
    rate: Rate | None
    limits: Limits


class Policy(_Document):
    """What a catalyst may do. Every default is safe: nothing is reachable until `allowed_domains` names it. Durations
    are seconds or texts like `30s`; sizes bytes or texts like `64MB`. Raises PolicyError."""

    allowed_domains: _Domains = ()
    allowed_methods: Annotated[Sequence[Method], BeforeValidator(_sequence)] = METHODS
    allowed_private: Annotated[Sequence[Annotated[str, _checked(_network)]], BeforeValidator(_sequence)] = ()
    upstreams: Mapping[_OriginText, _OriginText] = Field(default_factory=dict)
    secrets: Mapping[Annotated[str, _checked(SecretName.parse)], SecretRule] = Field(default_factory=dict)
    rate_limit: RateLimit | None = None
    timeout: _Duration = _DEFAULT.timeout_s
    cpu_time: _Duration = _DEFAULT.cpu_time_s
    max_memory_bytes: _Size = _DEFAULT.max_memory_bytes
    max_request_size: _Size = _DEFAULT.max_request_bytes
    max_response_size: _Size = _DEFAULT.max_response_bytes
    max_output_size: _Size = _DEFAULT.max_output_bytes
    max_http_requests: _Count = _DEFAULT.max_http_requests
    max_streams: _Count = _DEFAULT.max_streams

    @classmethod
    def parse(cls, text: str, *, json: bool = False) -> Policy:
        """The policy in `text`, TOML or JSON. Raises PolicyError. An empty text is the policy that allows nothing."""
        try:
            fields = parse_json(text, "the policy") if json else tomllib.loads(text)
        except (tomllib.TOMLDecodeError, InputError) as error:
            raise PolicyError(f"the policy cannot be read: {error}") from None
        return cls.model_validate(fields)

    def terms(self) -> Terms:
        domains = tuple(DomainPattern.parse(text) for text in self.allowed_domains)
        return Terms(
            domains=domains,
            methods=frozenset(self.allowed_methods),
            private=tuple(_network(text) for text in self.allowed_private),
            upstreams={Origin.parse(source): Origin.parse(target) for source, target in self.upstreams.items()},
            secrets={SecretName.parse(name): _secret_grant(name, rule, domains) for name, rule in self.secrets.items()},
            rate=None if self.rate_limit is None else self.rate_limit.rate(),
            limits=Limits(
                timeout_s=parse_duration(self.timeout),
                cpu_time_s=parse_duration(self.cpu_time),
                max_memory_bytes=parse_size(self.max_memory_bytes),
                max_request_bytes=parse_size(self.max_request_size),
                max_response_bytes=parse_size(self.max_response_size),
                max_output_bytes=parse_size(self.max_output_size),
                max_http_requests=self.max_http_requests,
                max_streams=self.max_streams,
            ),
        )


def default_binding(domains: Sequence[DomainPattern]) -> tuple[DomainPattern, ...]:
    """Where a secret may go that names no domains of its own: the policy's, but never "any domain"."""
    return tuple(domain for domain in domains if domain.host is not None)


def _secret_grant(name: str, rule: SecretRule, domains: Sequence[DomainPattern]) -> SecretGrant:
    bound = (
        default_binding(domains) if rule.domains is None else tuple(DomainPattern.parse(text) for text in rule.domains)
    )
    return SecretGrant(SecretName.parse(name), bound, frozenset(rule.places), rule.reveal)


def _as_policy_error(error: ValidationError, what: str, known: Sequence[str]) -> PolicyError:
    """The first mistake, with the field's path; an unknown field is answered with the known ones."""
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return PolicyError(f"{what}: unknown field {path!r}", field=path, hint="one of " + ", ".join(known))
    message = first["msg"].removeprefix("Value error, ")
    return PolicyError(f"{what}: {path}: {message}" if path else f"{what}: {message}", field=path or None)
