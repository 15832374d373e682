"""The settings of a server, and the file for them (TOML, YAML or JSON).

default = "c:local.openai"                # for other models, and for requests without a model
allowed_hosts = ["api.example.com"]       # names of this server, beside those of the loopback interface
cors_origins = ["https://app.example.com"]  # their pages may use the server
trusted_proxies = ["10.0.0.0/8"]          # their X-Forwarded-For counts
max_body_size = "64MB"
max_bodies_size = "512MB"                 # of all requests under way in a process; a key has half at most
max_unknown_connections = 512             # in each process, before a request on them was authenticated
max_unknown_connections_per_address = 64
mcp_tools = ["chat.*", "files.*"]         # what MCP lists, where there are more than 40 tools
limits = "redis://cache.internal/0"       # counts requests and tokens; default: the state's database
health_checks = "1m"                      # asks the upstreams of the routing so often for their models; default: never

[prefix_map]                              # the beginning of a model's name: its catalyst
gpt = "c:local.openai"

[aliases]
fast = "gpt-4o-mini"

[failover."gpt-4o"]                       # several catalysts for one model; "gpt-*" for all that begin so
on = ["network", "timeout", "5xx", "429", "circuit_open"]  # the failures after which the next one is asked
unsafe_repeat = false                     # true: also where the first may have done the work, and billed it

[[failover."gpt-4o".targets]]
catalyst = "c:local.openai"

[[failover."gpt-4o".targets]]
catalyst = "c:local.azure"
model = "gpt-4o-eu"                       # its name there
priority = 2                              # after those of priority 1, the default
weight = 3                                # first three times as often as one of weight 1 and the same priority

[budgets."c:local.openai"]
requests = "10000/1d"
tokens = "5M/1d"
concurrency = 20                          # its runs that have a sandbox at once, in each process

[batches]                                 # /v1/batches is this server's own, for upstreams that have none
concurrency = 16                          # lines of one batch that run at once
keep = "30d"                              # their files
max_size = "1GiB"                         # of the files of one key
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from host.core.fields import did_you_mean
from host.core.names import Reference
from host.core.quantities import CALENDAR_UNITS, Quota, parse_duration, parse_size
from host.core.repeating import CAUSES
from host.core.strict_json import parse_json
from host.errors import HostError, InputError
from host.server.connections import MOST_UNKNOWN, MOST_UNKNOWN_OF_ADDRESS
from host.service.batches.hosted_work import BatchSettings
from host.service.health import LEAST_PAUSE_S
from host.service.limits import Budget
from host.service.principal import MOST_BYTES
from host.service.request import Routing
from host.service.targets import Failover, ModelTarget
from host.store.access.api_keys import operation_glob

MAX_BODY_BYTES = 64 * 1024 * 1024  # audio has up to 25 MB, and base64 adds a third
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\sA-Z]+\Z")  # a browser's extension has one with a scheme of its own


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """`allowed_hosts` are names in the Host header, `*` for any; `budgets` are by references without a version;
    `limits_url` may hold a password. `max_connections` 0: as many as descriptors allow. `max_runs` are under way at
    once in a process; None: see `Host`. `mcp_tools` are globs over operations: which of them MCP lists where there are
    too many to list them all. `batches`: the server runs batches itself; None: upstreams do. `anonymous` admits callers
    on the loopback interface while there is no key."""

    routing: Routing = field(default_factory=Routing)
    budgets: Mapping[Reference, Budget] = field(default_factory=dict)
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    max_body_bytes: int = MAX_BODY_BYTES
    max_bodies_bytes: int = MOST_BYTES
    max_connections: int = 0
    max_runs: int | None = None
    max_unknown_connections: int = MOST_UNKNOWN
    max_unknown_connections_per_address: int = MOST_UNKNOWN_OF_ADDRESS
    mcp_tools: tuple[str, ...] = ()
    limits_url: str | None = field(default=None, repr=False)
    health_checks_s: float | None = None
    batches: BatchSettings | None = None
    anonymous: bool = True

    @classmethod
    def read(cls, path: str | Path) -> ServerSettings:
        """Read the file at `path`: YAML if its name ends in `.yml` or `.yaml`, JSON if in `.json`, else TOML. Raises
        InputError, which names the field."""
        file = Path(path)
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise InputError(f"cannot read {str(path)!r}: {said}", field="--config") from None
        return cls.from_document(_parsed(file.suffix, text))

    @classmethod
    def from_document(cls, document: object) -> ServerSettings:
        try:
            given = _Document.model_validate(document)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = ".".join(map(str, first["loc"]))
            said, hint = first["msg"], None
            if first["type"] == "extra_forbidden":
                known = _model_at(first["loc"]).model_fields
                said = "there is no such setting"
                hint = did_you_mean(str(first["loc"][-1]), known, f"one of {', '.join(known)}")
            raise InputError(f"{name or 'the configuration'}: {said}", field=name or None, hint=hint) from None
        return cls(
            routing=Routing(
                {prefix: _reference(f"prefix_map.{prefix}", text) for prefix, text in given.prefix_map.items()},
                given.aliases,
                None if given.default is None else _reference("default", given.default),
                {name: _failover(f"failover.{name}", one) for name, one in given.failover.items()},
            ),
            budgets={
                _reference(f"budgets.{text}", text).any_version: Budget(
                    _quota(f"budgets.{text}.requests", one.requests),
                    _quota(f"budgets.{text}.tokens", one.tokens),
                    one.concurrency,
                )
                for text, one in given.budgets.items()
            },
            allowed_hosts=tuple(given.allowed_hosts),
            cors_origins=origins(given.cors_origins, "cors_origins"),
            trusted_proxies=networks(given.trusted_proxies, "trusted_proxies"),
            max_body_bytes=_named("max_body_size", lambda: parse_size(given.max_body_size)),
            max_bodies_bytes=_named("max_bodies_size", lambda: parse_size(given.max_bodies_size)),
            max_connections=given.max_connections,
            max_runs=given.max_runs,
            max_unknown_connections=given.max_unknown_connections,
            max_unknown_connections_per_address=given.max_unknown_connections_per_address,
            mcp_tools=tuple(_named("mcp_tools", partial(operation_glob, text)) for text in given.mcp_tools),
            limits_url=given.limits,
            health_checks_s=None if given.health_checks is None else _pause(given.health_checks),
            batches=None if given.batches is None else _batches(given.batches),
        )

    def with_routes(
        self,
        *,
        routes: Mapping[str, str] | None = None,
        aliases: Mapping[str, str] | None = None,
        default: str | None = None,
    ) -> ServerSettings:
        """With these prefixes and aliases added; one of the same name replaces the earlier one. Raises InputError."""
        more = {prefix: _reference(f"--route {prefix}", text) for prefix, text in (routes or {}).items()}
        routing = replace(
            self.routing,
            prefix_map={**self.routing.prefix_map, **more},
            aliases={**self.routing.aliases, **(aliases or {})},
            default=self.routing.default if default is None else _reference("--default", default),
        )
        return replace(self, routing=routing)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Budget(_Strict):
    requests: str | None = None
    tokens: str | None = None
    concurrency: int | None = Field(None, ge=1)


class _Target(_Strict):
    catalyst: str
    model: str = ""
    priority: int = 1
    weight: int = 1


class _Failover(_Strict):
    targets: list[_Target]
    on: list[str] = Field(default_factory=lambda: [*map(str, CAUSES)])
    unsafe_repeat: bool = False


_BATCHES = BatchSettings()


class _Batches(_Strict):
    concurrency: int = Field(_BATCHES.concurrency, ge=1, le=1_000)
    keep: str = "30d"
    max_size: str | int = _BATCHES.max_size


class _Document(_Strict):
    default: str | None = None
    prefix_map: dict[str, str] = Field(default_factory=dict)
    aliases: dict[str, str] = Field(default_factory=dict)
    failover: dict[str, _Failover] = Field(default_factory=dict)
    budgets: dict[str, _Budget] = Field(default_factory=dict)
    allowed_hosts: list[str] = Field(default_factory=list)
    cors_origins: list[str] = Field(default_factory=list)
    trusted_proxies: list[str] = Field(default_factory=list)
    max_body_size: str | int = MAX_BODY_BYTES
    max_bodies_size: str | int = MOST_BYTES
    max_connections: int = Field(0, ge=0)
    max_runs: int | None = Field(None, ge=1)
    max_unknown_connections: int = Field(MOST_UNKNOWN, ge=1)
    max_unknown_connections_per_address: int = Field(MOST_UNKNOWN_OF_ADDRESS, ge=1)
    mcp_tools: list[str] = Field(default_factory=list)
    limits: str | None = None
    health_checks: str | None = None
    batches: _Batches | None = None


def _model_at(loc: Sequence[int | str]) -> type[_Strict]:
    """The model of the object that the last name of `loc` stands in."""
    match loc:
        case ["budgets", _, _]:
            return _Budget
        case ["batches", _]:
            return _Batches
        case ["failover", _, _]:
            return _Failover
        case ["failover", _, "targets", *_]:
            return _Target
    return _Document


def _parsed(suffix: str, text: str) -> object:
    if suffix in (".yml", ".yaml"):
        import yaml  # noqa: PLC0415 - only for this form

        try:
            return yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise InputError(f"the configuration is not YAML: {' '.join(str(error).split())[:200]}") from None
    if suffix == ".json":
        return parse_json(text, "the configuration")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        hint = None if suffix == ".toml" else "only what ends in .yml, .yaml or .json is read as that"
        raise InputError(f"the configuration is not TOML: {error}", hint=hint) from None


def _named(name: str, read: Any) -> Any:
    """`read()`, with errors that name the field."""
    try:
        return read()
    except HostError as error:
        raise InputError(f"{name}: {error.message}", field=name, hint=error.hint) from None


def _reference(name: str, text: str) -> Reference:
    found: Reference = _named(name, lambda: Reference.parse(text))
    return found


def _failover(name: str, given: _Failover) -> Failover:
    if unknown := [one for one in given.on if one not in CAUSES]:
        raise InputError(f"{name}.on: {unknown[0][:80]!r} is none", field=f"{name}.on", hint=", ".join(CAUSES))
    if not name.removeprefix("failover.").removesuffix("*") or "*" in name[:-1]:
        hint = "the name of a model, or the beginning of one with * behind it"
        raise InputError(f"{name}: that is not a model", field=name, hint=hint)
    targets = []
    for index, one in enumerate(given.targets):
        at = f"{name}.targets.{index}"
        reference = _reference(f"{at}.catalyst", one.catalyst)
        targets.append(_named(at, partial(ModelTarget, reference, one.model, one.priority, one.weight)))
    on = frozenset(cause for cause in CAUSES if cause in given.on)
    found: Failover = _named(name, partial(Failover, tuple(targets), on, given.unsafe_repeat))
    return found


def _pause(text: str) -> float:
    """Between two checks of health."""
    seconds: float = _named("health_checks", lambda: parse_duration(text))
    if seconds < LEAST_PAUSE_S:
        raise InputError(
            f"health_checks: {text} is too often", field="health_checks", hint=f"{LEAST_PAUSE_S:g}s, or more"
        )
    return seconds


def _batches(given: _Batches) -> BatchSettings:
    keep_s: float = _named("batches.keep", lambda: parse_duration(given.keep, CALENDAR_UNITS))
    return BatchSettings(given.concurrency, keep_s, _named("batches.max_size", lambda: parse_size(given.max_size)))


def _quota(name: str, text: str | None) -> Quota | None:
    found: Quota | None = None if text is None else _named(name, lambda: Quota.parse(text))
    return found


def _network(name: str, text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise InputError(f"{name}: {error}", field=name, hint="a network like 10.0.0.0/8") from None


def origins(texts: Sequence[str], name: str) -> tuple[str, ...]:
    """Origins as browsers write them. Raises InputError."""
    for text in texts:
        if not _ORIGIN.match(text):
            hint = "like https://app.example.com or http://localhost:3000: lower case, and no path"
            raise InputError(f"{name}: {text[:80]!r} is not an origin", field=name, hint=hint)
    return tuple(texts)


def networks(texts: Sequence[str], name: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Raises InputError."""
    return tuple(_network(name, text) for text in texts)
