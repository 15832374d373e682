"""The policy document: what one catalyst may reach and spend. Its defaults deny.

An operator writes it as arguments of `Policy`, or in TOML or JSON. Unknown fields are errors; a bad value never means
"unlimited"; no field changes another. A Policy holds checked texts. `Policy.terms` parses them into Terms, with a
SecretGrant for each secret. Effective is the stored policy of one component, and words the commands that add to it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from reprlib import repr as shown  # short, of whatever size
from types import UnionType
from typing import Any, Final, Literal, TypeVar

from host.core.fields import FieldReader
from host.core.headers import CREDENTIALS, HEADER, forwarded_header, secret_header
from host.core.limits import Limits
from host.core.names import Reference, SecretName
from host.core.quantities import Quota, parse_count, parse_duration, parse_size
from host.core.strict_json import Json, parse_json
from host.errors import InputError, PolicyError
from host.policy.reliability import (
    Breaker,
    Retries,
    Throttle,
    in_field,
    read_breaker,
    read_retries,
    read_throttle,
)
from host.policy.tls import TlsRule, check_path
from host.policy.upstreams import UpstreamPlace, UpstreamRule
from host.policy.upstreams import read_places as read_upstreams
from host.policy.urls import DomainPattern, Origin, Target

T = TypeVar("T", bound="Policy | RateLimit | SecretRule | Retries | Breaker | Throttle | TlsRule | UpstreamRule")

Method = Literal["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
METHODS: tuple[Method, ...] = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
PLACES: Final = ("header", "url", "body")
Isolation = Literal["operation", "key"]
ISOLATIONS: tuple[Isolation, ...] = ("operation", "key")


def read_places(texts: Sequence[str]) -> frozenset[str]:
    """The places of a request that `texts` name: `header`, for the headers that carry credentials; `header:NAME`, for
    those and NAME; `url`; `body`. Names are in lower case. Raises PolicyError."""
    places: set[str] = set()
    for text in texts:
        if text.startswith(HEADER):
            places |= {"header", HEADER + secret_header(text.removeprefix(HEADER))}
        elif text in PLACES:
            places.add(text)
        else:
            raise PolicyError(f"{text[:80]!r} is not one of {', '.join(PLACES)}, header:NAME")
    if not places:
        raise PolicyError("a secret needs a place", hint="one or several of header, header:NAME, url, body")
    return frozenset(places)


def listed_places(places: Collection[str]) -> list[str]:
    """`places` in their order: header, header:NAME by name, url, body."""
    return sorted(places, key=lambda place: (PLACES.index(place.partition(":")[0]), place))


@dataclass(frozen=True, kw_only=True)
class SecretRule:
    """The destinations of one secret. `domains` defaults to those that the manifest names for it, and without any to
    the only allowed domain. `places` (in documents: `in`) are the parts of a request, as `read_places` reads them; the
    default is header. With `reveal` the guest sees the value."""

    domains: Sequence[str] | None = None
    places: Sequence[str] = ("header",)
    reveal: bool = False

    def __post_init__(self) -> None:
        with in_field("domains"):
            _each(() if self.domains is None else self.domains, DomainPattern.parse)
        with in_field("in"):
            _each(self.places, str)
            read_places(self.places)
        with in_field("reveal"):
            _instance(bool, self.reveal)


@dataclass(frozen=True, slots=True)
class SecretGrant:
    """The secret `name` may be put into `places` (see `read_places`) of requests to `domains`. With `reveal` the guest
    sees its value. `declared` are the headers that the manifest adds to those that carry credentials, in lower case.
    `domains` None leaves them to the policy, the manifest or the only allowed domain (`host.policy.permissions`), and
    matches nothing until then."""

    name: SecretName
    domains: tuple[DomainPattern, ...] | None
    places: frozenset[str] = frozenset({"header"})
    reveal: bool = False
    declared: frozenset[str] = frozenset()

    def goes_to(self, target: Target, mapped: Container[Origin]) -> bool:
        """Whether the secret may be sent to `target`: one of its domains, over https or to one of the `mapped` origins
        (the keys of the policy's `upstreams`)."""
        over_tls = target.scheme == "https" or target.at in mapped
        return over_tls and any(domain.matches(target) for domain in self.domains or ())

    def fits_header(self, name: str) -> bool:
        """Whether the secret may stand in the header `name`, which is in lower case."""
        if "header" not in self.places:
            return False
        return name in CREDENTIALS or name in self.declared or HEADER + name in self.places


@dataclass(frozen=True, kw_only=True)
class RateLimit:
    """At most `requests`, 0 or more, in any `window`, a duration."""

    requests: int
    window: str | float

    def __post_init__(self) -> None:
        with in_field("requests"):
            parse_count(self.requests)
        with in_field("window"):
            parse_duration(self.window)

    @property
    def window_s(self) -> float:
        return parse_duration(self.window)

    def quota(self) -> Quota | None:
        """The quota to count by: the nearest one that can be counted. None if no request may go."""
        return Quota.nearest(self.requests, self.window_s) if self.requests else None


@dataclass(frozen=True, slots=True)
class Terms:
    """A policy, parsed."""

    domains: tuple[DomainPattern, ...]
    methods: frozenset[str]
    private: tuple[IPv4Network | IPv6Network, ...]
    upstreams: Mapping[Origin, tuple[UpstreamPlace, ...]]
    tls: Mapping[Origin, TlsRule]
    forward_headers: frozenset[str]
    secrets: Mapping[SecretName, SecretGrant]
    rate: RateLimit | None
    retries: Retries | None
    breaker: Breaker | None
    throttle: Throttle | None
    isolation: Isolation
    limits: Limits

    @property
    def stand_ins(self) -> frozenset[SecretName]:
        """The operator's secrets that stand in for the catalyst's at some upstream."""
        places = [place for places in self.upstreams.values() for place in places]
        return frozenset([other for place in places for other in place.secrets.values()])


_DEFAULT = Limits()


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a catalyst may do. Every default is safe: no domain is reachable until `allowed_domains` names it.
    `ca_file` has the certificate authorities that count for every origin without one of its own in `tls`.
    `forward_headers` are headers of a caller's request that go to the upstream, beside those that the manifest names.
    `upstreams` has for an origin the one that its requests are sent to, or a list of some: where one does not serve a
    request, the next is asked. `isolation`: a sandbox is fresh for each `operation`, or the operations of one API `key`
    have one, one after the other, and the catalyst may keep something from one to the next. Durations are seconds or
    texts like `30s`; sizes are bytes or texts like `64MB`. Raises PolicyError, which names the field."""

    allowed_domains: Sequence[str] = ()
    allowed_methods: Sequence[Method] = METHODS
    allowed_private: Sequence[str] = ()
    upstreams: Mapping[str, str | Sequence[str | UpstreamRule]] = field(default_factory=dict)
    ca_file: str | None = None
    tls: Mapping[str, TlsRule] = field(default_factory=dict)
    forward_headers: Sequence[str] = ()
    secrets: Mapping[str, SecretRule] = field(default_factory=dict)
    rate_limit: RateLimit | None = None
    retries: int | bool | Retries = 0
    breaker: bool | Breaker = False
    throttle: Throttle | Literal[False] = False
    isolation: Isolation = "operation"
    timeout: str | float = _DEFAULT.timeout_s
    stream_timeout: str | float = _DEFAULT.stream_timeout_s
    connect_timeout: str | float = _DEFAULT.connect_timeout_s
    first_byte_timeout: str | float = _DEFAULT.first_byte_timeout_s
    idle_timeout: str | float = _DEFAULT.idle_timeout_s
    cpu_time: str | float = _DEFAULT.cpu_time_s
    max_memory_bytes: str | int = _DEFAULT.max_memory_bytes
    max_request_size: str | int = _DEFAULT.max_request_bytes
    max_response_size: str | int = _DEFAULT.max_response_bytes
    max_output_size: str | int = _DEFAULT.max_output_bytes
    max_http_requests: int = _DEFAULT.max_http_requests
    max_streams: int = _DEFAULT.max_streams
    max_connections: int = _DEFAULT.max_connections
    max_upstream_connections: int = _DEFAULT.max_upstream_connections
    max_message_size: str | int = _DEFAULT.max_message_bytes
    max_connection_size: str | int = _DEFAULT.max_connection_bytes

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            with in_field(name):
                check(getattr(self, name))

    def __repr__(self) -> str:
        """The fields that differ from their defaults."""
        named = ((one.name, getattr(self, one.name), one.default) for one in fields(self))
        changed = (f"{name}={value!r}" for name, value, default in named if value not in (default, {}))
        return f"Policy({', '.join(changed)})"

    @classmethod
    def parse(cls, text: str, *, in_json: bool = False) -> Policy:
        """The policy in `text`, TOML or JSON. Raises PolicyError. An empty text is the policy that allows nothing."""
        try:
            document = parse_json(text, "the policy", names_once=True) if in_json else _of_toml(text)
        except (InputError, RecursionError) as error:
            raise PolicyError(f"the policy cannot be read: {error}") from None
        return cls.from_document(document)

    @classmethod
    def from_document(cls, document: Json) -> Policy:
        """The policy in a JSON or TOML value. Raises PolicyError."""
        return _read(cls, FieldReader(document, error=_malformed))

    def terms(self) -> Terms:
        return Terms(
            domains=tuple(DomainPattern.parse(text) for text in self.allowed_domains),
            methods=frozenset(self.allowed_methods),
            private=tuple(_network(text) for text in self.allowed_private),
            upstreams={Origin.parse(source): read_upstreams(given) for source, given in self.upstreams.items()},
            tls={
                Origin.parse(at): replace(rule, ca_file=rule.ca_file or self.ca_file) for at, rule in self.tls.items()
            },
            forward_headers=frozenset(map(forwarded_header, self.forward_headers)),
            secrets={SecretName.parse(name): _secret_grant(name, rule) for name, rule in self.secrets.items()},
            rate=self.rate_limit,
            retries=read_retries(self.retries),
            breaker=read_breaker(self.breaker),
            throttle=read_throttle(self.throttle),
            isolation=self.isolation,
            limits=Limits(
                timeout_s=parse_duration(self.timeout),
                stream_timeout_s=parse_duration(self.stream_timeout),
                connect_timeout_s=parse_duration(self.connect_timeout),
                first_byte_timeout_s=parse_duration(self.first_byte_timeout),
                idle_timeout_s=parse_duration(self.idle_timeout),
                cpu_time_s=parse_duration(self.cpu_time),
                max_memory_bytes=parse_size(self.max_memory_bytes),
                max_request_bytes=parse_size(self.max_request_size),
                max_response_bytes=parse_size(self.max_response_size),
                max_output_bytes=parse_size(self.max_output_size),
                max_http_requests=self.max_http_requests,
                max_streams=self.max_streams,
                max_connections=self.max_connections,
                max_upstream_connections=self.max_upstream_connections,
                max_message_bytes=parse_size(self.max_message_size),
                max_connection_bytes=parse_size(self.max_connection_size),
            ),
        )


def default_binding(domains: Sequence[DomainPattern]) -> tuple[DomainPattern, ...]:
    """The domains of a secret whose rule names none: `domains`, but never "any domain"."""
    return tuple(domain for domain in domains if domain.host is not None)


def _secret_grant(name: str, rule: SecretRule) -> SecretGrant:
    bound = None if rule.domains is None else tuple(DomainPattern.parse(text) for text in rule.domains)
    return SecretGrant(SecretName.parse(name), bound, read_places(rule.places), rule.reveal)


def _each(given: object, parse: Callable[[Any], object]) -> None:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise PolicyError(f"{shown(given)} is not a list")
    for one in given:
        if not isinstance(one, str):
            raise PolicyError(f"{shown(one)} is not a text")
        parse(one)


def _pairs(given: object, parse: Callable[[Any], object], check: Callable[[Any], object]) -> None:
    if not isinstance(given, Mapping):
        raise PolicyError(f"{shown(given)} is not a table")
    for name, one in given.items():
        if not isinstance(name, str):
            raise PolicyError(f"{shown(name)} is not a text")
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


def _at_least_one(given: object) -> None:
    if not parse_count(given):
        raise PolicyError("0 is not a number of connections", hint="1 or more")


def _tls_origin(text: str) -> None:
    if Origin.parse(text).scheme != "https":
        raise PolicyError(f"{text[:80]!r} has no TLS", hint="an origin like https://llm.acme.example")


def _instance(kind: type | UnionType, given: object) -> None:
    if not isinstance(given, kind):
        raise PolicyError(f"{shown(given)} is not a {getattr(kind, '__name__', kind)}")


_CHECKS: Mapping[str, Callable[[Any], object]] = {
    "allowed_domains": lambda given: _each(given, DomainPattern.parse),
    "allowed_methods": lambda given: _each(given, lambda one: _one_of(one, METHODS)),
    "allowed_private": lambda given: _each(given, _network),
    "upstreams": lambda given: _pairs(given, Origin.parse, read_upstreams),
    "ca_file": check_path,
    "tls": lambda given: _pairs(given, _tls_origin, lambda one: _instance(TlsRule, one)),
    "forward_headers": lambda given: _each(given, forwarded_header),
    "secrets": lambda given: _pairs(given, SecretName.parse, lambda one: _instance(SecretRule, one)),
    "rate_limit": lambda given: _instance(RateLimit | None, given),
    "retries": read_retries,
    "breaker": read_breaker,
    "throttle": read_throttle,
    "isolation": lambda given: _one_of(given, ISOLATIONS),
    "timeout": parse_duration,
    "stream_timeout": parse_duration,
    "connect_timeout": parse_duration,
    "first_byte_timeout": parse_duration,
    "idle_timeout": parse_duration,
    "cpu_time": parse_duration,
    "max_memory_bytes": parse_size,
    "max_request_size": parse_size,
    "max_response_size": parse_size,
    "max_output_size": parse_size,
    "max_http_requests": parse_count,
    "max_streams": parse_count,
    "max_connections": parse_count,
    "max_upstream_connections": _at_least_one,
    "max_message_size": parse_size,
    "max_connection_size": parse_size,
}


def _read(kind: type[T], given: FieldReader) -> T:
    """A `kind` from the fields of an object in a document. Raises PolicyError."""
    known = {_SPELLED.get(one.name, one.name): one for one in fields(kind)}
    for name, near in given.unknown(known):
        hint = (f"did you mean {near}? " if near else "") + f"one of {', '.join(known)}"
        raise PolicyError(f"unknown field '{given.path(name)}'", field=given.path(name), hint=hint)
    for name, one in known.items():
        if name not in given and one.default is one.default_factory is MISSING:
            raise given.error(name, "is missing")
    parts = {known[name].name: _part(name, value, given) for name, value in given.given.items()}
    try:
        return kind(**parts)
    except PolicyError as error:  # its field is relative to this object
        at = given.path(error.field) if error.field else given.at
        problem = error.message.removeprefix(f"{error.field}: ")
        raise PolicyError(f"{at}: {problem}", field=at, hint=error.hint) from None


def _part(name: str, value: Json, given: FieldReader) -> Any:
    """The value of the field `name` as an argument, where a document writes it in another way."""
    match name:
        case "in" if isinstance(value, str):
            return [value]
        case "rate_limit" if value is not None:
            return _read(RateLimit, given.table(name))
        case "retries" if isinstance(value, dict):
            return _read(Retries, given.table(name))
        case "breaker" if isinstance(value, dict):
            return _read(Breaker, given.table(name))
        case "throttle" if isinstance(value, dict):
            return _read(Throttle, given.table(name))
        case "secrets":
            return {secret: _read(SecretRule, rule) for secret, rule in given.table(name).tables()}
        case "tls":
            return {origin: _read(TlsRule, rule) for origin, rule in given.table(name).tables()}
        case "upstreams":
            table = given.table(name)
            return {origin: _upstreams(origin, one, table) for origin, one in table.given.items()}
    return value


def _upstreams(origin: str, given: Json, table: FieldReader) -> Any:
    """The upstreams of one origin, with an UpstreamRule for each that is a table."""
    if not isinstance(given, list):
        return given
    return [
        _read(UpstreamRule, FieldReader(one, error=_malformed, at=at)) if isinstance(one, dict) else one
        for at, one in table.items(origin)
    ]


def _of_toml(text: str) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - 5 ms, and most runs read no policy's text

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(str(error)) from None


def _malformed(at: str, problem: str) -> PolicyError:
    return PolicyError(f"{at or 'the policy'} {problem}", field=at or None)


_SPELLED: Mapping[str, str] = {"places": "in"}  # a keyword in Python


DEFAULT: Final = "default"
_MOST_SHOWN = 20  # entries of a list in a command to paste; a longer list is edited in an editor


@dataclass(frozen=True, slots=True)
class Effective:
    """The stored policy of `reference`: the defaults, overridden by the fields set for all its versions, overridden by
    the fields set for its own version. `origins` has the source of each field: `default`, or a reference."""

    reference: Reference
    policy: Policy
    origins: Mapping[str, str]

    def adding(self, field: Literal["allowed_domains", "allowed_methods", "allowed_private"], *more: str) -> str:
        """The command that adds `more` to the list `field` and removes no other entry. It sets the field where it was
        set, else for all versions."""
        entries = [*getattr(self.policy, field), *more]
        if len(entries) > _MOST_SHOWN:
            return shlex.join(["host", "policy", "edit", self._scope(field)])
        return self.setting(field, json.dumps(entries))

    def setting(self, field: str, text: str) -> str:
        """The command that sets `field`, where it was set, else for all versions."""
        return shlex.join(["host", "policy", "set", self._scope(field), field, text])

    def _scope(self, field: str) -> str:
        origin = self.origins[field]
        return str(self.reference.any_version) if origin == DEFAULT else origin

    def granting(self, secret: SecretGrant, domain: str, places: Collection[str] = ()) -> str:
        """The command that lets a granted secret be sent to `domain` too, in `places` too. It names this very version,
        whose grant overrides all others."""
        domains = dict.fromkeys([*map(str, secret.domains or ()), domain])
        words = ["host", "secret", "grant", str(self.reference), str(secret.name)]
        words += [word for one in domains for word in ("--allow-domain", one)]
        words += [word for one in listed_places({*secret.places, *places}) for word in ("--in", one)]
        return shlex.join([*words, "--reveal"] if secret.reveal else words)
