"""Keys: the two accepted algorithms, equal keys in different forms, and hidden private halves."""

from __future__ import annotations

import base64
import copy
import hashlib
import pickle
from typing import get_args

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from host.errors import InputError
from host.trust.keys import Algorithm, PublicKey, SigningKey

ALGORITHMS = get_args(Algorithm)
SPKI = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
PKCS8 = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_verifies_what_its_other_half_signed(algorithm: Algorithm) -> None:
    key = SigningKey.generate(algorithm)
    assert key.public.algorithm == algorithm
    assert key.public.verifies(b"message", key.sign(b"message"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_verifies_nothing_else(algorithm: Algorithm) -> None:
    key, other = SigningKey.generate(algorithm), SigningKey.generate(algorithm)
    assert not key.public.verifies(b"another message", key.sign(b"message"))
    assert not key.public.verifies(b"message", other.sign(b"message"))
    assert not key.public.verifies(b"message", b"")
    assert not key.public.verifies(b"message", bytes(64))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_both_halves_come_back_from_their_pem(algorithm: Algorithm) -> None:
    key = SigningKey.generate(algorithm)
    assert PublicKey.parse(key.public.pem) == key.public
    assert SigningKey.parse(key.private_pem()).public == key.public


def test_the_id_and_the_hint_are_the_digest_of_the_der() -> None:
    key = SigningKey.generate().public
    assert key.id == "sha256:" + hashlib.sha256(key.der).hexdigest()
    assert base64.b64decode(key.hint).hex() == key.id.removeprefix("sha256:")


@pytest.mark.parametrize(
    "spelt",
    [
        pytest.param(lambda pem: pem.replace("\n", "\r\n"), id="with the line ends of Windows"),
        pytest.param(lambda pem: pem.strip(), id="without a line end"),
        pytest.param(lambda pem: f"# my key\n{pem}\n", id="with text around it"),
        pytest.param(lambda pem: pem.encode(), id="as bytes"),
    ],
)
def test_a_key_is_the_same_however_it_is_written(spelt) -> None:
    key = SigningKey.generate().public
    assert PublicKey.parse(spelt(key.pem)) == key


def test_a_compressed_point_is_the_same_key() -> None:
    private = ec.derive_private_key(7, ec.SECP256R1())
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    curve = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")  # id-ecPublicKey, prime256v1
    info = curve + bytes([3, len(point) + 1, 0]) + point
    pem = base64.encodebytes(bytes([0x30, len(info)]) + info).decode()
    compressed = PublicKey.parse(f"-----BEGIN PUBLIC KEY-----\n{pem}-----END PUBLIC KEY-----\n")
    assert compressed == SigningKey(private).public
    assert compressed.id == SigningKey(private).public.id


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("made", "named"),
    [
        pytest.param(rsa_key, "RSA", id="RSA"),
        pytest.param(lambda: dsa.generate_private_key(1024), "DSA", id="DSA"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP384R1()), "secp384r1", id="ECDSA on P-384"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP256K1()), "secp256k1", id="ECDSA on the curve of Bitcoin"),
        pytest.param(ed448.Ed448PrivateKey.generate, "Ed448", id="Ed448"),
        pytest.param(x25519.X25519PrivateKey.generate, "X25519", id="X25519, which cannot sign"),
    ],
)
def test_a_key_of_another_kind_is_named_with_what_is_accepted(made, named: str) -> None:
    key = made()
    for parse, pem in (
        (PublicKey.parse, key.public_key().public_bytes(*SPKI)),
        (SigningKey.parse, key.private_bytes(*PKCS8)),
    ):
        with pytest.raises(InputError, match=named) as caught:
            parse(pem)
        assert "P-256 or Ed25519" in str(caught.value)


@pytest.mark.parametrize(
    ("pem", "said"),
    [
        pytest.param("", "not a public key in PEM", id="nothing"),
        pytest.param("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me@here", "not a public key in PEM", id="a key of SSH"),
        pytest.param("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "'CERTIFICATE'", id="a certificate"),
        pytest.param("-----BEGIN RSA PUBLIC KEY-----\nAAAA", "'RSA PUBLIC KEY'", id="a key in the older form"),
        pytest.param("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "cannot be read", id="a block with nothing in it"),
        pytest.param("-----BEGIN PUBLIC KEY-----\nAAAA", "cannot be read", id="a block without its end"),
        pytest.param("\ud800-----BEGIN PUBLIC KEY-----", "cannot be read", id="what UTF-8 cannot hold"),
        pytest.param(b"\xff\xfe", "not a public key in PEM", id="bytes that are no text"),
        pytest.param("x" * 20_000, "at most", id="too much"),
    ],
)  # fmt: skip
def test_what_is_no_public_key(pem: str | bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        PublicKey.parse(pem)


def test_of_two_keys_in_one_file_none_is_taken() -> None:
    with pytest.raises(InputError, match="more than one block"):
        PublicKey.parse(SigningKey.generate().public.pem + SigningKey.generate().public.pem)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_private_key_given_as_a_public_one_is_not_repeated(algorithm: Algorithm) -> None:
    pem = SigningKey.generate(algorithm).private_pem()
    with pytest.raises(InputError, match="'PRIVATE KEY', not a public key") as caught:
        PublicKey.parse(pem)
    assert pem.splitlines()[1] not in str(caught.value)


def test_an_encrypted_private_key_is_refused() -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
    )
    with pytest.raises(InputError, match="'ENCRYPTED PRIVATE KEY'"):
        SigningKey.parse(pem)


def test_a_private_key_that_cannot_be_read_is_not_repeated() -> None:
    pem = SigningKey.generate().private_pem()
    broken = pem.replace(pem.splitlines()[1], pem.splitlines()[1][::-1])
    with pytest.raises(InputError, match="cannot be read") as caught:
        SigningKey.parse(broken)
    assert broken.splitlines()[1] not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_signing_key_does_not_show() -> None:
    key = SigningKey.generate()
    assert repr(key) == str(key) == f"{key}" == "<SigningKey>"
    with pytest.raises(TypeError):
        pickle.dumps(key)
    with pytest.raises(TypeError):
        copy.copy(key)


def test_another_algorithm_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match="ecdsa-p256 or ed25519"):
        SigningKey.generate("rsa")  # type: ignore[arg-type]  # as a command line would


_P = 2**255 - 19
_EIGHTH = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826  # y of a point of order 8
_SMALL = {"0": 0, "1": 1, "-1": _P - 1, "an eighth": _EIGHTH, "minus an eighth": _P - _EIGHTH}


def _ed25519_pem(y: int, sign: int = 0) -> bytes:
    """SubjectPublicKeyInfo (RFC 8410) of any 32 bytes."""
    der = bytes.fromhex("302a300506032b6570032100") + (y | sign << 255).to_bytes(32, "little")
    return b"-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(der) + b"\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("y", _SMALL.values(), ids=_SMALL)
def test_a_key_with_which_anybody_could_sign_is_refused(y: int, sign: int) -> None:
    with pytest.raises(InputError, match="no point of Ed25519"):
        PublicKey.parse(_ed25519_pem(y, sign))


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("y", range(_P, 2**255), ids=lambda y: f"p + {y - _P}")
def test_a_key_in_another_encoding_than_its_own_is_refused(y: int, sign: int) -> None:
    with pytest.raises(InputError, match="no point of Ed25519"):
        PublicKey.parse(_ed25519_pem(y, sign))


def test_a_key_that_is_no_point_is_refused_and_every_true_one_is_not() -> None:
    refused = 0
    for y in range(2, 66):
        try:
            PublicKey.parse(_ed25519_pem(y))
        except InputError:
            refused += 1
    assert 16 < refused < 48  # half of all y are of no point
    for _ in range(32):
        SigningKey.parse(SigningKey.generate("ed25519").private_pem())


def test_a_signature_that_everybody_can_make_verifies_with_a_key_of_small_order_in_the_library_itself() -> None:
    """Why such keys are refused: S = 0 and R = the key, for whatever message."""
    key = ed25519.Ed25519PublicKey.from_public_bytes((1).to_bytes(32, "little"))
    key.verify((1).to_bytes(32, "little") + bytes(32), b"anything")


def test_the_other_form_of_a_signature_is_none() -> None:
    """S + L verifies too where S is not compared with L (RFC 8032, section 5.1.7)."""
    key = SigningKey.generate("ed25519")
    signature = key.sign(b"message")
    order = 2**252 + 27742317777372353535851937790883648493
    other = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    assert key.public.verifies(b"message", signature)
    assert not key.public.verifies(b"message", other)


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(b"\0", id="the point at infinity"),
        pytest.param(b"\4" + bytes(64), id="the origin, which is not on the curve"),
        pytest.param(b"\4" + (5).to_bytes(32, "big") + (1).to_bytes(32, "big"), id="a point beside the curve"),
        pytest.param(b"\4" + b"\xff" * 64, id="coordinates beyond the prime"),
    ],
)
def test_a_key_of_p256_that_is_no_point_is_refused(point: bytes) -> None:
    algorithm = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
    bits = b"\x03" + bytes([len(point) + 1]) + b"\0" + point
    body = algorithm + bits
    der = b"\x30" + bytes([len(body)]) + body
    pem = b"-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(der) + b"\n-----END PUBLIC KEY-----\n"
    with pytest.raises(InputError):
        PublicKey.parse(pem)
