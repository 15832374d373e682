"""Descriptors and manifests (OCI image-spec 1.1: descriptor.md, manifest.md), and dataclasses as JSON.

Pydantic checks the types and ignores unknown fields. Equal content is written as equal bytes.
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

T = TypeVar("T")

IMAGE_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX: Final = "application/vnd.oci.image.index.v1+json"
EMPTY: Final = "application/vnd.oci.empty.v1+json"
EMPTY_CONTENT: Final = b"{}"  # manifest.md, "Guidance for an Empty Descriptor"
_MAX_VALUES = 200_000  # in one document; a descriptor has about ten

camel_case: Final = with_config(strict=True, alias_generator=to_camel)  # a class decorator: field_name is fieldName
_adapter: Final[Callable[[type], TypeAdapter[Any]]] = cache(TypeAdapter)


def parse_json(content: bytes, what: str) -> dict[str, Json]:
    """Returns the JSON object in `content`. Raises ArtifactError."""
    try:
        return parse_object(content, what, most=_MAX_VALUES, names_once=True)
    except InputError as error:
        raise ArtifactError(str(error)) from None


def parse_document(content: bytes, media_type: str, what: str) -> dict[str, Json]:
    """Returns the JSON object in `content`, which declares `media_type` itself. Raises ArtifactError."""
    value = parse_json(content, what)
    if value.get("schemaVersion") != 2 or isinstance(value.get("schemaVersion"), bool):
        raise ArtifactError(f"{what}: schemaVersion is not 2")
    if value.get("mediaType") != media_type:
        raise ArtifactError(f"{what}: mediaType is not {media_type}")
    return value


def from_json(kind: type[T], value: Json, where: str) -> T:
    """Returns the `camel_case` dataclass with the fields of `value`.

    Raises ArtifactError for the first mistake, with `where` and its path.
    """
    try:
        found: T = _adapter(kind).validate_json(write_json(value))  # in strict mode, only JSON lists become tuples
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    else:
        return found
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    reason = first.get("ctx", {}).get("error") or first["msg"]
    raise ArtifactError(f"{where}{path}: {reason}")  # outside `except`: the context would contain the input


def to_json(value: object) -> dict[str, Json]:
    """Returns a `camel_case` dataclass as a JSON object, without the fields that have their default."""
    shown: dict[str, Json] = _adapter(type(value)).dump_python(value, by_alias=True, exclude_defaults=True)
    return shown


def as_bytes(value: Json) -> bytes:
    """Returns `value` as compact JSON. Its digest names it: so nothing in it is replaced, as `json_bytes` would. Raises
    UnicodeEncodeError."""
    return write_json(value).encode()


def _validate_digest(given: Json) -> Digest:
    try:
        return Digest.parse(str(given))  # no other JSON value reads like a digest
    except InputError:
        raise ValueError("not a digest: sha256: and 64 lower-case hex digits") from None


def _validate_annotations(given: Json) -> Mapping[str, str]:
    """One error for any number of mistakes: pydantic's own errors would list them all, with the input's names."""
    texts = given or {}
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("not texts by name")
    return texts


_Text = Annotated[str, Field(min_length=1)]
_Annotations = Annotated[
    Mapping[str, str], PlainValidator(_validate_annotations), PlainSerializer(lambda texts: dict(sorted(texts.items())))
]


@camel_case
@dataclass(frozen=True, slots=True)
class Descriptor:
    """Identifies content without containing it. `size` is in bytes."""

    media_type: _Text
    digest: Annotated[Digest, PlainValidator(_validate_digest), PlainSerializer(str)]
    size: Annotated[int, Field(ge=0, lt=1 << 62)]
    artifact_type: _Text = ""
    annotations: _Annotations = field(default_factory=dict)

    @classmethod
    def of(cls, content: bytes, media_type: str) -> Descriptor:
        return cls(media_type, Digest.of(content), len(content))

    @classmethod
    def parse(cls, value: Json, where: str) -> Descriptor:
        """Raises ArtifactError, whose message begins with `where`."""
        return from_json(cls, value, where)

    def as_json(self) -> dict[str, Json]:
        return to_json(self)


@camel_case
@dataclass(frozen=True, slots=True)
class ImageManifest:
    """A manifest. `subject` is the manifest that it refers to, if any."""

    config: Descriptor
    layers: Annotated[tuple[Descriptor, ...], FailFast()]
    artifact_type: _Text = ""
    subject: Descriptor | None = None
    annotations: _Annotations = field(default_factory=dict)

    @classmethod
    def parse(cls, content: bytes) -> ImageManifest:
        """Raises ArtifactError, also for content that could be read as an index (CVE-2021-41190)."""
        value = parse_document(content, IMAGE_MANIFEST, "the manifest")
        if "manifests" in value:
            raise ArtifactError("the manifest is also an index")
        return from_json(cls, value, "the manifest")

    def as_bytes(self) -> bytes:
        kind = {"artifactType": self.artifact_type} if self.artifact_type else {}
        return as_bytes({"schemaVersion": 2, "mediaType": IMAGE_MANIFEST, **kind, **to_json(self)})

    def described(self) -> Descriptor:
        """The entry for an index (distribution-spec, "Pushing Manifests with Subject")."""
        content = self.as_bytes()
        kind = self.artifact_type or self.config.media_type
        return Descriptor(IMAGE_MANIFEST, Digest.of(content), len(content), kind, self.annotations)
