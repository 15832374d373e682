"""From a file or bytes to a component that is ready to be linked: admitted, compiled or found compiled, checked."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from host import environment
from host.errors import InputError
from host.names import Digest
from host.sandbox import Loaded, Sandbox
from host.trust.artifact import Artifact, admit


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
        """`wasi` names interfaces of WASI that this one may import beyond the harmless ones. Raises ArtifactError,
        CacheError."""
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


class Ahead:
    """Loads the file at `path` on a thread of its own, from now: reading, hashing and mapping leave the interpreter
    free for whatever the caller does meanwhile."""

    def __init__(self, loader: Loader, path: str) -> None:
        self._outcome: Artifact | BaseException
        self._thread = threading.Thread(target=self._load, args=(loader, path), name="host-ahead")
        self._thread.start()

    def artifact(self) -> Artifact:
        """Waits for it. Raises what loading raised."""
        self._thread.join()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def _load(self, loader: Loader, path: str) -> None:
        try:
            artifact = admit(read_component(path))
            loader.load(artifact)
            self._outcome = artifact
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits
            self._outcome = error


def read_component(path: str | Path) -> bytes:
    """The bytes of the file at `path`. Raises InputError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}", field="source") from None
