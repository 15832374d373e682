"""Loads an artifact: compiles it, or finds it compiled, and checks its imports and exports."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from host.core import environment
from host.core.names import Digest
from host.sandbox import Loaded, Sandbox
from host.trust.artifact import Artifact


class Loader:
    """One per host, thread-safe. A component is loaded once, however many catalysts are made of it."""

    def __init__(self, cache_dir: str | Path | None = None, state_dir: str | Path | None = None) -> None:
        self.sandbox = Sandbox(
            Path(cache_dir) if cache_dir else environment.cache_dir(),
            Path(state_dir) if state_dir else environment.state_dir(),
        )
        self._loaded: dict[tuple[Digest, frozenset[str]], Loaded] = {}
        self._lock = threading.Lock()

    def load(self, artifact: Artifact, *, wasi: Iterable[str] = ()) -> Loaded:
        """The component of `artifact`, ready to be linked. `wasi` names interfaces of WASI that it may import beyond
        the harmless ones. Raises ArtifactError, CacheError."""
        key = artifact.digest, frozenset(wasi)
        with self._lock:
            found = self._loaded.get(key)
        if found is None:
            found = self.sandbox.load(artifact.wasm, artifact.digest, wasi=key[1])
            if artifact.manifest is not None:
                artifact.manifest.check_imports(found.imports)
            with self._lock:
                self._loaded[key] = found
        return found

    def close(self) -> None:
        """To be called once nothing runs any more."""
        self.sandbox.close()
