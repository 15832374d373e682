"""Bytes that may be run. Only `admit` makes an Artifact, so whoever holds one knows that it was looked at."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Final

from host.errors import InputError
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


def read_component(path: str | Path) -> bytes:
    """The bytes of the file at `path`. Raises InputError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}", field="source") from None


def admit(wasm: bytes) -> Artifact:
    """The artifact in `wasm`. Raises ArtifactError.

    1. It is a component binary, by its preamble: no core module, no text.
    2. Its sections add up, and the manifest in it, if there is one, is well formed.
    """
    check_component(wasm)
    manifest = Manifest.embedded(wasm)
    return Artifact(wasm, Digest.of(wasm), manifest, _SEAL)
