"""Bytes that may run. Only `admit` makes an Artifact, so every Artifact has passed its checks."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host.component.wasm import check_component
from host.core.installation import component_file
from host.core.names import Digest
from host.errors import InputError, VerificationFailed

if TYPE_CHECKING:
    from host.component.manifest import Manifest

_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A component binary, its digest, and the manifest inside it, or None."""

    wasm: bytes = field(repr=False)
    digest: Digest
    manifest: Manifest | None = field(repr=False)
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("an Artifact is made by admit")


def read_component(path: str | Path) -> bytes:
    """The bytes of the file at `path`, or of the component of that name that comes with this program. Raises
    InputError."""
    try:
        return component_file(path).read_bytes()
    except OSError as error:
        meant = isinstance(error, FileNotFoundError) and "/" not in str(path) and Path(path).suffix != ".wasm"
        hint = "what is installed is named with its type, like c:local.openai: see host list" if meant else None
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}", field="source", hint=hint) from None


def admit(wasm: bytes, pinned: Digest | None = None) -> Artifact:
    """The artifact in `wasm`, after the first two steps of `host.trust.verification`. Raises ArtifactError.

    1. Its digest is the pinned one, if `pinned` is given.
    2. It is a component binary by its preamble: no core module, no text. Its sections add up, and the manifest in it,
       if there is one, is well formed."""
    digest = Digest.of(wasm)
    if pinned is not None and digest != pinned:
        raise VerificationFailed(
            f"verification step 1 (these are the bytes that were asked for): the digest is {digest}, not {pinned}",
            step=1,
            hint="register or pull it again",
        )
    check_component(wasm)
    from host.component.manifest import Manifest  # noqa: PLC0415 - imported by others while a file is read and hashed

    return Artifact(wasm, digest, Manifest.embedded(wasm), _SEAL)
