"""Names that the host acts on, parsed once at the edge and never bare strings after it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from host.errors import InputError

OCI_SCHEME: Final = "oci://"  # before a place in an OCI registry

ComponentType = Literal["catalyst", "reagent", "formula"]
_TYPES: Final = {name[0]: name for name in get_args(ComponentType)}  # by their short form
_PART = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?\Z")
_NUMBER = r"(?:0|[1-9][0-9]{0,17})"  # semver.org, 2.0.0; numbers that every reader of them can hold
_WORD = rf"(?:{_NUMBER}|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_WORD}(?:\.{_WORD})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\Z"
)
_MAX_VERSION = 128
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}\Z")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")


@dataclass(frozen=True, slots=True)
class Digest:
    """`sha256:` and 64 lower-case hex digits, as OCI writes it (image-spec, descriptor.md#digests)."""

    value: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        if not _DIGEST.match(text):
            raise InputError(f"{text[:80]!r} is not a digest", hint="sha256: and 64 lower-case hex digits")
        return cls(text)

    @classmethod
    def of(cls, content: bytes) -> Digest:
        return cls("sha256:" + hashlib.sha256(content).hexdigest())

    @property
    def hex(self) -> str:
        return self.value.removeprefix("sha256:")

    @property
    def short(self) -> str:
        return self.hex[:12]

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class SecretName:
    """The name of a secret: up to 128 of `A-Z a-z 0-9 _ . -`, beginning with a letter or `_`."""

    value: str

    @classmethod
    def parse(cls, text: str) -> SecretName:
        if not isinstance(text, str) or not _SECRET.match(text):
            raise InputError(
                f"{str(text)[:80]!r} is not the name of a secret",
                hint="letters, digits, _ . and -, like OPENAI_API_KEY",
            )
        return cls(text)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Domain:
    """A DNS name in lower case, in ASCII (IDNA names in their `xn--` form), without a trailing dot."""

    value: str

    @classmethod
    def parse(cls, text: str) -> Domain:
        labels = text.split(".")
        if (
            not text.isascii()
            or len(text) > 253
            or text != text.lower()
            or [label for label in labels if not _LABEL.match(label)]
        ):
            raise InputError(
                f"{text[:80]!r} is not a domain name",
                hint="lower-case ASCII labels like api.openai.com; no scheme, no path",
            )
        if labels[-1].isdigit() or labels[-1].startswith("0x"):
            raise InputError(f"{text[:80]!r} ends in a number, so it would be read as an address")
        return cls(text)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Reference:
    """A component by name: `type:namespace.name[:version]`. `version` "" stands for all of them, and where one has to
    be chosen, for the latest."""

    type: ComponentType
    namespace: str
    name: str
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """`c:local.openai`, `catalyst:local.openai:0.1.0`, `c:local.openai@0.1.0`, `c local.openai`; the version
        `latest` is none. Raises InputError."""
        kind, _, rest = text.replace(" ", ":", 1).partition(":")
        rest, mark, version = rest.partition("@") if "@" in rest else rest.partition(":")
        namespace, dot, name = rest.partition(".")
        full = _TYPES.get(kind, kind)
        if full not in _TYPES.values() or not dot or not _PART.match(namespace) or not _PART.match(name):
            raise InputError(
                f"{text[:200]!r} is not a reference",
                field="reference",
                hint="type:namespace.name[:version], like c:local.openai or c:local.openai:0.1.0; names are lower-case "
                "letters, digits and -",
            )
        if mark and version != "latest":
            return cls(full, namespace, name, check_version(version))
        return cls(full, namespace, name)

    @property
    def subject(self) -> str:
        """The name of all its versions: `catalyst:local.openai`."""
        return f"{self.type}:{self.namespace}.{self.name}"

    @property
    def any_version(self) -> Reference:
        return replace(self, version="")

    def at(self, version: str) -> Reference:
        return replace(self, version=version)

    def __repr__(self) -> str:
        return f"Reference({str(self)!r})"

    def __str__(self) -> str:
        """The short form: `c:local.openai:0.1.0`."""
        base = f"{self.type[0]}:{self.namespace}.{self.name}"
        return f"{base}:{self.version}" if self.version else base


def check_version(text: str) -> str:
    """`text`, if it is a version as semver.org (2.0.0) defines it. Raises InputError."""
    if len(text) > _MAX_VERSION or not _VERSION.match(text):
        raise InputError(f"{text[:200]!r} is not a version", field="version", hint="like 0.1.0 or 1.2.3-beta.1")
    return text


def looks_like_reference(text: str) -> bool:
    """Whether `text` is meant as a reference rather than a file: it begins with a component's type and a colon."""
    kind, colon, _ = text.partition(":")
    return bool(colon) and (kind in _TYPES or kind in _TYPES.values())


def looks_like_oci(text: str) -> bool:
    """Whether `text` is meant as a place in an OCI registry."""
    return text.startswith(OCI_SCHEME)
