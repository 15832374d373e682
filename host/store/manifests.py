"""The manifests of stored components. The database has their text, and the bytes have the schemas of their operations.

A manifest of hundreds of operations is parsed once for a process, however often the state is read, and a schema is read
when it is asked for: from the bytes, which are first compared with their digest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

from host.component.manifest import Manifest, embedded_schemas
from host.core.names import Digest
from host.errors import StateError
from host.store.blobs import Blobs

ReadsManifest: TypeAlias = Callable[[Digest, str], Manifest | None]


def without_schemas(_: Digest, text: str) -> Manifest | None:
    """The manifest in `text`, None for "". The schemas that are apart are not read. Raises ManifestError."""
    return Manifest.parse(text) if text else None


class Manifests:
    """One per process, thread-safe."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._known: dict[tuple[Digest, str], Manifest] = {}

    def read(self, digest: Digest, text: str) -> Manifest | None:
        """The manifest in `text`, None for "", of the stored bytes with this digest. Raises ManifestError."""
        if not text:
            return None
        if (found := self._known.get((digest, text))) is None:
            found = Manifest.parse(text, lambda: self._schemas(digest))
            self._known[digest, text] = found
        return found

    def keep(self, digests: Collection[Digest]) -> None:
        """Forget the manifests of all other bytes."""
        for key in [one for one in list(self._known) if one[0] not in digests]:
            self._known.pop(key, None)

    def _schemas(self, digest: Digest) -> bytes:
        """Raises StateError for bytes that are gone, or are others."""
        wasm = self._blobs.get(digest)
        if Digest.of(wasm) != digest:
            raise StateError(f"the bytes of {digest} were changed", hint="register or pull it again")
        return embedded_schemas(wasm)
