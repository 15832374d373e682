"""A policy as an operator writes it: what one catalyst may reach and spend. Denies by default.

As arguments of `Policy`, or in TOML or JSON. Unknown fields are errors; a bad value never means "unlimited"; no field
changes another. The document holds texts, each checked; `Policy.terms` has them parsed.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from host.errors import HostError, InputError, PolicyError
from host.jsontext import Json, parse_json
from host.limits import Limits
from host.names import SecretName
from host.policy.domains import DomainPattern
from host.policy.secrets import PLACES, Place, SecretGrant
from host.policy.units import parse_count, parse_duration, parse_size
from host.policy.urls import Origin, UrlError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

Method = Literal["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
METHODS: tuple[Method, ...] = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")

_CLOSED: Mapping[str, Any] = {"extra": "forbid"}  # pydantic's, for documents from outside


@dataclass(frozen=True, kw_only=True)
class SecretRule:
    """Where one secret may go: `domains` (default: the policy's allowed_domains), `places` of the request (in
    documents: `in`), of header, url and body (default: header), and whether its value is shown to the guest (default:
    never)."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _CLOSED

    domains: Sequence[str] | None = None
    places: Sequence[Place] = ("header",)
    reveal: bool = False

    def __post_init__(self) -> None:
        with _field("domains"):
            _each(self.domains or (), DomainPattern.parse)
        with _field("in"):
            _each(self.places, lambda one: _one_of(one, PLACES))
            if not self.places:
                raise PolicyError("a secret goes somewhere", hint="one or several of " + ", ".join(PLACES))


@dataclass(frozen=True, kw_only=True)
class RateLimit:
    """`requests` in any `window` (a duration)."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _CLOSED

    requests: int
    window: str | float

    def __post_init__(self) -> None:
        with _field("requests"):
            parse_count(self.requests)
        with _field("window"):
            parse_duration(self.window)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `requests` in any `window_s` seconds."""

    requests: int
    window_s: float


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


_DEFAULT = Limits()


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a catalyst may do. Every default is safe: nothing is reachable until `allowed_domains` names it. Durations
    are seconds or texts like `30s`; sizes bytes or texts like `64MB`. Raises PolicyError, which names the field."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _CLOSED

    allowed_domains: Sequence[str] = ()
    allowed_methods: Sequence[Method] = METHODS
    allowed_private: Sequence[str] = ()
    upstreams: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, SecretRule] = field(default_factory=dict)
    rate_limit: RateLimit | None = None
    timeout: str | float = _DEFAULT.timeout_s
    cpu_time: str | float = _DEFAULT.cpu_time_s
    max_memory_bytes: str | int = _DEFAULT.max_memory_bytes
    max_request_size: str | int = _DEFAULT.max_request_bytes
    max_response_size: str | int = _DEFAULT.max_response_bytes
    max_output_size: str | int = _DEFAULT.max_output_bytes
    max_http_requests: int = _DEFAULT.max_http_requests
    max_streams: int = _DEFAULT.max_streams

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            with _field(name):
                check(getattr(self, name))

    @classmethod
    def parse(cls, text: str, *, in_json: bool = False) -> Policy:
        """The policy in `text`, TOML or JSON. Raises PolicyError. An empty text is the policy that allows nothing."""
        try:
            document = parse_json(text, "the policy") if in_json else tomllib.loads(text)
        except (tomllib.TOMLDecodeError, InputError, RecursionError) as error:
            raise PolicyError(f"the policy cannot be read: {error}") from None
        return cls.from_document(document)

    @classmethod
    def from_document(cls, document: Json) -> Policy:
        """The policy that a JSON or TOML value spells. Raises PolicyError."""
        from pydantic import ValidationError  # noqa: PLC0415 - a third of a start-up, and `host run` mostly needs none of it

        try:
            return _adapter().validate_json(json.dumps(_in_python(document), default=str), strict=True)
        except ValidationError as error:
            raise _as_policy_error(error) from None

    def terms(self) -> Terms:
        domains = tuple(DomainPattern.parse(text) for text in self.allowed_domains)
        rate = self.rate_limit
        return Terms(
            domains=domains,
            methods=frozenset(self.allowed_methods),
            private=tuple(_network(text) for text in self.allowed_private),
            upstreams={Origin.parse(source): Origin.parse(target) for source, target in self.upstreams.items()},
            secrets={SecretName.parse(name): _secret_grant(name, rule, domains) for name, rule in self.secrets.items()},
            rate=None if rate is None else Rate(rate.requests, parse_duration(rate.window)),
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


class _field:  # noqa: N801 - a context manager, used like a function
    """Puts the field's name before whatever is wrong inside."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        match error:
            case HostError() | UrlError():
                said = error.message if isinstance(error, HostError) else error.reason
                hint = error.hint if isinstance(error, HostError) else None
                raise PolicyError(f"{self._name}: {said}", field=self._name, hint=hint) from None


def _each(given: object, parse: Callable[[Any], object]) -> None:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise PolicyError(f"{given!r} is not a list")
    for one in given:
        if not isinstance(one, str):
            raise PolicyError(f"{one!r} is not a text")
        parse(one)


def _pairs(given: object, parse: Callable[[Any], object], check: Callable[[Any], object]) -> None:
    if not isinstance(given, Mapping):
        raise PolicyError(f"{given!r} is not a table")
    for name, one in given.items():
        if not isinstance(name, str):
            raise PolicyError(f"{name!r} is not a text")
        parse(name)
        check(one)


def _one_of(given: str, known: Sequence[str]) -> None:
    if given not in known:
        raise PolicyError(f"{given!r} is not one of " + ", ".join(known))


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise PolicyError(str(error), hint="a network like 127.0.0.0/8 or an address like 10.0.0.5") from None


def _origin(given: object) -> Origin:
    if not isinstance(given, str):
        raise PolicyError(f"{given!r} is not an origin", hint="like https://api.openai.com")
    return Origin.parse(given)


def _instance(kind: type | UnionType, given: object) -> None:
    if not isinstance(given, kind):
        raise PolicyError(f"{given!r} is not a {getattr(kind, '__name__', kind)}")


_CHECKS: Mapping[str, Callable[[Any], object]] = {
    "allowed_domains": lambda given: _each(given, DomainPattern.parse),
    "allowed_methods": lambda given: _each(given, lambda one: _one_of(one, METHODS)),
    "allowed_private": lambda given: _each(given, _network),
    "upstreams": lambda given: _pairs(given, Origin.parse, _origin),
    "secrets": lambda given: _pairs(given, SecretName.parse, lambda one: _instance(SecretRule, one)),
    "rate_limit": lambda given: _instance(RateLimit | None, given),
    "timeout": parse_duration,
    "cpu_time": parse_duration,
    "max_memory_bytes": parse_size,
    "max_request_size": parse_size,
    "max_response_size": parse_size,
    "max_output_size": parse_size,
    "max_http_requests": parse_count,
    "max_streams": parse_count,
}


@cache
def _adapter() -> TypeAdapter[Policy]:
    from pydantic import TypeAdapter  # noqa: PLC0415 - see from_document

    return TypeAdapter(Policy)


def _in_python(document: Json) -> Json:
    """The document with `in`, which is a keyword in Python, as `places`, and a single place as a list of one."""
    secrets = document.get("secrets") if isinstance(document, dict) else None
    if not isinstance(secrets, dict):
        return document
    return {**document, "secrets": {name: _rule_in_python(name, rule) for name, rule in secrets.items()}}


def _rule_in_python(name: str, rule: Json) -> Json:
    if not isinstance(rule, dict):
        return rule
    if "places" in rule:
        raise PolicyError(f"unknown field 'secrets.{name}.places'", field=f"secrets.{name}.places", hint="called in")
    if "in" not in rule:
        return rule
    places = rule["in"]
    kept = {name: value for name, value in rule.items() if name != "in"}
    return {**kept, "places": [places] if isinstance(places, str) else places}


def _as_policy_error(error: ValidationError) -> PolicyError:
    """The first mistake, with the field's path; an unknown field is answered with the known ones."""
    first = error.errors(include_url=False)[0]
    path = ".".join("in" if part == "places" else str(part) for part in first["loc"])
    if first["type"] == "unexpected_keyword_argument":
        kind: type = (
            SecretRule if path.startswith("secrets.") else RateLimit if path.startswith("rate_limit.") else Policy
        )
        known = ", ".join("in" if one.name == "places" else one.name for one in fields(kind))
        return PolicyError(f"unknown field {path!r}", field=path, hint=f"one of {known}")
    raised = first.get("ctx", {}).get("error")
    if isinstance(raised, PolicyError):  # by __post_init__ of the part at `path`, which knows its own fields alone
        parts = [part for part in (path, raised.field) if part]
        said = raised.message.removeprefix(f"{raised.field}: ")
        return PolicyError(f"{'.'.join(parts)}: {said}", field=".".join(parts), hint=raised.hint)
    return PolicyError(f"{path}: {first['msg']}" if path else first["msg"], field=path or None)
