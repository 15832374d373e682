"""Our signatures in other verifiers: Sigstore's own (npm's @sigstore/verify), and OpenSSL."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from host.core.names import Digest
from host.errors import VerificationFailed
from host.trust.bundle import Bundle, sign
from host.trust.keys import PublicKey, SigningKey
from host.trust.verification import Trust, TrustedKey, verify
from tests.conftest import with_packages
from tests.trust.conftest import HOSTILE, reference, tool

SIGSTORE = Path(__file__).parent / "sigstore"

# Sigstore's verifier accepts these: it does not look at the wrong part, or JavaScript reads it as valid.
THEY_ARE_MORE_LENIENT = {
    "base64_with_a_line_break",
    "base64_with_other_last_bits",
    "certificate_beside_the_key",  # of fields that may occur only once, it takes the first
    "digest_in_hex",  # it compares the digest only with a log's entry, and there is none
    "digest_lies",
    "digest_too_short",
    "dsse_envelope_beside_the_signature",
    "duplicate_keys",  # JavaScript takes the last of two
    "duplicate_keys_inside",
    "huge",
    "media_type_of_another_version",
    "sha512_digest_called_sha256",
    "unknown_field",
}

# The verifier passes SHA-256 to Node.js for every key, but Ed25519 does not let the caller choose a digest.
THEY_ARE_STRICTER = {"honest_ed25519"}

Ask = Callable[[dict[str, str], Sequence[tuple[str, bytes]]], list[str | None]]


@pytest.fixture(scope="module")
def sigstore() -> Ask:
    """Runs Sigstore's verifier on bundles with artifacts. Takes keys in PEM by hint. Returns an error code or None for each."""
    place = with_packages("sigstore", SIGSTORE, "--no-engine-strict")

    def ask(keys: dict[str, str], questions: Sequence[tuple[str, bytes]]) -> list[str | None]:
        asked = [{"bundle": text, "artifact": base64.b64encode(wasm).decode()} for text, wasm in questions]
        said = subprocess.run(
            ["node", "verify.mjs"],
            cwd=place,
            input=json.dumps({"keys": keys, "questions": asked}),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return json.loads(said.stdout)

    return ask


@pytest.mark.node
def test_sigstore_accepts_what_we_signed(sigstore: Ask, key: SigningKey) -> None:
    artifacts = [tool(), tool("2.0.0"), b"", bytes(1 << 20)]
    keys = {key.public.hint: key.public.pem}
    assert sigstore(keys, [(sign(wasm, key).text(), wasm) for wasm in artifacts]) == [None] * len(artifacts)


@pytest.mark.node
def test_sigstore_refuses_a_file_that_was_changed(sigstore: Ask, key: SigningKey) -> None:
    wasm = tool()
    changed = [
        wasm[:-1],
        wasm + b"\0",
        wasm[:-1] + bytes([wasm[-1] ^ 1]),
        bytes([wasm[0] ^ 1]) + wasm[1:],
        b"",
        tool("1.0.1"),
    ]
    said = sigstore({key.public.hint: key.public.pem}, [(sign(wasm, key).text(), other) for other in changed])
    assert said == ["SIGNATURE_ERROR"] * len(changed)


@pytest.mark.node
def test_sigstore_refuses_a_signature_that_was_changed(sigstore: Ask, key: SigningKey) -> None:
    signature = key.sign(tool())
    forged = [signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :] for at in range(len(signature))]
    texts = [Bundle(Digest.of(tool()), key.public.hint, one).text() for one in forged]
    said = sigstore({key.public.hint: key.public.pem}, [(text, tool()) for text in texts])
    assert said == ["SIGNATURE_ERROR"] * len(signature)


@pytest.mark.node
def test_sigstore_and_we_differ_over_the_hostile_bundles_only_where_it_is_known(sigstore: Ask) -> None:
    trusted = [PublicKey.parse((HOSTILE / f"{name}.pem").read_text()) for name in ("signer", "signer_ed25519")]
    texts = {file.name.removesuffix(".sigstore.json"): file.read_text() for file in HOSTILE.glob("*.sigstore.json")}
    said = sigstore({key.hint: key.pem for key in trusted}, [(text, tool()) for text in texts.values()])
    theirs = {name for name, error in zip(texts, said, strict=True) if error is None}
    ours = {name for name, text in texts.items() if _we_accept(text, trusted)}
    assert theirs - ours == THEY_ARE_MORE_LENIENT
    assert ours - theirs == THEY_ARE_STRICTER


def _we_accept(text: str, keys: Sequence[PublicKey]) -> bool:
    trust = Trust([TrustedKey(key, frozenset({"acme"})) for key in keys])
    try:
        verify(tool(), [text], reference=reference(), trust=trust)
    except VerificationFailed:
        return False
    return True


@pytest.fixture(scope="module")
def openssl() -> str:
    return shutil.which("openssl") or pytest.skip("needs the openssl command")


def test_openssl_verifies_what_an_ecdsa_key_signed(openssl: str, key: SigningKey, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(key.public.pem)
    (tmp_path / "signature").write_bytes(Bundle.parse(sign(tool(), key).text()).signature)
    for wasm, said in ((tool(), "Verified OK"), (tool("1.0.1"), "Verification failure")):
        (tmp_path / "tool.wasm").write_bytes(wasm)
        command = [openssl, "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature", "tool.wasm"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        assert said in done.stdout


def test_openssl_verifies_what_an_ed25519_key_signed(openssl: str, other_key: SigningKey, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(other_key.public.pem)
    (tmp_path / "signature").write_bytes(other_key.sign(tool()))
    for wasm, status in ((tool(), 0), (tool("1.0.1"), 1)):
        (tmp_path / "tool.wasm").write_bytes(wasm)
        command = [openssl, "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "tool.wasm", "-sigfile", "signature"]  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == status


@pytest.mark.parametrize("algorithm", [("EC", "ec_paramgen_curve:P-256"), ("ED25519", "")])
def test_a_key_that_openssl_made_is_taken(openssl: str, algorithm: tuple[str, str]) -> None:
    name, option = algorithm
    command = [openssl, "genpkey", "-algorithm", name, *(["-pkeyopt", option] if option else [])]
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    public = subprocess.run(
        [openssl, "pkey", "-pubout"], input=made, capture_output=True, text=True, check=True, timeout=60
    )
    key = SigningKey.parse(made)
    assert key.public == PublicKey.parse(public.stdout)
    assert key.public.verifies(b"message", key.sign(b"message"))
