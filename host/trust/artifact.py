"""Bytes that may be run. Only `admit` makes an Artifact, so whoever holds one knows that it was looked at."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import Final

from host.manifest import Manifest
from host.names import Digest
from host.sections import check_component

_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A component binary, its digest, and the manifest inside it (None where it has none)."""

    wasm: bytes = field(repr=False)
    digest: Digest
    manifest: Manifest | None = field(repr=False)
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("an Artifact is made by admit")


def admit(wasm: bytes) -> Artifact:
    """The artifact in `wasm`. Raises ArtifactError.

    1. It is a component binary, by its preamble: no core module, no text.
    2. Its sections add up, and the manifest in it, if there is one, is well formed.
    """
    check_component(wasm)
    manifest = Manifest.embedded(wasm)
    return Artifact(wasm, Digest.of(wasm), manifest, _SEAL)
