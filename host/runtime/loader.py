"""Loads an artifact: compiles it, or finds it compiled, and checks its imports and exports."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host.core import environment, forks
from host.core.names import Digest
from host.sandbox import CompileLimits, Loaded, Sandbox
from host.trust.artifact import Artifact

if TYPE_CHECKING:
    from host.store.vault.master import MasterKey

_PURPOSE: Final = "compiled cache"


class Loader:
    """One per host, thread-safe. A component is loaded once, however many catalysts are made of it."""

    def __init__(
        self,
        cache_dir: str | Path | None = None,
        state_dir: str | Path | None = None,
        *,
        compile_limits: CompileLimits | None = None,
    ) -> None:
        """`compile_limits` default to those in the environment. Raises InputError for one that cannot be read."""
        state = Path(state_dir) if state_dir else environment.state_dir()
        self.sandbox = Sandbox(
            Path(cache_dir) if cache_dir else environment.cache_dir(),
            state,
            compile_limits=compile_limits,
            cache_key=lambda: _nearby_key(state),
        )
        self._loaded: dict[tuple[Digest, frozenset[str]], Loaded] = {}
        self._lock = threading.Lock()
        self._generation = forks.generation

    def load(self, artifact: Artifact, *, wasi: Iterable[str] = ()) -> Loaded:
        """The component of `artifact`, ready to be linked. `wasi` names interfaces of WASI that it may import beyond
        the harmless ones. Raises ArtifactError, CacheError."""
        if self._generation != forks.generation:
            raise forks.made_before()
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

    def protect(self, state_dir: Path, master: MasterKey) -> None:
        """From here on, trust compiled code by a key that is derived from `master`, if this loader has the state in
        `state_dir`."""
        if self.sandbox.protect(state_dir, master.derived(_PURPOSE)):
            with self._lock:
                self._loaded.clear()

    def close(self) -> None:
        """To be called once nothing runs any more. In a child of a fork it does nothing."""
        if self._generation == forks.generation:
            self.sandbox.close()


def _nearby_key(state_dir: Path) -> bytes | None:
    """The key for files, which need no database: of a master key in a keyring it knows nothing."""
    from host.store.vault import master  # noqa: PLC0415 - not where the key is known already

    found = master.nearby(state_dir)
    return None if found is None else found.derived(_PURPOSE)
