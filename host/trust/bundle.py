"""Sigstore bundles, version 0.3 (sigstore/protobuf-specs, sigstore_bundle.proto, in the JSON of proto3), of one kind: a
signature over an artifact's bytes by a key that both sides know beforehand.

    {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
     "verificationMaterial": {"publicKey": {"hint": text}},
     "messageSignature": {"messageDigest": {"algorithm": "SHA2_256", "digest": base64}, "signature": base64}}

Signatures as files beside the artifact: the first signer's is `X.wasm.sigstore.json`, where cosign's users look for it;
each further one has twelve hex digits of the key's id before its ending: `X.wasm.0123456789ab.sigstore.json`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host.core.names import Digest
from host.core.strict_json import Json, kind_of, parse_object, write_json
from host.errors import InputError

if TYPE_CHECKING:
    from host.trust.keys import PublicKey, SigningKey


MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_BUNDLE_BYTES: Final = 64 * 1024  # one with a log's proof and a timestamp's certificates has some 10 kB
MAX_BUNDLES: Final = 32  # beside one artifact: each costs a look, and one by a known key a hash of the whole

_MAX_VALUES = 10_000
_SHA256_BYTES = 32
_ALGORITHM = "SHA2_256"

# What a transparency log or a timestamping authority adds is passed over: they say when a signature was made, which
# matters for a certificate that lasts ten minutes. A key here is trusted until the operator revokes it.
_PASSED_OVER = ("tlogEntries", "timestampVerificationData")

_OTHER_CONTENT = {
    "dsseEnvelope": "a DSSE envelope, an attestation about an artifact",
    "certificate": "a certificate",
    "x509CertificateChain": "a chain of certificates",
}


@dataclass(frozen=True, slots=True)
class Bundle:
    """`digest` is what the bundle says that it speaks of; `hint` which key it says is its own: a claim, like all of it,
    until the signature was checked with that key over those bytes."""

    digest: Digest
    hint: str
    signature: bytes

    @classmethod
    def parse(cls, text: str | bytes) -> Bundle:
        """Raises InputError, whose `field` is the path of what is wrong. Nothing is guessed: a field that is unknown or
        there twice, or base64 that another encoder would have written otherwise, is a mistake."""
        top = _read(text)
        media_type = top.get("mediaType")
        if media_type != MEDIA_TYPE:
            raise InputError(
                f"the bundle's mediaType is {str(media_type)[:80]!r}", field="mediaType", hint=f"read is {MEDIA_TYPE}"
            )
        parts = _object(top, "", ("mediaType", "verificationMaterial", "messageSignature"))
        material = _object(parts["verificationMaterial"], "verificationMaterial", ("publicKey",), _PASSED_OVER)
        key = _object(material["publicKey"], "verificationMaterial.publicKey", ("hint",))
        signed = _object(parts["messageSignature"], "messageSignature", ("messageDigest", "signature"))
        digest = _object(signed["messageDigest"], "messageSignature.messageDigest", ("algorithm", "digest"))
        return cls(
            _digest(digest["algorithm"], digest["digest"], "messageSignature.messageDigest"),
            _text(key["hint"], "verificationMaterial.publicKey.hint"),
            _decoded(signed["signature"], "messageSignature.signature"),
        )

    def text(self) -> str:
        """The bundle as compact JSON."""
        return write_json(
            {
                "mediaType": MEDIA_TYPE,
                "verificationMaterial": {"publicKey": {"hint": self.hint}},
                "messageSignature": {
                    "messageDigest": {"algorithm": _ALGORITHM, "digest": _encoded(bytes.fromhex(self.digest.hex))},
                    "signature": _encoded(self.signature),
                },
            }
        )


def sign(wasm: bytes, key: SigningKey) -> Bundle:
    """The bundle in which `key` speaks for `wasm`."""
    return Bundle(Digest.of(wasm), key.public.hint, key.sign(wasm))


def speaking_of(digest: Digest, texts: Iterable[str]) -> tuple[str, ...]:
    """Those that are bundles over the artifact with that digest: of the others, none will ever hold."""
    return tuple(text for text in texts if _speaks_of(digest, text))


def _speaks_of(digest: Digest, text: str) -> bool:
    try:
        return Bundle.parse(text).digest == digest
    except InputError:
        return False


def _read(text: str | bytes) -> Mapping[str, Json]:
    """The object in `text`, in which no name occurs twice: two readers may not see two bundles in it."""
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    if len(data) > MAX_BUNDLE_BYTES:
        raise InputError(f"the bundle has more than {MAX_BUNDLE_BYTES} bytes")
    return parse_object(data, "the bundle", most=_MAX_VALUES, names_once=True)


def _object(value: Json, at: str, names: Sequence[str], passed_over: Sequence[str] = ()) -> Mapping[str, Json]:
    """`value`, if it is an object that has every one of `names`, and besides at most what is `passed_over`."""
    if not isinstance(value, dict):
        raise _wrong(at, value, "an object")
    for name in value:
        if name in _OTHER_CONTENT:
            raise InputError(
                f"the bundle holds {_OTHER_CONTENT[name]}",
                field=_path(at, name),
                hint="host sign makes one that is read",
            )
        if name not in names and name not in passed_over:
            raise InputError(f"the bundle has an unknown field {_path(at, name)[:120]!r}", field=_path(at, name)[:120])
    for name in names:
        if name not in value:
            raise InputError(f"the bundle has no {_path(at, name)}", field=_path(at, name))
    return value


def _digest(algorithm: Json, encoded: Json, at: str) -> Digest:
    if _text(algorithm, f"{at}.algorithm") != _ALGORITHM:
        raise InputError(f"the bundle's digest is a {algorithm[:40]!r}, not a {_ALGORITHM}", field=f"{at}.algorithm")
    sha256 = _decoded(encoded, f"{at}.digest")
    if len(sha256) != _SHA256_BYTES:
        raise InputError(f"the bundle's digest has {len(sha256)} bytes, not {_SHA256_BYTES}", field=f"{at}.digest")
    return Digest(f"sha256:{sha256.hex()}")


def _decoded(value: Json, at: str) -> bytes:
    """Base64 (RFC 4648, section 4) as its one canonical text."""
    text = _text(value, at)
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded or _encoded(decoded) != text:
        raise InputError(f"the bundle's {at} is not canonical base64", field=at)
    return decoded


def _text(value: Json, at: str) -> str:
    if not isinstance(value, str):
        raise _wrong(at, value, "a string")
    if not value:
        raise InputError(f"the bundle's {at} is empty", field=at)
    return value


def _wrong(at: str, value: Json, wanted: str) -> InputError:
    return InputError(f"the bundle's {at} is a JSON {kind_of(value)}, not {wanted}", field=at)


def _path(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


_ENDING: Final = ".sigstore.json"
# Digits alone: `X.wasm.old.sigstore.json` is a signature of `X.wasm.old`.
_FURTHER = re.compile(r"\.[0-9a-f]{12}")


def bundles_beside(path: str | Path) -> tuple[str, ...]:
    """The texts of the bundles beside the artifact at `path`, the first signer's first; () where there are none. A text
    longer than a bundle may be is cut just above that, and a byte that is not UTF-8 is U+FFFD: neither is a bundle any
    more, and verification says so. Raises InputError."""
    artifact = Path(path)
    try:
        found = [file for file in artifact.parent.iterdir() if _is_bundle(file.name, artifact.name) and file.is_file()]
        found.sort(key=lambda file: (len(file.name), file.name))
        return tuple(_file_text(file) for file in found[: MAX_BUNDLES + 1])  # one more than verification looks at
    except OSError as error:
        raise InputError(f"cannot read the signatures of {str(path)!r}: {error.strerror}") from None


def bundle_path(path: str | Path, key: PublicKey) -> Path:
    """Where the signature of `key` over the artifact at `path` belongs: the file in which it has one already, or else
    the first that is no other signer's. Raises InputError."""
    artifact = Path(path)
    first = artifact.with_name(artifact.name + _ENDING)
    further = artifact.with_name(f"{artifact.name}.{key.id.removeprefix('sha256:')[:12]}{_ENDING}")
    try:
        if further.exists():
            return further
        return further if first.exists() and not _is_by(_file_text(first), key) else first
    except OSError as error:
        raise InputError(f"cannot read the signature in {str(first)!r}: {error.strerror}") from None


def _is_bundle(name: str, artifact: str) -> bool:
    between = name.removeprefix(artifact).removesuffix(_ENDING)
    return name == artifact + between + _ENDING and (not between or bool(_FURTHER.fullmatch(between)))


def _file_text(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(MAX_BUNDLE_BYTES + 1).decode("utf-8", "replace")


def _is_by(text: str, key: PublicKey) -> bool:
    try:
        return Bundle.parse(text).hint == key.hint
    except InputError:
        return False
