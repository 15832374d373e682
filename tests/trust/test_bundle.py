"""Writing bundles, and reading the bundles of other tools. The hostile ones are in test_verification.py."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.core.names import Digest
from host.errors import InputError
from host.trust.bundle import MAX_BUNDLE_BYTES, MEDIA_TYPE, Bundle, sign
from host.trust.keys import SigningKey

WASM = b"the bytes"


@pytest.fixture
def document(key: SigningKey) -> Any:
    return json.loads(sign(WASM, key).text())


def test_a_bundle_has_the_fields_of_version_0_3(key: SigningKey) -> None:
    written = json.loads(sign(WASM, key).text())
    signature = written["messageSignature"].pop("signature")
    assert key.public.verifies(WASM, base64.b64decode(signature))
    assert written == {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": key.public.hint}},
        "messageSignature": {
            "messageDigest": {
                "algorithm": "SHA2_256",
                "digest": base64.b64encode(hashlib.sha256(WASM).digest()).decode(),
            }
        },
    }


@given(st.binary(min_size=1, max_size=200), st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_a_bundle_is_read_as_it_was_written(signature: bytes, hint: str) -> None:
    bundle = Bundle(Digest.of(WASM), hint, signature)
    assert Bundle.parse(bundle.text()) == Bundle.parse(bundle.text().encode()) == bundle


def test_a_bundle_that_somebody_laid_out_is_the_same(document: Any) -> None:
    assert Bundle.parse(json.dumps(document, indent=4)) == Bundle.parse(json.dumps(document, sort_keys=True))


def test_a_log_entry_and_a_timestamp_are_passed_over(document: Any) -> None:
    plain = Bundle.parse(json.dumps(document))
    document["verificationMaterial"] |= {"tlogEntries": [{"logIndex": "1"}], "timestampVerificationData": {}}
    assert Bundle.parse(json.dumps(document)) == plain


def _put(*path: str, to: Any) -> Any:
    def change(document: Any) -> None:
        inner = document
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = to

    return change


def _each_text(change: Any) -> Any:
    """Changes both texts that are base64."""

    def changed(document: Any) -> None:
        signed = document["messageSignature"]
        signed["signature"] = change(signed["signature"])
        signed["messageDigest"]["digest"] = change(signed["messageDigest"]["digest"])

    return changed


def _as_in_proto(document: Any) -> None:
    material, signed = document.pop("verificationMaterial"), document.pop("messageSignature")
    document["media_type"] = document.pop("mediaType")
    document["verification_material"] = {"public_key": material["publicKey"], "tlog_entries": []}
    document["message_signature"] = {"message_digest": signed["messageDigest"], "signature": signed["signature"]}


@pytest.mark.parametrize(
    "change",
    [
        *(
            pytest.param(
                _put("mediaType", to=f"application/vnd.dev.sigstore.bundle+json;version={version}"), id=version
            )
            for version in ("0.1", "0.2", "0.3", '"0.3"')
        ),
        pytest.param(
            _put("mediaType", to="application/vnd.dev.sigstore.bundle+json; version=0.3"), id="a blank in the type"
        ),
        pytest.param(_put("dsseEnvelope", to=None), id="no envelope, as null"),
        pytest.param(_put("verificationMaterial", "certificate", to=None), id="no certificate, as null"),
        pytest.param(_put("verificationMaterial", "x509CertificateChain", to=None), id="no chain, as null"),
        pytest.param(_put("verificationMaterial", "tlogEntries", to=None), id="no log entries, as null"),
        pytest.param(_put("verificationMaterial", "timestampVerificationData", to=None), id="no timestamps, as null"),
        pytest.param(_put("messageSignature", "messageDigest", "algorithm", to=1), id="the number of the algorithm"),
        pytest.param(_each_text(lambda text: text.replace("+", "-").replace("/", "_")), id="base64 as in URLs"),
        pytest.param(_each_text(lambda text: text.rstrip("=")), id="base64 without padding"),
        pytest.param(_each_text(lambda text: text.replace("+", "-").replace("/", "_").rstrip("=")), id="both of these"),
        pytest.param(_as_in_proto, id="names as in the .proto file"),
    ],
)
def test_a_bundle_is_read_in_every_spelling_that_proto3_allows(key: SigningKey, change: Any) -> None:
    for number in range(8):  # signatures of several lengths, with the digits in which the alphabets differ
        honest = sign(WASM + bytes([number]), key)
        document = json.loads(honest.text())
        change(document)
        assert Bundle.parse(json.dumps(document)) == honest


def test_bundles_of_cosign_and_sigstore_js_are_read() -> None:
    """As they write them for a key: cosign with entries of its log, sigstore-js with every unset field left out."""
    digest = base64.b64encode(hashlib.sha256(WASM).digest()).decode()
    signed = {"messageDigest": {"algorithm": "SHA2_256", "digest": digest}, "signature": "MEUCIQ=="}
    entry = {
        "logIndex": "25915956", "logId": {"keyId": "wNI9atQGlz+VWfO6LRygH4QUfY/8W4RFwiT5i5WRgB0="},
        "kindVersion": {"kind": "hashedrekord", "version": "0.0.1"}, "integratedTime": "1690000000",
        "inclusionPromise": {"signedEntryTimestamp": "MEUCIQ=="}, "inclusionProof": None, "canonicalizedBody": "e30=",
    }  # fmt: skip
    cosign = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "publicKey": {"hint": "aGludA=="},
            "tlogEntries": [entry],
            "timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": "MIIC"}]},
        },
        "messageSignature": signed,
    }
    javascript = {
        "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.2",
        "verificationMaterial": {
            "publicKey": {"hint": "aGludA=="},
            "tlogEntries": [],
            "timestampVerificationData": {"rfc3161Timestamps": []},
        },
        "messageSignature": signed,
    }
    for written in (cosign, javascript):
        assert Bundle.parse(json.dumps(written)) == Bundle(Digest.of(WASM), "aGludA==", base64.b64decode("MEUCIQ=="))


def test_the_largest_bundle_that_is_read(document: Any) -> None:
    text = json.dumps(document).ljust(MAX_BUNDLE_BYTES)
    assert Bundle.parse(text).hint == document["verificationMaterial"]["publicKey"]["hint"]
    with pytest.raises(InputError, match="more than 65536 bytes"):
        Bundle.parse(text + " ")


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        pytest.param(("mediaType",), "application/json", "mediaType", id="another media type"),
        pytest.param(("mediaType",), [MEDIA_TYPE], "mediaType", id="a media type that is a list"),
        pytest.param(("dsseEnvelope",), {}, "dsseEnvelope", id="an envelope"),
        pytest.param(("verificationMaterial",), [], "verificationMaterial", id="material that is a list"),
        pytest.param(("verificationMaterial", "publicKey"), None, "verificationMaterial.publicKey", id="a key that is null"),
        pytest.param(("verificationMaterial", "certificate"), {}, "verificationMaterial.certificate", id="a certificate"),
        pytest.param(("verificationMaterial", "publicKey", "hint"), "", "verificationMaterial.publicKey.hint", id="an empty hint"),
        pytest.param(("messageSignature",), "x", "messageSignature", id="a signature that is a string"),
        pytest.param(("messageSignature", "signature"), 5, "messageSignature.signature", id="a signature that is a number"),
        pytest.param(("messageSignature", "signature"), "ä", "messageSignature.signature", id="a signature that is not ASCII"),
        pytest.param(("messageSignature", "signature"), "-_+/", "messageSignature.signature", id="base64 of both alphabets"),
        pytest.param(("messageSignature", "signature"), "AAA=AAAA", "messageSignature.signature", id="padding inside"),
        pytest.param(("messageSignature", "signature"), "AA=", "messageSignature.signature", id="half of the padding"),
        pytest.param(("messageSignature", "signature"), "AB", "messageSignature.signature", id="base64 with other last bits"),
        pytest.param(("messageSignature", "messageDigest", "algorithm"), True, "messageSignature.messageDigest.algorithm", id="true for one"),
        pytest.param(("messageSignature", "messageDigest", "algorithm"), 2, "messageSignature.messageDigest.algorithm", id="the number of another digest"),
        pytest.param(("mediaType",), "application/vnd.dev.sigstore.bundle.v0.2+json", "mediaType", id="a media type that never was"),
        pytest.param(("mediaType",), "application/vnd.dev.sigstore.bundle.v0.4+json", "mediaType", id="a version to come"),
        pytest.param(("media_type",), MEDIA_TYPE, "mediaType", id="one field in two spellings"),
        pytest.param(("trustMe",), None, "trustMe", id="an unknown field that is null"),
        pytest.param(("verificationMaterial", "publicKey", "hint"), None, "verificationMaterial.publicKey.hint", id="a hint that is null"),
        pytest.param(("messageSignature", "extra"), 1, "messageSignature.extra", id="an unknown field"),
        pytest.param(("messageSignature", "messageDigest", "algorithm"), "SHA2_512", "messageSignature.messageDigest.algorithm", id="another digest"),
        pytest.param(("messageSignature", "messageDigest", "digest"), "AAAA", "messageSignature.messageDigest.digest", id="a short digest"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(document: Any, path: tuple[str, ...], value: Any, field: str) -> None:
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    with pytest.raises(InputError) as caught:
        Bundle.parse(json.dumps(document))
    assert caught.value.field == field


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", "NaN", '{"a": 1e999}', "\ud800", b"\xff\xfe{\0}\0", "[" * 60_000]
)
def test_what_is_no_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(InputError):
        Bundle.parse(text)


def test_a_long_name_is_not_repeated_whole(document: Any) -> None:
    document["x" * 50_000] = 1
    with pytest.raises(InputError) as caught:
        Bundle.parse(json.dumps(document))
    assert len(str(caught.value)) < 400


@given(st.data())
def test_every_text_is_a_bundle_or_a_mistake(data: st.DataObject) -> None:
    honest = Bundle(Digest.of(WASM), "hint", b"signature").text()
    at = data.draw(st.integers(0, len(honest)))
    changed = honest[:at] + data.draw(st.text(max_size=5)) + honest[at + data.draw(st.integers(0, 5)) :]
    try:
        read = Bundle.parse(changed)
    except InputError:
        return
    assert Bundle.parse(read.text()) == read
