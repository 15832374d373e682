"""Keys that sign artifacts: ECDSA on P-256 over SHA-256 (FIPS 186-5), which every Sigstore client accepts, and Ed25519
(RFC 8032) over the message itself, which cosign accepts and sigstore-js, without a certificate, does not.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from host.errors import InputError
from host.secrets.value import Unspoken

Algorithm = Literal["ecdsa-p256", "ed25519"]

_Public: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
_Private: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_P: Final = 2**255 - 19  # of Ed25519: the prime, and d of -x² + y² = 1 + d·x²·y² (RFC 8032, section 5.1)
_D: Final = -121665 * pow(121666, -1, _P) % _P
_EIGHTH: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7  # y of a point of order 8
_SMALL_ORDER: Final = frozenset({0, 1, _P - 1, _EIGHTH, _P - _EIGHTH})  # the y of the points of order 4, 1, 2 and 8

_MAX_PEM_BYTES: Final = 16 * 1024  # an RSA key of 16,384 bits has 12 kB, and gets an error that names RSA
_LABEL = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_ACCEPTED = "ECDSA on P-256 or Ed25519"
_HOW = "host signing-key generate NAME makes one, and host signing-key export NAME shows its public half"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key. Two are equal if they are the same key, in whatever PEM."""

    algorithm: Algorithm
    der: bytes = field(repr=False)  # SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7), as this program writes it
    _key: _Public = field(repr=False, compare=False)

    @classmethod
    def parse(cls, pem: str | bytes) -> PublicKey:
        """One key in PEM, a `PUBLIC KEY` (RFC 7468, section 13). Raises InputError, which names any other kind."""
        try:
            key = load_pem_public_key(_one_block(pem, "PUBLIC KEY", "a public key"))
        except (ValueError, UnsupportedAlgorithm):
            raise InputError("the public key cannot be read", field="key", hint=f"accepted: {_ACCEPTED}") from None
        if isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
            return cls._of(key)
        raise _not_accepted(key)

    @classmethod
    def _of(cls, key: _Public) -> PublicKey:
        if isinstance(key, ed25519.Ed25519PublicKey):
            _check_point(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
        return cls(_algorithm(key), key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), key)

    @property
    def id(self) -> str:
        """`sha256:` and the digest of the DER in hex."""
        return "sha256:" + hashlib.sha256(self.der).hexdigest()

    @property
    def hint(self) -> str:
        """The same digest in base64, the form of a bundle's `publicKey.hint` in cosign."""
        return base64.b64encode(hashlib.sha256(self.der).digest()).decode()

    @property
    def pem(self) -> str:
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `message`; an ECDSA one is in DER (RFC 3279, section 2.2.3)."""
        try:
            if isinstance(self._key, ed25519.Ed25519PublicKey):
                self._key.verify(signature, message)
            else:
                self._key.verify(signature, message, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


class SigningKey(Unspoken):
    """The private half. Only `private_pem` shows it."""

    __slots__ = ("_key", "public")

    def __init__(self, key: _Private) -> None:
        self._key = key
        self.public = PublicKey._of(key.public_key())  # noqa: SLF001 - two halves of one key

    @classmethod
    def generate(cls, algorithm: Algorithm = "ecdsa-p256") -> SigningKey:
        """Raises InputError for another algorithm."""
        if algorithm == "ecdsa-p256":
            return cls(ec.generate_private_key(ec.SECP256R1()))
        if algorithm == "ed25519":
            return cls(ed25519.Ed25519PrivateKey.generate())
        raise InputError(f"{algorithm[:40]!r} is not an algorithm to sign with", hint=" or ".join(get_args(Algorithm)))

    @classmethod
    def parse(cls, pem: str | bytes) -> SigningKey:
        """One key in PEM, an unencrypted PKCS#8 `PRIVATE KEY` (RFC 5958). Raises InputError, which quotes none of the
        text."""
        try:
            key = load_pem_private_key(_one_block(pem, "PRIVATE KEY", "a private key"), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise InputError("the private key cannot be read", field="key", hint=f"accepted: {_ACCEPTED}") from None
        if isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
            return cls(key)
        raise _not_accepted(key)

    def sign(self, message: bytes) -> bytes:
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(message)
        return self._key.sign(message, ec.ECDSA(SHA256()))

    def private_pem(self) -> str:
        """PKCS#8, not encrypted: the secret itself."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _check_point(encoded: bytes) -> None:
    """Raises InputError for an Ed25519 key that is no point of the curve, one of its eight points of small order, or a
    point in another encoding than its own (RFC 8032, section 5.1.3). A signature that everybody can make verifies with
    a key of small order, for any message; OpenSSL accepts all of these."""
    y = int.from_bytes(encoded, "little") & ((1 << 255) - 1)
    x_squared = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    if y >= _P or y in _SMALL_ORDER or pow(x_squared, (_P - 1) // 2, _P) != 1:
        raise InputError(
            "the public key is no point of Ed25519 that a key can be",
            field="key",
            hint="ask the signer for the key again: with this one, anybody could sign",
        )


def _algorithm(key: _Public) -> Algorithm:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(key.curve, ec.SECP256R1):
        return "ecdsa-p256"
    raise InputError(f"the key is ECDSA on {key.curve.name}", field="key", hint=f"accepted: {_ACCEPTED}")


def _not_accepted(key: object) -> InputError:
    kind = type(key).__name__.removeprefix("_").removesuffix("PublicKey").removesuffix("PrivateKey")
    return InputError(f"the key is of the type {kind}", field="key", hint=f"accepted: {_ACCEPTED}")


def _one_block(pem: str | bytes, label: str, what: str) -> bytes:
    """The PEM as bytes, if it is one block with that label. Raises InputError, which quotes none of the text."""
    data = pem.encode("utf-8", "replace") if isinstance(pem, str) else pem
    if len(data) > _MAX_PEM_BYTES:
        raise InputError(f"{what} has at most {_MAX_PEM_BYTES} bytes in PEM", field="key")
    labels = _LABEL.findall(data.decode("ascii", "replace"))
    if labels == [label]:
        return data
    if not labels:
        raise InputError(f"this is not {what} in PEM", field="key", hint=_HOW)
    if len(labels) > 1:
        raise InputError(f"there is more than one block in this PEM; {what} is one", field="key")
    raise InputError(f"this PEM holds {labels[0]!r}, not {what}", field="key", hint=_HOW)
