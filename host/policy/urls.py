"""URLs, parsed once: the decision, the connection and the request use the same parsed URL, and nothing reads the text
again.

The grammar is RFC 3986's for `http` and `https` without the parts that parsers are known to read differently: userinfo,
backslashes, whitespace and control characters, Unicode host names, trailing dots, and every spelling of an IPv4 address
but four decimal numbers. Such a URL is refused, never repaired. The one exception is a path or query in Unicode, which
is percent-encoded as UTF-8 (RFC 3987, 3.1). A policy names domains in the same grammar: `api.openai.com`,
`*.example.com`, `host:8443`, `http://[::1]:8080`.
"""

from __future__ import annotations

import re
from dataclasses import InitVar, dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal, TypeAlias

from host.core.names import Domain
from host.errors import InputError, PolicyError

UrlHost: TypeAlias = Domain | IPv4Address | IPv6Address
Scheme = Literal["http", "https"]

MAX_URL_BYTES: Final = 8 * 1024
MAX_SHOWN_CHARACTERS: Final = 200
DEFAULT_PORTS: Final[dict[Scheme, int]] = {"http": 80, "https": 443}

_UNSEEN = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_AUTHORITY = re.compile(r"(?:(https?):)?//([^/?#]*)", re.IGNORECASE)  # at the beginning of a reference (RFC 3986, 4.2)
_AUTHORITY_END = re.compile(r"[/?#]")
_PORT = re.compile(r"[1-9][0-9]{0,4}\Z")
_NUMBER = re.compile(r"(?:[0-9]+|0[xX].*)\Z")  # a last label like this makes a host an IPv4 address (WHATWG URL, 3.5)
_LOOSE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SEAL: Final = object()


class UrlError(ValueError):
    """The URL is not accepted. `reason` is a short clause; it quotes at most the host of the URL."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: `https://api.openai.com`, `http://[::1]:8080`. The port is always set."""

    scheme: Scheme
    host: UrlHost
    port: int

    @classmethod
    def parse(cls, text: str) -> Origin:
        """`scheme://host[:port]`, with nothing after it. Raises UrlError."""
        scheme, authority, rest = _split(text)
        if rest:
            raise UrlError("an origin ends with its host and port")
        host, port = parse_authority(authority)
        return cls(scheme, host, port or DEFAULT_PORTS[scheme])

    @property
    def authority(self) -> str:
        """`host[:port]` for the Host header: an IPv6 address in brackets, without a default port."""
        host = f"[{self.host}]" if isinstance(self.host, IPv6Address) else str(self.host)
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """`host:port`, for messages about connections."""
        return f"[{self.host}]:{self.port}" if isinstance(self.host, IPv6Address) else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """A checked URL. Only `Target.parse` and `Target.rebased` can make one.

    `path_query` is the request target as sent: ASCII, beginning with `/`, without a fragment. It may hold a secret, so
    neither `str` nor `repr` shows the query.
    """

    at: Origin
    path_query: bytes
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("a Target is made by Target.parse")

    @classmethod
    def parse(cls, text: str) -> Target:
        """Raises UrlError for anything but an absolute http or https URL of at most 8 KiB."""
        scheme, authority, rest = _split(text)
        host, port = parse_authority(authority)
        return cls(Origin(scheme, host, port or DEFAULT_PORTS[scheme]), _path_query(rest), _SEAL)

    def rebased(self, origin: Origin) -> Target:
        """The same path and query at another origin."""
        return Target(origin, self.path_query, _SEAL)

    @property
    def scheme(self) -> Scheme:
        return self.at.scheme

    @property
    def host(self) -> UrlHost:
        return self.at.host

    @property
    def port(self) -> int:
        return self.at.port

    @property
    def origin(self) -> str:
        """`https://api.openai.com`: without a default port, an IPv6 address in brackets."""
        return str(self.at)

    @property
    def shown(self) -> str:
        """For messages and records: without query and fragment, at most 200 characters."""
        shown = self.origin + self.path_query.partition(b"?")[0].decode("ascii")
        return shown if len(shown) <= MAX_SHOWN_CHARACTERS else shown[: MAX_SHOWN_CHARACTERS - 1] + "…"

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        return f"<Target {self.shown}>"


def parse_authority(text: str) -> tuple[UrlHost, int | None]:
    """The host and port of `host[:port]`; the port is None where it is missing. Raises UrlError."""
    if "@" in text:
        raise UrlError("a URL must not hold a user name or password")
    if text.startswith("["):
        literal, bracket, after = text[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise UrlError("an IPv6 address stands in brackets, followed by a port or nothing")
        return _parse_ipv6(literal), _parse_port(after[1:]) if after else None
    host, colon, port = text.partition(":")
    if ":" in port:
        raise UrlError("an IPv6 address stands in brackets: [::1]:8080")
    return _parse_host(host), _parse_port(port) if colon else None


def reference_at(reference: str, origin: Origin, shown: Origin) -> str:
    """`reference`, a URL such as a Location, with `shown` in place of its origin if that is `origin`."""
    if not (found := _AUTHORITY.match(reference)):
        return reference
    try:
        named = Origin.parse(f"{found[1] or origin.scheme}://{found[2]}")
    except UrlError:
        return reference
    return f"{shown}{reference[found.end() :]}" if named == origin else reference


def _split(text: str) -> tuple[Scheme, str, str]:
    """Scheme, authority, and the rest with its leading `/`, `?` or `#`."""
    if len(text) > MAX_URL_BYTES:
        raise UrlError(f"a URL has at most {MAX_URL_BYTES} bytes")
    if "\\" in text:
        raise UrlError("a URL must not hold a backslash")
    if _UNSEEN.search(text):
        raise UrlError("a URL must not hold whitespace, control characters or lone surrogates")
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in DEFAULT_PORTS:
        raise UrlError("a URL begins with https:// or http://")
    end = _AUTHORITY_END.search(rest)
    cut = end.start() if end else len(rest)
    return scheme, rest[:cut], rest[cut:]


def _parse_port(text: str) -> int:
    if not _PORT.match(text) or int(text) > 65_535:
        raise UrlError("a port is a number from 1 to 65535, written plainly")
    return int(text)


def _parse_ipv6(text: str) -> IPv6Address:
    if "%" in text:
        raise UrlError("an address must not name a network interface")
    try:
        return IPv6Address(text)
    except ValueError:
        raise UrlError(f"{text[:80]!r} is not an IPv6 address") from None


def _parse_host(text: str) -> Domain | IPv4Address:
    if not text:
        raise UrlError("a URL needs a host")
    if not text.isascii():
        raise UrlError("a host is written in ASCII, an international name in its xn-- form")
    if text.endswith("."):
        raise UrlError("a host must not end in a dot")
    if _NUMBER.match(text.rpartition(".")[2]):
        try:
            return IPv4Address(text)
        except ValueError:
            raise UrlError(f"{text[:80]!r} is not an IPv4 address of four decimal numbers") from None
    try:
        return Domain.parse(text.lower())
    except InputError:
        raise UrlError(f"{text[:80]!r} is not a host name") from None


def _path_query(rest: str) -> bytes:
    sent = rest.partition("#")[0]
    if not sent.startswith("/"):
        sent = "/" + sent
    if _LOOSE_PERCENT.search(sent):
        raise UrlError("in a URL, % is followed by two hex digits")
    raw = sent.encode() if sent.isascii() else "".join(map(_escape, sent)).encode()
    if len(raw) > MAX_URL_BYTES:
        raise UrlError(f"a URL has at most {MAX_URL_BYTES} bytes")
    return raw


def _escape(character: str) -> str:
    return character if character.isascii() else "".join(f"%{byte:02X}" for byte in character.encode())


ANY_DOMAIN: Final = "unsafe_any_domain"

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
        at = target.at
        if (at.scheme, at.port) != (self.scheme, self.port):
            return False
        if self.host is None:
            return isinstance(at.host, Domain)
        if self.subdomains:
            return isinstance(at.host, Domain) and at.host.value.endswith(f".{self.host}")
        return at.host == self.host

    def __str__(self) -> str:
        """The shortest text that parses to this pattern."""
        scheme = "" if self.scheme == "https" else f"{self.scheme}://"
        wildcard = "*." if self.subdomains else ""
        host = f"[{self.host}]" if isinstance(self.host, IPv6Address) else str(self.host or ANY_DOMAIN)
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{scheme}{wildcard}{host}{port}"


def _scheme(text: str) -> tuple[Scheme, str]:
    before, separator, rest = text.partition("://")
    match before.lower() if separator else "https":
        case "https":
            return "https", rest if separator else text
        case "http":
            return "http", rest
        case _:
            raise PolicyError(f"{text[:80]!r} is not a domain: only http and https are spoken", hint=_HINT)
