"""References to OCI registries: `oci://registry.example/path/name:tag@sha256:…`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from host.core.names import OCI_SCHEME, Digest, Domain
from host.errors import InputError

DOCKER_HUB: Final = "docker.io"
_HUB_API: Final = "registry-1.docker.io"  # the host of Docker Hub's API
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z")
_PORT = re.compile(r"[1-9][0-9]{0,4}\Z")
_MAX_NAME = 255  # characters of registry and repository


@dataclass(frozen=True, slots=True)
class OciReference:
    """A repository in a registry, with a tag, a digest or both.

    `registry` is a host in lower case with an optional port, `repository` the path below it. If there are both, the
    digest decides and the tag is for people (distribution-spec, "Pulling manifests").
    """

    registry: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> OciReference:
        """`oci://registry.example[:port]/path/name[:tag][@sha256:…]`. Raises InputError."""
        if len(text) > 1024 or not text.startswith(OCI_SCHEME):
            raise _invalid(text, "it does not begin with oci://")
        place, at, digest = text.removeprefix(OCI_SCHEME).partition("@")
        registry, slash, path = place.partition("/")
        repository, colon, tag = path.partition(":")
        if not slash or not _is_host(registry):
            raise _invalid(text, "it names no registry")
        if not _REPOSITORY.match(repository) or len(registry) + 1 + len(repository) > _MAX_NAME:
            raise _invalid(text, "its path is not lower-case names between slashes")
        if colon and not _TAG.match(tag):
            raise _invalid(text, "its tag is not letters, digits, _ . and -")
        return cls(registry, repository, tag, Digest.parse(digest) if at else None)

    @property
    def wanted(self) -> str:
        """The digest, else the tag, else `latest`."""
        return str(self.digest or self.tag or "latest")

    @property
    def place(self) -> str:
        """`registry/repository`, for messages."""
        return f"{self.registry}/{self.repository}"

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this machine. Then plain HTTP is used."""
        return is_loopback(_split(self.registry)[0])

    def base(self, *, plain_http: bool = False) -> str:
        """The URL of the repository in the registry's API: `https://registry.example/v2/path/name`.

        `http` for this machine and with `plain_http`.
        """
        scheme = "http" if plain_http or self.is_loopback else "https"
        host = _HUB_API if self.registry == DOCKER_HUB else self.registry
        return f"{scheme}://{host}/v2/{self.repository}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{OCI_SCHEME}{self.place}{tag}{digest}"


def is_loopback(host: str) -> bool:
    """Whether `host` is `localhost` or an address of 127.0.0.0/8 or ::1, the latter with or without brackets."""
    if host == "localhost":
        return True
    try:
        if ":" in host:
            return IPv6Address(host.removeprefix("[").removesuffix("]")) == IPv6Address("::1")
        return IPv4Address(host).is_loopback
    except AddressValueError:
        return False


def _is_host(text: str) -> bool:
    host, port = _split(text)
    if port is not None and not (_PORT.match(port) and int(port) < 65_536):
        return False
    try:
        if host.startswith("["):
            IPv6Address(host[1:-1] if host.endswith("]") else "")
        elif host[-1:].isdigit():
            IPv4Address(host)
        else:
            Domain.parse(host)
    except (AddressValueError, InputError):
        return False
    return "%" not in host  # an IPv6 zone


def _split(registry: str) -> tuple[str, str | None]:
    if registry.startswith("["):
        host, bracket, rest = registry.partition("]")
        return host + bracket, None if not rest else rest.removeprefix(":") if rest.startswith(":") else ""
    host, colon, port = registry.partition(":")
    return host, port if colon else None


def _invalid(text: str, why: str) -> InputError:
    return InputError(
        f"{text[:200]!r} is not a reference to a registry: {why}",
        field="reference",
        hint="oci://registry.example[:port]/path/name[:tag][@sha256:…]",
    )
