"""Dataclasses as JSON that others write and read. Pydantic checks the types, and passes over what is not ours.

Descriptors, manifests and indexes (OCI image-spec 1.1: descriptor.md, manifest.md, image-index.md), read strictly, and
written so that the same content is the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Final, TypeVar

from pydantic import FailFast, Field, PlainSerializer, PlainValidator, TypeAdapter, ValidationError, with_config
from pydantic.alias_generators import to_camel

from host.core.names import Digest
from host.core.strict_json import Json, parse_object, write_json
from host.errors import ArtifactError, InputError

wired: Final = with_config(strict=True, alias_generator=to_camel)
_adapter: Final[Callable[[type], TypeAdapter[Any]]] = cache(TypeAdapter)
_MOST_VALUES = 200_000  # in one document; a descriptor is some ten

T = TypeVar("T")


def json_object(content: bytes, what: str) -> dict[str, Json]:
    """The JSON object in `content`. Raises ArtifactError."""
    try:
        return parse_object(content, what, most=_MOST_VALUES)
    except InputError as error:
        raise ArtifactError(str(error)) from None


def read(kind: type[T], value: Json, where: str) -> T:
    """The `wired` dataclass that `value` spells. Raises ArtifactError with the first mistake: `where`, and its path."""
    try:
        found: T = _adapter(kind).validate_json(write_json(value))  # strictly, a list is a tuple in JSON alone
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    else:
        return found
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    reason = first.get("ctx", {}).get("error") or first["msg"]
    raise ArtifactError(f"{where}{path}: {reason}")  # out here, so that it has no context: that has what was read


def written(value: object) -> dict[str, Json]:
    """A `wired` dataclass as a JSON object, without the fields that have their defaults."""
    shown: dict[str, Json] = _adapter(type(value)).dump_python(value, by_alias=True, exclude_defaults=True)
    return shown


IMAGE_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX: Final = "application/vnd.oci.image.index.v1+json"
EMPTY: Final = "application/vnd.oci.empty.v1+json"
EMPTY_CONTENT: Final = b"{}"  # manifest.md, "Guidance for an Empty Descriptor"


def _digest(given: Json) -> Digest:
    try:
        return Digest.parse(str(given))  # nothing else in JSON is spelt like one
    except InputError as error:
        raise ValueError(error) from None


def _by_name(given: Json) -> Mapping[str, str]:
    """Of many mistakes pydantic would keep a list, and name each by a name that is not ours."""
    texts = given or {}
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("not texts by name")
    return texts


_Text = Annotated[str, Field(min_length=1)]
_Annotations = Annotated[
    Mapping[str, str], PlainValidator(_by_name), PlainSerializer(lambda texts: dict(sorted(texts.items())))
]


@wired
@dataclass(frozen=True, slots=True)
class Descriptor:
    """What some content is, without it. `size` in bytes."""

    media_type: _Text
    digest: Annotated[Digest, PlainValidator(_digest), PlainSerializer(str)]
    size: Annotated[int, Field(ge=0, lt=1 << 62)]
    artifact_type: _Text = ""
    annotations: _Annotations = field(default_factory=dict)

    @classmethod
    def of(cls, content: bytes, media_type: str) -> Descriptor:
        return cls(media_type, Digest.of(content), len(content))

    @classmethod
    def parse(cls, value: Json, where: str) -> Descriptor:
        """Raises ArtifactError, which names what is wrong after `where`."""
        return read(cls, value, where)

    def as_json(self) -> dict[str, Json]:
        return written(self)


@wired
@dataclass(frozen=True, slots=True)
class ImageManifest:
    """`subject` is what this one refers to, where it does."""

    config: Descriptor
    layers: Annotated[tuple[Descriptor, ...], FailFast()]
    artifact_type: _Text = ""
    subject: Descriptor | None = None
    annotations: _Annotations = field(default_factory=dict)

    @classmethod
    def parse(cls, content: bytes) -> ImageManifest:
        """Raises ArtifactError. What could be taken for an index as well is neither (CVE-2021-41190)."""
        value = document(content, IMAGE_MANIFEST, "the manifest")
        if "manifests" in value:
            raise ArtifactError("the manifest is also an index")
        return read(cls, value, "the manifest")

    def as_bytes(self) -> bytes:
        kind = {"artifactType": self.artifact_type} if self.artifact_type else {}
        return as_bytes({"schemaVersion": 2, "mediaType": IMAGE_MANIFEST, **kind, **written(self)})

    def described(self) -> Descriptor:
        """As an index lists it (distribution-spec, "Pushing Manifests with Subject")."""
        content = self.as_bytes()
        kind = self.artifact_type or self.config.media_type
        return Descriptor(IMAGE_MANIFEST, Digest.of(content), len(content), kind, self.annotations)


def document(content: bytes, media_type: str, what: str) -> dict[str, Json]:
    """The JSON object in `content`, which says of itself that it is `media_type`. Raises ArtifactError."""
    value = json_object(content, what)
    if value.get("schemaVersion") != 2 or isinstance(value.get("schemaVersion"), bool):
        raise ArtifactError(f"{what}: schemaVersion is not 2")
    if value.get("mediaType") != media_type:
        raise ArtifactError(f"{what}: mediaType is not {media_type}")
    return value


def as_bytes(value: Json) -> bytes:
    """Compact JSON."""
    return write_json(value).encode()
