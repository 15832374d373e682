"""What a component says of its parts: the document that `host build` puts into it."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import host
from host.component import sbom
from host.component.manifest import Manifest
from host.component.wasm import NOTICE_SECTION, SBOM_SECTION, append_section, custom_sections
from host.errors import ManifestError
from tests.conftest import GUESTS, ROOT, python_guest, wat

TYPES = {"application", "library", "platform"}  # those of CycloneDX 1.6 that are used here


@pytest.fixture(scope="module")
def document(openai_wasm: bytes) -> dict[str, Any]:
    found = sbom.embedded(openai_wasm)
    assert found is not None
    return dict(found)


def check(document: dict[str, Any]) -> None:
    """The fields that the schema of CycloneDX 1.6 requires, and what a scanner goes by."""
    assert (document["bomFormat"], document["specVersion"], document["version"]) == ("CycloneDX", "1.6", 1)
    main = document["metadata"]["component"]
    every = [main, *document["metadata"]["tools"]["components"], *document["components"]]
    for part in every:
        assert part["type"] in TYPES
        assert part["name"]
        assert part["purl"].startswith("pkg:")
        assert part["purl"].endswith(f"@{part['version']}") if "version" in part else "@" not in part["purl"]
        for one in part.get("licenses", []):
            assert [*one] == ["expression"] or one["license"].keys() & {"id", "name"}
    references = [part["bom-ref"] for part in every]
    assert len(set(references)) == len(references)
    assert all({one["ref"], *one["dependsOn"]} <= set(references) for one in document["dependencies"])


def test_it_is_a_document_of_cyclonedx(document: dict[str, Any]) -> None:
    check(document)


def test_it_names_the_catalyst_and_all_that_is_in_it(document: dict[str, Any], openai_wasm: bytes) -> None:
    main = document["metadata"]["component"]
    assert (main["name"], main["version"]) == ("local.openai", "0.1.0")
    assert main["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    parts = {part["name"]: part for part in document["components"]}
    assert parts["componentize-py"]["version"] == version("componentize-py")
    assert parts["catalyst-sdk"]["version"] == host.__version__
    assert parts["cpython"]["version"].startswith("3.14.")
    assert parts["cpython"]["licenses"] == [{"expression": "PSF-2.0"}]
    assert {"wasi-libc", "expat", "libmpdec", "sqlite", "zlib"} <= parts.keys()
    for name in ("expat", "libmpdec", "sqlite", "zlib"):
        assert f"{parts[name]['version']}\0".encode() in openai_wasm, f"another {name} is in it"


def test_it_has_nothing_that_differs_between_two_builds(document: dict[str, Any]) -> None:
    assert "serialNumber" not in document
    assert "timestamp" not in document["metadata"]
    assert str(ROOT) not in json.dumps(document)


def test_the_component_carries_the_notices_of_what_it_contains(openai_wasm: bytes) -> None:
    [notice] = [content.decode() for name, content in custom_sections(openai_wasm) if name == NOTICE_SECTION]
    assert notice == (ROOT / "catalyst" / "NOTICE").read_text()
    assert "Copyright (c) 2001 Python Software Foundation; All Rights Reserved" in notice


def test_a_manifest_without_id_version_and_license_has_a_document_too() -> None:
    text = sbom.compose(b"", Manifest(), GUESTS, own="sha256:0", sdk="sha256:0")
    check(json.loads(text))
    assert sbom.sources_of(json.loads(text)) == "sha256:0"


def test_packages_that_were_installed_beside_the_catalyst_are_parts(tmp_path: Path) -> None:
    for name, more in (("Some.Thing", "License-Expression: MIT\n"), ("other", "")):
        (place := tmp_path / f"{name}-2.0.dist-info").mkdir()
        (place / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 2.0\n{more}")
    document = json.loads(sbom.compose(b"", Manifest(), tmp_path, own="sha256:0", sdk="sha256:0"))
    check(document)
    found = {part["name"]: part for part in document["components"]}
    assert found["Some.Thing"]["purl"] == "pkg:pypi/some-thing@2.0"
    assert found["Some.Thing"]["licenses"] == [{"expression": "MIT"}]
    assert "licenses" not in found["other"]


def test_the_same_source_has_the_same_digest_wherever_and_whenever_it_lies(tmp_path: Path) -> None:
    for folder, names in (("one", ("app.py", "sub/b.py")), ("two", ("sub/b.py", "app.py"))):
        for name in names:
            (file := tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            file.write_text(name)
    assert sbom.digest_of(tmp_path / "one") == sbom.digest_of(tmp_path / "two")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda place: (place / "app.py").write_text("b"), id="other contents"),
        pytest.param(lambda place: (place / "app.py").rename(place / "b.py"), id="another name"),
        pytest.param(lambda place: (place / "b.py").touch(), id="one file more"),
        pytest.param(lambda place: (place / "app.py").unlink(), id="one file less"),
    ],
)
def test_a_source_that_was_changed_has_another_digest(tmp_path: Path, change: Any) -> None:
    (tmp_path / "app.py").write_text("a")
    before = sbom.digest_of(tmp_path)
    change(tmp_path)
    assert sbom.digest_of(tmp_path) != before


def test_two_catalysts_built_with_one_sdk_differ_in_their_own_sources_alone(document: dict[str, Any]) -> None:
    other = sbom.embedded(python_guest(GUESTS / "raises"))
    assert other is not None
    assert sbom.sources_of(other) != sbom.sources_of(document)
    [ours], [theirs] = ([p for p in one["components"] if p["name"] == "catalyst-sdk"] for one in (document, other))
    assert ours == theirs


def test_a_component_from_elsewhere_has_none() -> None:
    assert sbom.embedded(wat("hostile/returns_not_json")) is None


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        pytest.param([b"{}", b"{}"], "more than one SBOM", id="two"),
        pytest.param([b"[]"], "an array, not an object|array", id="no object"),
        pytest.param([b"<bom/>"], "the SBOM", id="no JSON"),
        pytest.param([b" " * (1 << 20) + b"{}"], "larger than", id="too large"),
    ],
)
def test_one_that_cannot_be_read_is_an_error_that_says_why(sections: list[bytes], said: str) -> None:
    wasm = wat("hostile/returns_not_json")
    for content in sections:
        wasm = append_section(wasm, SBOM_SECTION, content)
    with pytest.raises(ManifestError, match=said):
        sbom.embedded(wasm)


@pytest.mark.parametrize(
    "strange",
    [{}, {"metadata": 1, "components": "x"}, {"metadata": {"component": {"properties": [1]}}, "components": [1, {}]}],
)
def test_a_document_of_another_shape_is_shown_as_far_as_it_goes(strange: dict[str, Any]) -> None:
    assert sbom.sources_of(strange) is None
    assert set(sbom.named_parts(strange)) <= {"?"}
