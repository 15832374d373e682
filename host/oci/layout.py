"""A component, and signatures of it, as OCI manifests.

The component: CNCF TAG Runtime, "Wasm OCI Artifact layout" (https://tag-runtime.cncf.io/wgs/wasm/deliverables/
wasm-oci-artifact/), which wkg and wassette read. A signature: cosign's specs/BUNDLE_SPEC.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
    json_object,
    read,
    wired,
)
from host.trust.bundle import MAX_BUNDLE_BYTES

WASM: Final = "application/wasm"
WASM_CONFIG: Final = "application/vnd.wasm.config.v0+json"
BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_COMPONENT_BYTES: Final = 256 * 1024 * 1024
MAX_CONFIG_BYTES: Final = 64 * 1024
_OCI: Final = "org.opencontainers.image."  # image-spec, annotations.md
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)  # `created` may not be left out: wkg's reader insists on it


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A component ready to be pushed: the manifest's bytes, and those of the config that it names."""

    manifest: ImageManifest
    config: bytes = field(repr=False)

    @property
    def descriptor(self) -> Descriptor:
        """What a signature's manifest calls its subject."""
        return Descriptor.of(self.manifest.as_bytes(), IMAGE_MANIFEST)


@dataclass(frozen=True, slots=True)
class ComponentConfig:
    """What the config says that the component has; the component itself is the authority."""

    imports: tuple[str, ...]
    exports: tuple[str, ...]


@wired
@dataclass(frozen=True, slots=True)
class _Config:
    architecture: Literal["wasm"]
    os: Literal["wasip2"]  # as the layout calls a component, whichever version of WASI it imports
    layer_digests: tuple[str, ...]
    component: ComponentConfig


def lay_out(
    wasm: bytes,
    *,
    imports: Sequence[str],
    exports: Sequence[str],
    manifest: Manifest | None = None,
    created: datetime | None = None,
) -> LaidOut:
    """The same bytes for the same arguments: without `created`, the time is the beginning of 1970. Raises InputError
    for a component that no `pull` would take."""
    layer = Descriptor.of(wasm, WASM)
    config: dict[str, Any] = {"created": _rfc3339(created or _LONG_AGO)}
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
    annotations = _annotations(manifest or Manifest(), created)
    described = Descriptor.of(content, WASM_CONFIG)
    return LaidOut(ImageManifest(described, (layer,), annotations=annotations), content)


def read_manifest(content: bytes, media_type: str) -> ImageManifest:
    """The manifest of a component. Raises ArtifactError for anything else; `media_type` is what the registry says."""
    if media_type != IMAGE_MANIFEST:
        raise ArtifactError(f"not a WebAssembly component: a {media_type[:80] or 'manifest without a type'}")
    manifest = ImageManifest.parse(content)
    if manifest.config.media_type != WASM_CONFIG:
        raise ArtifactError(f"not a WebAssembly component: its config is a {manifest.config.media_type[:80]}")
    if [layer.media_type for layer in manifest.layers] != [WASM]:
        raise ArtifactError(f"it has {len(manifest.layers)} layers, not exactly one of type {WASM}")
    _check_size(manifest.config, MAX_CONFIG_BYTES, "its config")
    _check_size(manifest.layers[0], MAX_COMPONENT_BYTES, "the component")
    return manifest


def read_config(content: bytes, manifest: ImageManifest) -> ComponentConfig:
    """Raises ArtifactError where the config is not a component's, or contradicts the manifest."""
    config = read(_Config, json_object(content, "the config"), "the config")
    if config.layer_digests != tuple(str(layer.digest) for layer in manifest.layers):
        raise ArtifactError("the config lists other layers than the manifest")
    return config.component


def lay_out_bundle(bundle: bytes, subject: Descriptor) -> ImageManifest:
    """The manifest by which a signature bundle refers to `subject`. Raises InputError where it is not a bundle."""
    if len(bundle) > MAX_BUNDLE_BYTES:
        raise InputError(f"a signature bundle is larger than {MAX_BUNDLE_BYTES} bytes")
    value = parse_object(bundle, "the signature bundle")
    if value.get("mediaType") != BUNDLE:
        raise InputError(f"the signature bundle: mediaType is not {BUNDLE}")
    title = f"sha256-{Digest.of(bundle).hex}.sigstore.json"
    layer = Descriptor(BUNDLE, Digest.of(bundle), len(bundle), annotations={f"{_OCI}title": title})
    content = "message-signature" if "messageSignature" in value else "dsse-envelope"
    return ImageManifest(
        Descriptor.of(EMPTY_CONTENT, EMPTY),
        (layer,),
        artifact_type=BUNDLE,
        subject=subject,
        annotations={"dev.sigstore.bundle.content": content},
    )


def read_bundle_manifest(content: bytes, subject: Digest) -> Descriptor:
    """Where the bundle is that this manifest attaches to `subject`. Raises ArtifactError."""
    manifest = ImageManifest.parse(content)
    if manifest.artifact_type != BUNDLE or [layer.media_type for layer in manifest.layers] != [BUNDLE]:
        raise ArtifactError("it is not a signature bundle")
    if manifest.subject is None or manifest.subject.digest != subject:
        raise ArtifactError("it is of something else")
    _check_size(manifest.layers[0], MAX_BUNDLE_BYTES, "the bundle")
    return manifest.layers[0]


def _annotations(manifest: Manifest, created: datetime | None) -> Mapping[str, str]:
    given = {
        "title": manifest.id,
        "description": manifest.description,
        "version": manifest.version,
        "licenses": manifest.license,
        "authors": manifest.authors,
        "source": manifest.source,
        "url": manifest.homepage,
        "created": _rfc3339(created) if created else "",
    }
    return {_OCI + name: text for name, text in given.items() if text}


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _check_size(described: Descriptor, most: int, what: str) -> None:
    if described.size > most:
        raise ArtifactError(f"{what} is said to have {described.size} bytes; at most {most} are taken")
