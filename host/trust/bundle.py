"""Sigstore bundles (sigstore/protobuf-specs, sigstore_bundle.proto, in the JSON of proto3), of one kind: a signature
over an artifact's bytes by a key that both sides know in advance. Version 0.3 is written. What other tools write is
read: the older media types, and every spelling that the JSON of proto3 allows.

    {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
     "verificationMaterial": {"publicKey": {"hint": text}},
     "messageSignature": {"messageDigest": {"algorithm": "SHA2_256", "digest": base64}, "signature": base64}}

Bundles are files beside the artifact. The first signer's is `X.wasm.sigstore.json`, where cosign's users look for it.
Each further one has twelve hex digits of the key's id before its ending: `X.wasm.0123456789ab.sigstore.json`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host.core.fields import FieldReader
from host.core.names import Digest
from host.core.strict_json import Json, parse_object, write_json
from host.errors import InputError

if TYPE_CHECKING:
    from host.trust.keys import PublicKey, SigningKey


MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_BUNDLE_BYTES: Final = 64 * 1024  # one with a log's proof and a timestamp's certificates has some 10 kB
MAX_BUNDLES: Final = 32  # beside one artifact: each costs a look, and one by a known key a hash of the whole

# The specification has clients accept the older media types. A signature by a key looks the same in all of them.
_OLDER_MEDIA_TYPE = re.compile(r'application/vnd\.dev\.sigstore\.bundle\+json; ?version="?0\.[123]"?')

_MAX_VALUES = 10_000
_SHA256_BYTES = 32
_ALGORITHM = "SHA2_256"
_STANDARD_ALPHABET: Final = str.maketrans("-_", "+/")
_ALGORITHM_NUMBER = 1  # of the enumeration, which the JSON of proto3 may have in its place

# Entries of a transparency log or a timestamping authority are passed over. They prove when a signature was made, which
# matters for a certificate that lasts ten minutes. A key here is trusted until the operator revokes it.
_PASSED_OVER = ("tlogEntries", "timestampVerificationData")

_OTHER_CONTENT = {
    "dsseEnvelope": "a DSSE envelope, an attestation about an artifact",
    "certificate": "a certificate",
    "x509CertificateChain": "a chain of certificates",
}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A signature bundle, read and not verified. `digest` names the bytes and `hint` the key that it claims; both are
    claims until the signature is verified with that key over those bytes."""

    digest: Digest
    hint: str
    signature: bytes

    @classmethod
    def parse(cls, text: str | bytes) -> Bundle:
        """Raises InputError, whose `field` is the path of the wrong field. Unknown fields, duplicate fields and base64
        that no encoder writes are errors; null is a field that is not set."""
        top = FieldReader(_read(text), error=_malformed)
        media_type = top.given.get("mediaType", top.given.get("media_type"))
        if not is_bundle_type(media_type):
            raise InputError(
                f"the bundle's mediaType is {str(media_type)[:80]!r}",
                field="mediaType",
                hint=f"read are {MEDIA_TYPE}, and the form before it, …bundle+json;version=0.1 to 0.3",
            )
        top = _only(top, "mediaType", "verificationMaterial", "messageSignature")
        material = _only(top.table("verificationMaterial"), "publicKey", passed_over=_PASSED_OVER)
        key = _only(material.table("publicKey"), "hint")
        signed = _only(top.table("messageSignature"), "messageDigest", "signature")
        digest = _only(signed.table("messageDigest"), "algorithm", "digest")
        return cls(_digest(digest), _text(key, "hint"), _decoded(signed, "signature"))

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


def is_bundle_type(given: Json) -> bool:
    """Whether `given` is the media type of a bundle in a version that is read."""
    return given == MEDIA_TYPE or (isinstance(given, str) and bool(_OLDER_MEDIA_TYPE.fullmatch(given)))


def sign(wasm: bytes, key: SigningKey) -> Bundle:
    """The bundle with the signature of `key` over `wasm`."""
    return Bundle(Digest.of(wasm), key.public.hint, key.sign(wasm))


def speaking_of(digest: Digest, texts: Iterable[str]) -> tuple[str, ...]:
    """The texts that are bundles over the artifact with that digest. The others can never verify."""
    return tuple(text for text in texts if _speaks_of(digest, text))


def _speaks_of(digest: Digest, text: str) -> bool:
    try:
        return Bundle.parse(text).digest == digest
    except InputError:
        return False


def _read(text: str | bytes) -> Mapping[str, Json]:
    """The object in `text`. Duplicate names are an error: two readers could see two bundles in it."""
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    if len(data) > MAX_BUNDLE_BYTES:
        raise InputError(f"the bundle has more than {MAX_BUNDLE_BYTES} bytes")
    return parse_object(data, "the bundle", most=_MAX_VALUES, names_once=True)


def _malformed(at: str, problem: str) -> InputError:
    return InputError(f"the bundle's {at} {problem}", field=at)


def _only(fields: FieldReader, *names: str, passed_over: Sequence[str] = ()) -> FieldReader:
    """The message in `fields`, which must have each of `names`, and may have those that are `passed_over` and no
    others. Its names are in lowerCamelCase, also where `fields` has them as the .proto file does. Fields that are null
    are not in it."""
    known = {_as_in_proto(name): name for name in (*names, *passed_over, *_OTHER_CONTENT)}
    given: dict[str, Json] = {}
    for spelled, value in fields.given.items():
        name = known.get(spelled, spelled)
        if name in given:
            raise fields.error(name, "is given twice, in two spellings")
        given[name] = value
    message = FieldReader(
        {name: value for name, value in given.items() if value is not None or name not in known.values()},
        error=_malformed,
        at=fields.at,
    )
    for name in message.given:
        if name in _OTHER_CONTENT:
            raise InputError(
                f"the bundle holds {_OTHER_CONTENT[name]}",
                field=message.path(name),
                hint="host sign makes one that is read",
            )
    message.only(*names, passed_over=passed_over)
    for name in names:
        if name not in message:
            raise message.error(name, "is missing")
    return message


def _as_in_proto(name: str) -> str:
    return re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", name)


def _digest(fields: FieldReader) -> Digest:
    given = fields.given["algorithm"]
    algorithm = _ALGORITHM if given == _ALGORITHM_NUMBER and given is not True else _text(fields, "algorithm")
    if algorithm != _ALGORITHM:
        raise fields.error("algorithm", f"is {algorithm[:40]!r}, not {_ALGORITHM}")
    sha256 = _decoded(fields, "digest")
    if len(sha256) != _SHA256_BYTES:
        raise fields.error("digest", f"has {len(sha256)} bytes, not {_SHA256_BYTES}")
    return Digest(f"sha256:{sha256.hex()}")


def _decoded(fields: FieldReader, name: str) -> bytes:
    """The bytes of base64 as an encoder writes it: of either alphabet (RFC 4648, sections 4 and 5), with its padding or
    without it."""
    text = _text(fields, name)
    standard = text if "+" in text or "/" in text else text.translate(_STANDARD_ALPHABET)
    try:
        decoded = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded or standard not in (_encoded(decoded), _encoded(decoded).rstrip("=")):
        raise fields.error(name, "is not base64 as an encoder writes it")
    return decoded


def _text(fields: FieldReader, name: str) -> str:
    text = fields.text(name)
    if not text:
        raise fields.error(name, "is empty")
    return text


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


_ENDING: Final = ".sigstore.json"
# Digits alone: `X.wasm.old.sigstore.json` is a signature of `X.wasm.old`.
_FURTHER = re.compile(r"\.[0-9a-f]{12}")


def bundles_beside(path: str | Path) -> tuple[str, ...]:
    """The texts of the bundles beside the artifact at `path`, the first signer's first. A text over MAX_BUNDLE_BYTES is
    cut one byte above it, and a byte that is not UTF-8 becomes U+FFFD: verification then rejects the text. Raises
    InputError."""
    artifact = Path(path)
    try:
        found = [file for file in artifact.parent.iterdir() if _is_bundle(file.name, artifact.name) and file.is_file()]
        found.sort(key=lambda file: (len(file.name), file.name))
        return tuple(_file_text(file) for file in found[: MAX_BUNDLES + 1])  # one more than verification looks at
    except OSError as error:
        raise InputError(f"cannot read the signatures of {str(path)!r}: {error.strerror}") from None


def bundle_path(path: str | Path, key: PublicKey) -> Path:
    """The file for the signature of `key` over the artifact at `path`: the one that has its signature already, else the
    first that is no other signer's. Raises InputError."""
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
