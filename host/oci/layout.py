"""The layout of a component and of its signatures as OCI manifests.

Components follow the "Wasm OCI Artifact layout" of CNCF TAG Runtime (https://tag-runtime.cncf.io/wgs/wasm/deliverables/
wasm-oci-artifact/), which wkg and wassette read. Signatures follow cosign's specs/BUNDLE_SPEC.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from host.component.manifest import Manifest
from host.core.names import Digest
from host.core.strict_json import parse_object
from host.errors import ArtifactError, InputError
from host.oci.documents import (
    EMPTY,
    EMPTY_CONTENT,
    IMAGE_MANIFEST,
    Descriptor,
    ImageManifest,
    as_bytes,
    camel_case,
    from_json,
    parse_json,
)
from host.trust.bundle import MAX_BUNDLE_BYTES, is_bundle_type

WASM: Final = "application/wasm"
WASM_CONFIG: Final = "application/vnd.wasm.config.v0+json"
BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_COMPONENT_BYTES: Final = 256 * 1024 * 1024
MAX_CONFIG_BYTES: Final = 64 * 1024
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,60}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,60}\Z")
_ANNOTATION: Final = "org.opencontainers.image."  # image-spec, annotations.md
_CREATED: Final = "1970-01-01T00:00:00Z"  # a constant, for equal bytes; wkg does not read a config without it


@dataclass(frozen=True, slots=True)
class ArtifactLayout:
    """The OCI documents of a component: the manifest, and the config as bytes."""

    manifest: ImageManifest
    config: bytes = field(repr=False)

    @property
    def descriptor(self) -> Descriptor:
        """The subject in a signature's manifest."""
        return Descriptor.of(self.manifest.as_bytes(), IMAGE_MANIFEST)


@dataclass(frozen=True, slots=True)
class ComponentConfig:
    """The interfaces that the config lists. They are claims: only the component itself is authoritative."""

    imports: tuple[str, ...]
    exports: tuple[str, ...]


@camel_case
@dataclass(frozen=True, slots=True)
class _Config:
    architecture: Literal["wasm"]
    os: Literal["wasip2"]  # the layout's word for a component of any WASI version
    layer_digests: tuple[str, ...]
    component: ComponentConfig


def lay_out(
    wasm: bytes, *, imports: Sequence[str], exports: Sequence[str], manifest: Manifest | None = None
) -> ArtifactLayout:
    """Returns the OCI documents of a component; the same bytes for the same arguments.

    Raises InputError for a component that `pull` would refuse.
    """
    layer = Descriptor.of(wasm, WASM)
    config: dict[str, Any] = {"created": _CREATED}
    if manifest is not None and manifest.authors:
        config["author"] = manifest.authors
    config |= {
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [str(layer.digest)],
        "component": {"exports": list(exports), "imports": list(imports)},
    }
    content = as_bytes(config)
    if len(wasm) > MAX_COMPONENT_BYTES or len(content) > MAX_CONFIG_BYTES:
        raise InputError(f"an artifact has at most {MAX_COMPONENT_BYTES} bytes, and {MAX_CONFIG_BYTES} in its config")
    described = Descriptor.of(content, WASM_CONFIG)
    annotations = _annotations(manifest or Manifest())
    return ArtifactLayout(ImageManifest(described, (layer,), annotations=annotations), content)


def read_manifest(content: bytes, media_type: str) -> ImageManifest:
    """Parses the manifest of a component, of the type `media_type`. Raises ArtifactError for any other artifact."""
    if media_type != IMAGE_MANIFEST:
        raise ArtifactError(f"not a WebAssembly component: {_named(media_type)}")
    manifest = ImageManifest.parse(content)
    if manifest.config.media_type != WASM_CONFIG:
        raise ArtifactError(f"not a WebAssembly component: its config is {_named(manifest.config.media_type)}")
    if [layer.media_type for layer in manifest.layers] != [WASM]:
        raise ArtifactError(f"it has {len(manifest.layers)} layers, not exactly one of type {WASM}")
    _check_size(manifest.config, MAX_CONFIG_BYTES, "its config")
    _check_size(manifest.layers[0], MAX_COMPONENT_BYTES, "the component")
    return manifest


def read_config(content: bytes, manifest: ImageManifest) -> ComponentConfig:
    """Parses the config of a component. Raises ArtifactError, also if it contradicts the manifest."""
    config = from_json(_Config, parse_json(content, "the config"), "the config")
    if config.layer_digests != tuple(str(layer.digest) for layer in manifest.layers):
        raise ArtifactError("the config lists other layers than the manifest")
    return config.component


def lay_out_bundle(bundle: bytes, subject: Descriptor) -> ImageManifest:
    """Returns the manifest that attaches a signature bundle to `subject`. Raises InputError if it is not a bundle."""
    if len(bundle) > MAX_BUNDLE_BYTES:
        raise InputError(f"a signature bundle is larger than {MAX_BUNDLE_BYTES} bytes")
    value = parse_object(bundle, "the signature bundle")
    if not is_bundle_type(value.get("mediaType")):
        raise InputError(f"the signature bundle: mediaType is not {BUNDLE}")
    title = f"sha256-{Digest.of(bundle).hex}.sigstore.json"
    layer = Descriptor(BUNDLE, Digest.of(bundle), len(bundle), annotations={f"{_ANNOTATION}title": title})
    content = "message-signature" if "messageSignature" in value else "dsse-envelope"
    return ImageManifest(
        Descriptor.of(EMPTY_CONTENT, EMPTY),
        (layer,),
        artifact_type=BUNDLE,
        subject=subject,
        annotations={"dev.sigstore.bundle.content": content},
    )


def read_bundle_manifest(content: bytes, subject: Digest) -> Descriptor:
    """Returns the descriptor of the bundle that a manifest attaches to `subject`. Raises ArtifactError."""
    manifest = ImageManifest.parse(content)
    if manifest.artifact_type != BUNDLE or [layer.media_type for layer in manifest.layers] != [BUNDLE]:
        raise ArtifactError("it is not a signature bundle")
    if manifest.subject is None or manifest.subject.digest != subject:
        raise ArtifactError("it refers to something else")
    _check_size(manifest.layers[0], MAX_BUNDLE_BYTES, "the bundle")
    return manifest.layers[0]


def _named(media_type: str) -> str:
    """A media type as RFC 6838 (section 4.2) has it, for a message; no other text from a registry gets into one."""
    if not media_type:
        return "a manifest without a type"
    return f"a {media_type}" if _MEDIA_TYPE.match(media_type) else "something else"


def _annotations(manifest: Manifest) -> Mapping[str, str]:
    given = {
        "title": manifest.id,
        "description": manifest.description,
        "version": manifest.version,
        "licenses": manifest.license,
        "authors": manifest.authors,
        "source": manifest.source,
        "url": manifest.homepage,
    }
    return {_ANNOTATION + name: text for name, text in given.items() if text}


def _check_size(described: Descriptor, most: int, what: str) -> None:
    if described.size > most:
        raise ArtifactError(f"{what} has {described.size} bytes, more than the limit of {most}")
