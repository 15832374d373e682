"""Components and signatures as OCI manifests."""

from __future__ import annotations

import json

import pytest

from host.component.manifest import Manifest
from host.core.names import Digest
from host.errors import ArtifactError, InputError
from host.oci import layout
from host.oci.documents import EMPTY, IMAGE_INDEX, IMAGE_MANIFEST, Descriptor, ImageManifest

WASM = b"\0asm-for-tests"
DIGEST = str(Digest.of(WASM))
IMPORTS = ("cyfr:http/fetch@0.1.0",)
EXPORTS = ("cyfr:catalyst/run@0.1.0",)
ABOUT = Manifest(
    id="local.openai",
    version="0.1.0",
    description="OpenAI's API",
    license="MIT",
    authors="Alyssa P. Hacker",
    homepage="https://home.test",
    source="https://source.test",
)
BUNDLE = json.dumps({"mediaType": layout.BUNDLE, "messageSignature": {}}).encode()
SUBJECT = Descriptor.of(b"subject", IMAGE_MANIFEST)


def _laid_out(**changes) -> layout.ArtifactLayout:
    return layout.lay_out(WASM, **{"imports": IMPORTS, "exports": EXPORTS, "manifest": ABOUT, **changes})


def test_the_config_is_as_the_layout_of_the_cncf_has_it():
    assert json.loads(_laid_out().config) == {
        "created": "1970-01-01T00:00:00Z",
        "author": "Alyssa P. Hacker",
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [DIGEST],
        "component": {"exports": list(EXPORTS), "imports": list(IMPORTS)},
    }


def test_the_manifest_is_as_the_layout_of_the_cncf_has_it():
    laid_out = _laid_out()
    assert json.loads(laid_out.manifest.as_bytes()) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.wasm.config.v0+json",
            "digest": str(Digest.of(laid_out.config)),
            "size": len(laid_out.config),
        },
        "layers": [{"mediaType": "application/wasm", "digest": DIGEST, "size": len(WASM)}],
        "annotations": {
            "org.opencontainers.image.authors": "Alyssa P. Hacker",
            "org.opencontainers.image.description": "OpenAI's API",
            "org.opencontainers.image.licenses": "MIT",
            "org.opencontainers.image.source": "https://source.test",
            "org.opencontainers.image.title": "local.openai",
            "org.opencontainers.image.url": "https://home.test",
            "org.opencontainers.image.version": "0.1.0",
        },
    }


def test_the_same_component_is_the_same_artifact():
    assert _laid_out().manifest.as_bytes() == _laid_out().manifest.as_bytes()


def test_a_component_that_says_nothing_of_itself_has_no_annotations():
    laid_out = _laid_out(manifest=None)
    assert not laid_out.manifest.annotations
    assert "author" not in json.loads(laid_out.config)


def test_what_is_laid_out_is_read_back():
    laid_out = _laid_out()
    manifest = layout.read_manifest(laid_out.manifest.as_bytes(), IMAGE_MANIFEST)
    assert layout.read_config(laid_out.config, manifest) == layout.ComponentConfig(IMPORTS, EXPORTS)


def test_what_could_not_be_pulled_is_not_laid_out(monkeypatch):
    with pytest.raises(InputError):
        _laid_out(imports=["a:b/c@1.0.0"] * 10_000)
    monkeypatch.setattr(layout, "MAX_COMPONENT_BYTES", len(WASM) - 1)
    with pytest.raises(InputError):
        _laid_out()


def test_the_config_of_wkg_is_read():
    """As the crate oci-wasm serializes its WasmConfig: an absent author is null, the time has nanoseconds."""
    config = (
        '{"created":"2026-01-02T03:04:05.123456789Z","author":null,"architecture":"wasm","os":"wasip2",'
        f'"layerDigests":["{DIGEST}"],"component":{{"exports":["a:b/c@1.0.0"],"imports":[],"target":null}}}}'
    )
    assert layout.read_config(config.encode(), _laid_out().manifest).exports == ("a:b/c@1.0.0",)


def _with(**changes) -> bytes:
    return json.dumps(json.loads(_laid_out().manifest.as_bytes()) | changes).encode()


_LAYER = {"mediaType": "application/wasm", "digest": DIGEST, "size": len(WASM)}
_CONFIG = {"mediaType": layout.WASM_CONFIG, "digest": DIGEST, "size": 2}


@pytest.mark.parametrize(
    ("content", "media_type", "said"),
    [
        pytest.param(_with(), IMAGE_INDEX, "image.index", id="an index"),
        pytest.param(_with(), "application/vnd.docker.distribution.manifest.v2+json", "docker", id="docker's manifest"),
        pytest.param(_with(), "", "without a type", id="no type"),
        pytest.param(_with(mediaType=IMAGE_INDEX), IMAGE_MANIFEST, "mediaType", id="an index that is sent as a manifest"),
        pytest.param(_with(config=_CONFIG | {"mediaType": "application/vnd.oci.image.config.v1+json"}), IMAGE_MANIFEST, "its config is a", id="a container image"),
        pytest.param(_with(config=_CONFIG | {"size": 65 * 1024}), IMAGE_MANIFEST, "its config", id="a config too large"),
        pytest.param(_with(layers=[]), IMAGE_MANIFEST, "0 layers", id="no layer"),
        pytest.param(_with(layers=[_LAYER, _LAYER]), IMAGE_MANIFEST, "2 layers", id="two layers"),
        pytest.param(_with(layers=[_LAYER | {"mediaType": "application/gzip"}]), IMAGE_MANIFEST, "exactly one", id="a layer of another type"),
        pytest.param(_with(layers=[_LAYER | {"size": 1 << 40}]), IMAGE_MANIFEST, "the component", id="a component of a terabyte"),
    ],
)  # fmt: skip
def test_what_is_not_one_component_is_refused(content, media_type, said):
    with pytest.raises(ArtifactError, match=said):
        layout.read_manifest(content, media_type)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"architecture": "amd64"}, r"config\.architecture: .*'wasm'", id="another architecture"),
        pytest.param({"os": "wasip1"}, r"config\.os: .*'wasip2'", id="a module rather than a component"),
        pytest.param({"layerDigests": []}, "other layers", id="layer digests that are missing"),
        pytest.param({"layerDigests": ["sha256:" + "0" * 64]}, "other layers", id="layer digests that lie"),
        pytest.param({"layerDigests": [DIGEST, DIGEST]}, "other layers", id="a layer too many"),
        pytest.param({"component": None}, r"config\.component", id="no component"),
        pytest.param(
            {"component": {"imports": [], "exports": "x"}}, r"component\.exports", id="exports that are a text"
        ),
        pytest.param(
            {"component": {"imports": [1], "exports": []}}, r"component\.imports\[0\]", id="an import that is a number"
        ),
    ],
)
def test_a_config_that_disagrees_is_refused(changes, said):
    laid_out = _laid_out()
    with pytest.raises(ArtifactError, match=said):
        layout.read_config(json.dumps(json.loads(laid_out.config) | changes).encode(), laid_out.manifest)


def test_a_config_that_is_no_json_is_refused():
    with pytest.raises(ArtifactError):
        layout.read_config(b"{", _laid_out().manifest)


def test_a_bundle_is_attached_as_cosign_attaches_one():
    manifest = json.loads(layout.lay_out_bundle(BUNDLE, SUBJECT).as_bytes())
    assert manifest == {
        "schemaVersion": 2,
        "mediaType": IMAGE_MANIFEST,
        "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "config": {"mediaType": EMPTY, "digest": str(Digest.of(b"{}")), "size": 2},
        "layers": [
            {
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "digest": str(Digest.of(BUNDLE)),
                "size": len(BUNDLE),
                "annotations": {"org.opencontainers.image.title": f"sha256-{Digest.of(BUNDLE).hex}.sigstore.json"},
            }
        ],
        "subject": {"mediaType": IMAGE_MANIFEST, "digest": str(SUBJECT.digest), "size": SUBJECT.size},
        "annotations": {"dev.sigstore.bundle.content": "message-signature"},
    }


@pytest.mark.parametrize(
    "bundle",
    [
        pytest.param(b"{}", id="no type"),
        pytest.param(b"nonsense", id="no JSON"),
        pytest.param(BUNDLE + b" " * 64 * 1024, id="too large"),
    ],
)
def test_what_is_no_bundle_is_not_attached(bundle):
    with pytest.raises(InputError):
        layout.lay_out_bundle(bundle, SUBJECT)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"artifactType": "application/spdx+json"}, "not a signature", id="something else"),
        pytest.param({"subject": {"mediaType": IMAGE_MANIFEST, "digest": DIGEST, "size": 1}}, "something else", id="of something else"),
        pytest.param({"layers": []}, "not a signature", id="no layer"),
        pytest.param({"layers": [_LAYER]}, "not a signature", id="a layer of another type"),
        pytest.param({"layers": [_LAYER | {"mediaType": layout.BUNDLE, "size": 65 * 1024}]}, "the bundle", id="too large"),
    ],
)  # fmt: skip
def test_a_manifest_that_attaches_no_bundle_to_the_subject_is_refused(changes, said):
    content = json.dumps(json.loads(layout.lay_out_bundle(BUNDLE, SUBJECT).as_bytes()) | changes).encode()
    with pytest.raises(ArtifactError, match=said):
        layout.read_bundle_manifest(content, SUBJECT.digest)


def test_a_manifest_without_a_subject_attaches_nothing():
    content = ImageManifest(SUBJECT, (Descriptor.of(BUNDLE, layout.BUNDLE),), layout.BUNDLE).as_bytes()
    with pytest.raises(ArtifactError, match="something else"):
        layout.read_bundle_manifest(content, SUBJECT.digest)
