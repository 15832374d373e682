"""Names that the host acts on, parsed once at the edge and never bare strings after it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from host.errors import InputError

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
            or not all(_LABEL.match(label) for label in labels)
        ):
            raise InputError(
                f"{text[:80]!r} is not a domain name",
                hint="lower-case ASCII labels like api.openai.com; no scheme, no path",
            )
        if all(label.isdigit() or label.startswith("0x") for label in labels[-1:]):
            raise InputError(f"{text[:80]!r} ends in a number, so it would be read as an address")
        return cls(text)

    def __str__(self) -> str:
        return self.value
