"""The domains that a policy names: `api.openai.com`, `*.example.com`, `host:8443`, `http://[::1]:8080`; and where a
secret may go."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final, Literal

from host.core.names import Domain, SecretName
from host.errors import PolicyError
from host.policy.urls import DEFAULT_PORTS, Origin, Scheme, Target, UrlError, UrlHost, parse_authority

ANY_DOMAIN: Final = "unsafe_any_domain"
Place = Literal["header", "url", "body"]
PLACES: tuple[Place, ...] = ("header", "url", "body")

_HINT: Final = "like api.openai.com, *.example.com, localhost:8443 or http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class DomainPattern:
    """One entry of `allowed_domains`: one scheme, one port and one host. With `subdomains` it matches whole labels at
    any depth below the host, but not the host itself. `host` None matches any domain name (no literal address)."""

    scheme: Scheme
    host: UrlHost | None
    port: int
    subdomains: bool = False

    @classmethod
    def parse(cls, text: str) -> DomainPattern:
        """`[scheme://][*.]host[:port]`; the scheme is https unless `http://` is written, the port the scheme's own.

        Raises PolicyError. A wildcard needs two labels to its right; `unsafe_any_domain` matches every domain.
        """
        scheme, rest = _scheme(text)
        wildcard, rest = rest.startswith("*"), rest.removeprefix("*.")
        try:
            host, port = parse_authority(rest)
        except UrlError as error:
            hint = f"for every domain there is, write {ANY_DOMAIN}" if rest.partition(":")[0] == "*" else _HINT
            raise PolicyError(f"{text[:80]!r} is not a domain: {error.reason}", hint=hint) from None
        if wildcard and not (isinstance(host, Domain) and "." in host.value):
            raise PolicyError(
                f"{text[:80]!r} would cover names of many owners",
                hint=f"name at least two labels, like *.example.com; for every domain there is, write {ANY_DOMAIN}",
            )
        any_domain = isinstance(host, Domain) and host.value == ANY_DOMAIN
        return cls(scheme, None if any_domain else host, port or DEFAULT_PORTS[scheme], wildcard)

    def matches(self, target: Target) -> bool:
        """Whether the pattern matches `target`."""
        if (target.scheme, target.port) != (self.scheme, self.port):
            return False
        if self.host is None:
            return isinstance(target.host, Domain)
        if self.subdomains:
            return isinstance(target.host, Domain) and target.host.value.endswith(f".{self.host}")
        return target.host == self.host

    def __str__(self) -> str:
        """The shortest text that parses to this pattern."""
        scheme = "" if self.scheme == "https" else f"{self.scheme}://"
        wildcard = "*." if self.subdomains else ""
        host = f"[{self.host}]" if isinstance(self.host, IPv6Address) else str(self.host or ANY_DOMAIN)
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{scheme}{wildcard}{host}{port}"


@dataclass(frozen=True, slots=True)
class SecretGrant:
    """The secret `name` may be put into `places` of requests to `domains`. With `reveal` the guest sees its value.
    `domains` None stands for the policy's domains until the grant is computed, and matches nothing."""

    name: SecretName
    domains: tuple[DomainPattern, ...] | None
    places: frozenset[Place] = frozenset({"header"})
    reveal: bool = False

    def goes_to(self, target: Target, mapped: Container[Origin]) -> bool:
        """Whether the secret may be sent to `target`: one of its domains, over https or to one of the `mapped` origins
        (the keys of the policy's `upstreams`)."""
        over_tls = target.scheme == "https" or target.at in mapped
        return over_tls and any(domain.matches(target) for domain in self.domains or ())


def _scheme(text: str) -> tuple[Scheme, str]:
    before, separator, rest = text.partition("://")
    match before.lower() if separator else "https":
        case "https":
            return "https", rest if separator else text
        case "http":
            return "http", rest
        case _:
            raise PolicyError(f"{text[:80]!r} is not a domain: only http and https are spoken", hint=_HINT)
