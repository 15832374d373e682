"""Descriptors, manifests and indexes (OCI image-spec 1.1: descriptor.md, manifest.md, image-index.md), read strictly,
and written so that the same content is the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from host.errors import ArtifactError, InputError
from host.jsontext import Json, kind_of, parse_object
from host.names import Digest

IMAGE_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX: Final = "application/vnd.oci.image.index.v1+json"
EMPTY: Final = "application/vnd.oci.empty.v1+json"
EMPTY_CONTENT: Final = b"{}"  # manifest.md, "Guidance for an Empty Descriptor"
_MOST_VALUES = 200_000  # in one document; a descriptor is some ten
_LARGEST = 1 << 62


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What some content is, without it. `size` in bytes."""

    media_type: str
    digest: Digest
    size: int
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, content: bytes, media_type: str) -> Descriptor:
        return cls(media_type, Digest.of(content), len(content))

    @classmethod
    def parse(cls, value: Json, where: str) -> Descriptor:
        """Raises ArtifactError, which names what is wrong after `where`."""
        if not isinstance(value, dict):
            raise ArtifactError(f"{where} is a JSON {kind_of(value)}, not a descriptor")
        size = value.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _LARGEST:
            raise ArtifactError(f"{where}.size is not a number of bytes")
        try:
            digest = Digest.parse(_text(value, "digest", where))
        except InputError as error:
            raise ArtifactError(f"{where}.digest: {error}") from None
        return cls(
            _text(value, "mediaType", where),
            digest,
            size,
            _text(value, "artifactType", where) if "artifactType" in value else "",
            _annotations(value, where),
        )

    def as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.artifact_type:
            shown["artifactType"] = self.artifact_type
        if self.annotations:
            shown["annotations"] = dict(self.annotations)
        return shown


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """`subject` is what this one refers to, where it does."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, content: bytes) -> ImageManifest:
        """Raises ArtifactError. What could be taken for an index as well is neither (CVE-2021-41190)."""
        value = document(content, IMAGE_MANIFEST, "the manifest")
        if "manifests" in value:
            raise ArtifactError("the manifest is also an index")
        layers = value.get("layers")
        if not isinstance(layers, list):
            raise ArtifactError("the manifest.layers is not a list")
        return cls(
            Descriptor.parse(value.get("config"), "the manifest.config"),
            tuple(Descriptor.parse(layer, f"the manifest.layers[{index}]") for index, layer in enumerate(layers)),
            _text(value, "artifactType", "the manifest") if "artifactType" in value else "",
            Descriptor.parse(value["subject"], "the manifest.subject") if "subject" in value else None,
            _annotations(value, "the manifest"),
        )

    def as_bytes(self) -> bytes:
        shown: dict[str, Any] = {"schemaVersion": 2, "mediaType": IMAGE_MANIFEST}
        if self.artifact_type:
            shown["artifactType"] = self.artifact_type
        shown["config"] = self.config.as_json()
        shown["layers"] = [layer.as_json() for layer in self.layers]
        if self.subject is not None:
            shown["subject"] = self.subject.as_json()
        if self.annotations:
            shown["annotations"] = dict(sorted(self.annotations.items()))
        return as_bytes(shown)

    def described(self) -> Descriptor:
        """As an index lists it (distribution-spec, "Pushing Manifests with Subject")."""
        content = self.as_bytes()
        kind = self.artifact_type or self.config.media_type
        return Descriptor(IMAGE_MANIFEST, Digest.of(content), len(content), kind, self.annotations)


def document(content: bytes, media_type: str, what: str) -> dict[str, Json]:
    """The JSON object in `content`, which says of itself that it is `media_type`. Raises ArtifactError."""
    try:
        value = parse_object(content, what, most=_MOST_VALUES)
    except InputError as error:
        raise ArtifactError(str(error)) from None
    if value.get("schemaVersion") != 2 or isinstance(value.get("schemaVersion"), bool):
        raise ArtifactError(f"{what}: schemaVersion is not 2")
    if value.get("mediaType") != media_type:
        raise ArtifactError(f"{what}: mediaType is not {media_type}")
    return value


def as_bytes(value: Json) -> bytes:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _text(value: Mapping[str, Json], name: str, where: str) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not text:
        raise ArtifactError(f"{where}.{name} is not a text")
    return text


def _annotations(value: Mapping[str, Json], where: str) -> Mapping[str, str]:
    given = value.get("annotations") or {}
    if not isinstance(given, dict) or not all(isinstance(text, str) for text in given.values()):
        raise ArtifactError(f"{where}.annotations are not texts by name")
    return given
