"""Signatures in files beside an artifact: their names, and the files that they belong to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from host.errors import InputError
from host.trust.bundle import MAX_BUNDLE_BYTES, MAX_BUNDLES, Bundle, bundle_path, bundles_beside, sign
from host.trust.keys import SigningKey


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    file = tmp_path / "tool.wasm"
    file.write_bytes(b"the bytes")
    return file


def signed(artifact: Path, key: SigningKey) -> Path:
    place = bundle_path(artifact, key.public)
    place.write_text(sign(artifact.read_bytes(), key).text())
    return place


def test_the_first_signature_is_where_cosigns_users_look(artifact: Path, key: SigningKey) -> None:
    assert signed(artifact, key).name == "tool.wasm.sigstore.json"


def test_a_further_signature_is_named_by_its_key(artifact: Path, key: SigningKey, other_key: SigningKey) -> None:
    signed(artifact, key)
    digits = other_key.public.id.removeprefix("sha256:")[:12]
    assert signed(artifact, other_key).name == f"tool.wasm.{digits}.sigstore.json"
    assert [Bundle.parse(text).hint for text in bundles_beside(artifact)] == [key.public.hint, other_key.public.hint]


def test_signing_again_replaces_ones_own(artifact: Path, key: SigningKey, other_key: SigningKey) -> None:
    first, second = signed(artifact, key), signed(artifact, other_key)
    artifact.write_bytes(b"other bytes")
    assert (signed(artifact, key), signed(artifact, other_key)) == (first, second)
    first.unlink()
    assert signed(artifact, other_key) == second


@pytest.mark.parametrize("text", ["", "{}", "not JSON", "\N{PILE OF POO}"])
def test_a_file_that_is_no_bundle_is_not_written_over(artifact: Path, key: SigningKey, text: str) -> None:
    place = artifact.with_name("tool.wasm.sigstore.json")
    place.write_text(text)
    assert bundle_path(artifact, key.public) != place


def test_an_unsigned_artifact_has_none(artifact: Path) -> None:
    assert bundles_beside(artifact) == ()
    assert bundles_beside(str(artifact)) == ()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("tool.wasm.old.sigstore.json", id="of a file whose name begins with this one's"),
        pytest.param("tool.wasm.0123456789AB.sigstore.json", id="digits in capitals"),
        pytest.param("tool.wasm.0123456789a.sigstore.json", id="too few digits"),
        pytest.param("tool.wasm.0123456789ab.0123456789ab.sigstore.json", id="digits twice"),
        pytest.param("tool.wasm0123456789ab.sigstore.json", id="without the dot"),
        pytest.param("other.wasm.sigstore.json", id="of another file"),
        pytest.param("tool.sigstore.json", id="without the ending"),
        pytest.param("tool.wasm.sigstore.json~", id="what an editor left"),
        pytest.param(".tool.wasm.sigstore.json", id="a hidden one"),
    ],
)
def test_what_is_no_signature_of_this_file(artifact: Path, name: str) -> None:
    artifact.with_name(name).write_text("{}")
    assert bundles_beside(artifact) == ()


def test_the_name_of_the_file_is_no_pattern(tmp_path: Path) -> None:
    artifact = tmp_path / "[ab]*.wasm"
    artifact.write_bytes(b"")
    (tmp_path / "a.wasm.sigstore.json").write_text("of another")
    (tmp_path / "[ab]*.wasm.sigstore.json").write_text("its own")
    assert bundles_beside(artifact) == ("its own",)


def test_a_huge_file_is_cut_where_it_is_no_bundle_any_more(artifact: Path, key: SigningKey) -> None:
    artifact.with_name("tool.wasm.sigstore.json").write_text(sign(b"", key).text().ljust(MAX_BUNDLE_BYTES * 3))
    (text,) = bundles_beside(artifact)
    assert len(text) == MAX_BUNDLE_BYTES + 1
    with pytest.raises(InputError, match="more than"):
        Bundle.parse(text)


def test_a_file_that_is_not_text_is_handed_over_for_verification_to_refuse(artifact: Path) -> None:
    artifact.with_name("tool.wasm.sigstore.json").write_bytes(b"\xff\xfe\0")
    (text,) = bundles_beside(artifact)
    with pytest.raises(InputError):
        Bundle.parse(text)


def test_of_a_folder_full_of_signatures_one_too_many_is_read(artifact: Path) -> None:
    for number in range(MAX_BUNDLES + 20):
        artifact.with_name(f"tool.wasm.{number:012x}.sigstore.json").write_text("{}")
    assert len(bundles_beside(artifact)) == MAX_BUNDLES + 1


def test_a_pipe_beside_the_artifact_holds_nothing_up(artifact: Path) -> None:
    os.mkfifo(artifact.with_name("tool.wasm.sigstore.json"))
    assert bundles_beside(artifact) == ()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the signatures"):
        bundles_beside(tmp_path / "nowhere" / "tool.wasm")


def test_a_folder_in_a_signatures_place_is_told(artifact: Path, key: SigningKey) -> None:
    artifact.with_name("tool.wasm.sigstore.json").mkdir()
    assert bundles_beside(artifact) == ()
    with pytest.raises(InputError, match="cannot read the signature"):
        bundle_path(artifact, key.public)
