"""Makes the bundles of this folder again: `python -m tests.trust.hostile.make`, from the root of the checkout.

Each is for `tool()`, version 1.0.0 of the catalyst acme.tool, and is named by its sin. The private keys are not stored.
The public ones are: `signer` and `signer_ed25519` are trusted for acme, `revoked` was trusted for acme and is revoked,
`of_another_namespace` is trusted for globex.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from host.core.names import Digest
from host.trust.bundle import MAX_BUNDLE_BYTES, Bundle, sign
from host.trust.keys import SigningKey
from tests.trust.conftest import HOSTILE, tool

SIGNER, REVOKED, ELSEWHERE, STRANGER = (SigningKey.generate() for _ in range(4))
ED25519 = SigningKey.generate("ed25519")
WASM = tool()
HONEST = sign(WASM, SIGNER)
OTHER = sign(tool("1.0.1"), SIGNER)

Document = dict[str, Any]


def said(*, digest: Digest = HONEST.digest, hint: str = HONEST.hint, signature: bytes = HONEST.signature) -> str:
    return Bundle(digest, hint, signature).text()


def changed(change: Callable[[Document], object]) -> str:
    """The honest bundle after `change`."""
    document = json.loads(HONEST.text())
    change(document)
    return json.dumps(document)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def material(**fields: Any) -> Callable[[Document], object]:
    return lambda document: document["verificationMaterial"].update(fields)


def signature(text: Any) -> Callable[[Document], object]:
    return lambda document: document["messageSignature"].update(signature=text)


def digest(**fields: Any) -> Callable[[Document], object]:
    return lambda document: document["messageSignature"]["messageDigest"].update(fields)


def media_type(text: str) -> Callable[[Document], object]:
    return lambda document: document.update(mediaType=text)


def instead_of_the_key(key: str, value: object) -> Callable[[Document], object]:
    return lambda document: document.update(verificationMaterial={key: value})


ENVELOPE = {"payload": encoded(WASM), "payloadType": "application/wasm", "signatures": [{"sig": "AAAA", "keyid": ""}]}
CERTIFICATE = {"rawBytes": encoded(b"a certificate")}


def as_envelope(document: Document) -> None:
    document["dsseEnvelope"] = ENVELOPE
    del document["messageSignature"]


def fixed_width(der: bytes) -> bytes:
    """An ECDSA signature in the form of IEEE P1363: two numbers of 32 bytes."""
    return b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(der))


def with_other_last_bits(text: str) -> str:
    """Base64 of the same bytes in a form that no encoder writes: the unused bits of the last digit are not zero."""
    padding = text[len(text.rstrip("=")) :]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = text.rstrip("=")[-1]
    return text.rstrip("=")[:-1] + alphabet[alphabet.index(last) | 1] + padding


BUNDLES = {
    # accepted
    "honest": HONEST.text(),
    "honest_ed25519": sign(WASM, ED25519).text(),
    "honest_with_a_log_entry_and_a_timestamp": changed(
        material(tlogEntries=[], timestampVerificationData={"rfc3161Timestamps": []})
    ),
    "media_type_as_it_was_once": changed(media_type("application/vnd.dev.sigstore.bundle+json;version=0.3")),
    "algorithm_as_a_number": changed(digest(algorithm=1)),
    # step 5: no valid bundle
    "empty": "",
    "cut_short": HONEST.text()[:-20],
    "a_list": f"[{HONEST.text()}]",
    "huge": HONEST.text() + " " * (MAX_BUNDLE_BYTES + 1 - len(HONEST.text())),
    "nested_deeply": HONEST.text().replace('{"publicKey"', '{"tlogEntries":' + "[" * 300 + "]" * 300 + ',"publicKey"'),
    "duplicate_keys": HONEST.text().replace('{"mediaType"', '{"messageSignature":{},"mediaType"'),
    "duplicate_keys_inside": HONEST.text().replace('"signature":', f'"signature":"{encoded(OTHER.signature)}","signature":'),
    "unknown_field": changed(lambda document: document.update(trustMe=True)),
    "media_type_missing": changed(lambda document: document.pop("mediaType")),
    "media_type_of_another_version": changed(media_type("application/vnd.dev.sigstore.bundle.v0.2+json")),
    "dsse_envelope": changed(as_envelope),
    "dsse_envelope_beside_the_signature": changed(lambda document: document.update(dsseEnvelope=ENVELOPE)),
    "certificate": changed(instead_of_the_key("certificate", CERTIFICATE)),
    "certificate_beside_the_key": changed(material(certificate=CERTIFICATE)),
    "certificate_chain": changed(instead_of_the_key("x509CertificateChain", {"certificates": [CERTIFICATE]})),
    "hint_missing": changed(material(publicKey={})),
    "hint_is_a_number": changed(material(publicKey={"hint": 1})),
    "digest_missing": changed(lambda document: document["messageSignature"].pop("messageDigest")),
    "digest_too_short": changed(digest(digest=encoded(bytes(20)))),
    "digest_in_hex": changed(digest(digest=HONEST.digest.hex)),
    "sha512_digest": changed(digest(algorithm="SHA2_512", digest=encoded(hashlib.sha512(WASM).digest()))),
    "sha512_digest_called_sha256": changed(digest(digest=encoded(hashlib.sha512(WASM).digest()))),
    "signature_missing": changed(lambda document: document["messageSignature"].pop("signature")),
    "signature_empty": changed(signature("")),
    "signature_null": changed(signature(None)),
    "truncated_base64": changed(signature(encoded(HONEST.signature).rstrip("=")[:-1])),
    "base64_with_a_line_break": changed(signature(encoded(HONEST.signature) + "\n")),
    "base64_with_other_last_bits": changed(digest(digest=with_other_last_bits(encoded(bytes.fromhex(HONEST.digest.hex))))),
    # step 6: a signature of other bytes
    "signature_of_other_bytes": OTHER.text(),
    "digest_lies": said(digest=OTHER.digest),
    # step 7: an unknown key
    "key_of_a_stranger": sign(WASM, STRANGER).text(),
    "hint_of_nobody": said(hint="signer"),
    # step 8
    "key_that_was_revoked": sign(WASM, REVOKED).text(),
    # step 9
    "key_of_another_namespace": sign(WASM, ELSEWHERE).text(),
    # step 10: a signature that does not fit the bytes
    "hint_lies": said(signature=STRANGER.sign(WASM)),
    "hint_of_a_key_of_another_kind": said(hint=ED25519.public.hint),
    "signature_of_other_bytes_under_this_digest": said(signature=OTHER.signature),
    "signature_over_the_digest": said(signature=SIGNER.sign(hashlib.sha256(WASM).digest())),
    "signature_of_zeros": said(signature=bytes.fromhex("3006020100020100")),  # CVE-2022-21449
    "signature_in_fixed_width": said(signature=fixed_width(HONEST.signature)),
    "signature_with_a_tail": said(signature=HONEST.signature + b"\0"),
}  # fmt: skip

KEYS = {"signer": SIGNER, "signer_ed25519": ED25519, "revoked": REVOKED, "of_another_namespace": ELSEWHERE}


def main() -> None:
    for old in (*HOSTILE.glob("*.sigstore.json"), *HOSTILE.glob("*.pem")):
        old.unlink()
    for name, text in BUNDLES.items():
        (HOSTILE / f"{name}.sigstore.json").write_text(text)
    for name, key in KEYS.items():
        (HOSTILE / f"{name}.pem").write_text(key.public.pem)


if __name__ == "__main__":
    main()
