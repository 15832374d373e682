"""The sealed Artifact: only `admit` makes one, so every Artifact was verified."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from host.component.wasm import COMPONENT_PREAMBLE, MANIFEST_SECTION, append_section
from host.core.names import Digest
from host.errors import InputError, ManifestError, NotAComponent
from host.trust.artifact import Artifact, admit, read_component
from tests.trust.conftest import component, tool


def test_what_is_admitted_has_its_digest_and_its_manifest() -> None:
    artifact = admit(tool())
    assert artifact.digest == Digest.of(tool())
    assert artifact.manifest is not None
    assert artifact.manifest.id == "catalyst:acme.tool"


def test_a_component_without_a_manifest_is_admitted() -> None:
    assert admit(COMPONENT_PREAMBLE).manifest is None


def test_no_other_way_leads_to_an_artifact() -> None:
    with pytest.raises(TypeError, match="made by admit"):
        Artifact(tool(), Digest.of(b"other bytes"), None, object())
    with pytest.raises(ValueError, match="seal"):
        dataclasses.replace(admit(tool()), wasm=b"other bytes")


@pytest.mark.parametrize("wasm", [b"", b"\0asm\x01\0\0\0", b"(component)", COMPONENT_PREAMBLE + b"\0"])
def test_what_is_no_component_is_refused(wasm: bytes) -> None:
    with pytest.raises(NotAComponent):
        admit(wasm)


def test_a_manifest_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ManifestError):
        admit(component(id=5))


def test_two_manifests_are_refused() -> None:
    with pytest.raises(ManifestError, match="more than one"):
        admit(append_section(tool("1.0.0"), MANIFEST_SECTION, b"{}"))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_component(tmp_path / "nothing.wasm")


def test_to_admit_takes_no_cryptography() -> None:
    program = (
        "import host.trust.artifact, host.core.names, host.component.manifest, sys;"
        "print(*{'cryptography', 'semver', 'sqlite3'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "\n"
