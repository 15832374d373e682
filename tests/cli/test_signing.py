"""`host signing-key`, `host sign`, `host trust` and `host verify`: from a key to a component that others accept."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from wasmtime import wat2wasm

from host.component.wasm import MANIFEST_SECTION, append_section
from host.trust.keys import PublicKey
from tests.cli.conftest import Ran
from tests.conftest import wat
from tests.sandbox.conftest import component_text
from tests.trust.conftest import tool

Host = Callable[..., Ran]


@pytest.fixture
def host(program: Host, environ: dict[str, str], tmp_path: Path) -> Host:
    """The program, with a state of this test's own."""
    environ["HOST_STATE_DIR"] = str(tmp_path / "state")
    return program


@pytest.fixture
def file(tmp_path: Path) -> Path:
    place = tmp_path / "tool.wasm"
    place.write_bytes(tool())
    return place


@pytest.fixture
def pem(host: Host, tmp_path: Path) -> Path:
    """The public half of a new signing key, `acme`."""
    made = host("signing-key", "generate", "acme")
    assert made.status == 0, made.err
    place = tmp_path / "acme.pem"
    place.write_text(made.out)
    return place


def test_a_component_is_signed_and_trusted_and_verified(host: Host, file: Path, pem: Path) -> None:
    signed = host("sign", file)
    assert (signed.status, signed.out) == (0, f"{file}.sigstore.json\n"), signed.err
    assert host("verify", file).status == 5
    trusted = host("trust", "add", pem, "--namespace", "acme", "--comment", "Acme's")
    ident = PublicKey.parse(pem.read_text()).id
    assert (trusted.status, trusted.out) == (0, ident + "\n"), trusted.err
    verified = host("verify", file)
    assert verified.status == 0, verified.err
    assert verified.out.startswith("verified: c:acme.tool:1.0.0 sha256:")
    assert f"signed by {ident} Acme's\n" in verified.out
    facts = json.loads(host("verify", file, "--json").out)
    assert facts["reference"] == "c:acme.tool:1.0.0"
    assert facts["signers"] == [{"id": ident, "comment": "Acme's"}]


def test_what_fails_is_told_by_its_step_and_its_remedy(host: Host, file: Path, pem: Path) -> None:
    unsigned = host("verify", file)
    assert unsigned.status == 5
    assert "error: verification step 4 (" in unsigned.err
    host("sign", file)
    unknown = host("verify", file)
    assert "error: verification step 7 (" in unknown.err
    assert "hint: if you trust it: host trust add KEY.pem --namespace acme" in unknown.err
    host("trust", "add", pem, "--namespace", "globex")
    elsewhere = host("verify", file)
    assert "error: verification step 9 (" in elsewhere.err
    assert host(*elsewhere.err.partition("if you trust it: host ")[2].split()).status == 0
    assert host("verify", file).status == 0
    file.write_bytes(tool("1.0.1"))
    changed = json.loads(host("verify", file, "--json").out)["error"]
    assert (changed["type"], changed["step"]) == ("verification_failed", 6)


def test_a_revoked_key_counts_no_more(host: Host, file: Path, pem: Path) -> None:
    host("sign", file)
    ident = host("trust", "add", pem, "--namespace", "acme").out.strip()
    assert host("trust", "revoke", ident[:19], "--yes").status == 0
    assert "error: verification step 8 (" in host("verify", file).err
    again = host("trust", "add", pem, "--namespace", "acme")
    assert again.status == 2
    assert "was revoked" in again.err


def test_a_threshold_of_two_needs_two_keys(host: Host, file: Path, pem: Path) -> None:
    other = host("signing-key", "generate", "second", "--algorithm", "ed25519").out
    host("trust", "add", pem, "--namespace", "acme")
    assert host("trust", "add", "-", "--namespace", "acme", stdin=other).status == 0
    assert "the signatures of 2 trusted keys" in host("trust", "require", "acme", "--threshold", "2").err
    several = host("sign", file)
    assert several.status == 2
    assert "--key NAME" in several.err
    host("sign", file, "--key", "acme")
    assert "error: verification step 11 (" in host("verify", file).err
    second = host("sign", file, "--key", "second").out
    assert second.strip() != f"{file}.sigstore.json"
    assert host("verify", file).status == 0


def test_what_a_namespace_asks_for_can_be_said_and_forgotten(host: Host, file: Path) -> None:
    assert "acme asks for no signature" in host("trust", "require", "acme", "--unsigned").err
    verified = host("verify", file)
    assert (verified.status, "signed by nobody that is trusted" in verified.out) == (0, True)
    assert json.loads(host("trust", "list", "--json").out)["rules"] == {
        "acme": {"require_signature": False, "threshold": 1}
    }
    assert "NAMESPACE  ASKS FOR\nacme       no signature\n" in host("trust", "list").out
    assert "acme asks for the signature of a trusted key" in host("trust", "require", "acme", "--default").err
    assert host("verify", file).status == 5


def test_trusted_keys_are_listed(host: Host, pem: Path) -> None:
    assert "no key is trusted" in host("trust", "list").err
    ident = host("trust", "add", pem, "--namespace", "acme", "--namespace", "globex").out.strip()
    (listed,) = json.loads(host("trust", "list", "--json").out)["keys"]
    assert (listed["id"], listed["namespaces"], listed["revoked_at"]) == (ident, ["acme", "globex"], None)
    assert listed["public_key"] == pem.read_text()
    assert f"{ident[:19]}  ecdsa-p256  acme, globex" in host("trust", "list").out


def test_signing_keys_are_listed_and_exported_by_their_public_half(host: Host, pem: Path) -> None:
    assert host("signing-key", "export", "acme").out == pem.read_text()
    (listed,) = json.loads(host("signing-key", "list", "--json").out)
    assert (listed["name"], listed["public_key"]) == ("acme", pem.read_text())
    shown = host("signing-key", "list").out
    assert listed["id"] in shown
    assert "PRIVATE" not in shown + json.dumps(listed)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("signing-key", "generate", "a b"), "'a b' is not the name of a key", id="a key's name that is none"),
        pytest.param(("signing-key", "export", "nobody"), "there is no signing key nobody", id="a key that there is not"),
        pytest.param(("trust", "add", "nowhere.pem", "--namespace", "acme"), "KEY: cannot read", id="a file that there is not"),
        pytest.param(("trust", "add", "tool.wasm", "--namespace", "acme"), "KEY: ", id="a file that is no text"),
        pytest.param(("trust", "add", "sha256:0123456789", "--namespace", "acme"), "no trusted key is", id="an id that there is not"),
        pytest.param(("trust", "revoke", "0123456789"), "no trusted key is", id="to revoke an id that there is not"),
        pytest.param(("trust", "revoke", "sha256:0123"), "'sha256:0123' is too short", id="to revoke too short an id"),
        pytest.param(("trust", "require", "Acme"), "not a namespace", id="a namespace that is none"),
        pytest.param(("trust", "require", "acme", "--unsigned", "--threshold", "2"), "one of --threshold", id="two answers to one question"),
        pytest.param(("trust", "require", "acme", "--threshold", "0"), "--threshold", id="a threshold of none"),
        pytest.param(("sign", "tool.wasm"), "there is no signing key", id="to sign without a key"),
        pytest.param(("verify", "nowhere.wasm"), "FILE: cannot read", id="to verify what there is not"),
        pytest.param(("verify", "c:acme.nothing"), "there is no c:acme.nothing", id="to verify what is not installed"),
        pytest.param(("verify", "tool.wasm", "other.wasm"), "one FILE or REF", id="two files"),
    ],
)  # fmt: skip
def test_a_mistake_is_told(host: Host, file: Path, arguments: tuple[str, ...], said: str) -> None:
    ran = host(*arguments)
    assert ran.status == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_a_private_key_is_not_trusted_by_mistake_nor_repeated(host: Host, tmp_path: Path) -> None:
    place = tmp_path / "private.pem"
    place.write_text("-----BEGIN PRIVATE KEY-----\nMEECAQAwEwYHKoZIzj0CAQ\n-----END PRIVATE KEY-----\n")
    refused = host("trust", "add", place, "--namespace", "acme")
    assert refused.status == 2
    assert "'PRIVATE KEY', not a public key" in refused.err
    assert "MEECAQ" not in refused.err + refused.out


def test_what_says_no_name_of_itself_is_not_signed(host: Host, pem: Path, tmp_path: Path) -> None:
    place = tmp_path / "nameless.wasm"
    place.write_bytes(wat("rust_like"))
    refused = host("sign", place)
    assert refused.status == 2
    assert "no name and version of its own" in refused.err
    place.write_bytes(b"(component)")
    assert host("sign", place).status == 5


def test_a_name_that_was_asked_for_is_held_against_the_one_inside(host: Host, file: Path, pem: Path) -> None:
    host("sign", file)
    host("trust", "add", pem, "--namespace", "acme")
    assert host("verify", file, "--as", "c:acme.tool:1.0.0").status == 0
    assert "error: verification step 3 (" in host("verify", file, "--as", "c:acme.tool:2.0.0").err


def test_what_is_installed_is_signed_and_verified_by_its_reference(host: Host, pem: Path, tmp_path: Path) -> None:
    place = tmp_path / "echo.wasm"
    manifest = {"id": "catalyst:acme.echo", "version": "1.0.0"}
    place.write_bytes(
        append_section(bytes(wat2wasm(component_text())), MANIFEST_SECTION, json.dumps(manifest).encode())
    )
    refused = host("register", place)
    assert (refused.status, "verification step 4 (" in refused.err) == (5, True), refused.err
    host("sign", place)
    first = host("trust", "add", pem, "--namespace", "acme").out.strip()
    assert host("register", place).status == 0
    other = host("signing-key", "generate", "second").out
    second = host("trust", "add", "-", "--namespace", "acme", stdin=other).out.strip()
    assert "already" in host("sign", "c:acme.echo", "--key", "acme").err
    assert host("sign", "c", "acme.echo", "--key", "second").status == 0
    verified = json.loads(host("verify", "c:acme.echo", "--json").out)
    assert [one["id"] for one in verified["signers"]] == [first, second]
    host("trust", "revoke", first, "--yes")
    host("trust", "revoke", second, "--yes")
    run = host("run", "c:acme.echo", "--input", "{}")
    assert (run.status, "verification step 8 (" in run.err) == (5, True), run.err


def test_each_change_is_in_the_record(host: Host, file: Path, pem: Path, tmp_path: Path) -> None:
    host("sign", file)
    host("trust", "add", pem, "--namespace", "acme")
    host("trust", "require", "acme", "--threshold", "2")
    host("trust", "revoke", PublicKey.parse(pem.read_text()).id, "--yes")
    with closing(sqlite3.connect(tmp_path / "state" / "state.db")) as connection:
        kinds = [kind for (kind,) in connection.execute("SELECT kind FROM audit ORDER BY seq")]
    assert kinds == ["secret.set", "component.signed", "trust.added", "trust.ruled", "trust.revoked"]


def test_openssl_verifies_what_the_program_signed(host: Host, file: Path, pem: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    bundle = json.loads(Path(host("sign", file).out.strip()).read_text())
    encoded = tmp_path / "signature.base64"
    encoded.write_text(bundle["messageSignature"]["signature"] + "\n")
    decode = ["openssl", "base64", "-d", "-A", "-in", str(encoded), "-out", str(tmp_path / "signature")]
    subprocess.run(decode, check=True, timeout=60)
    verify = ["openssl", "dgst", "-sha256", "-verify", str(pem), "-signature", str(tmp_path / "signature"), str(file)]
    assert subprocess.run(verify, check=True, capture_output=True, text=True, timeout=60).stdout == "Verified OK\n"
