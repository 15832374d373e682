"""A component loaded ahead of its host, on a thread of its own: for a program whose whole life is one run."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from host.trust.artifact import Artifact, admit, read_component

if TYPE_CHECKING:
    from host.loader import Loader


class Ahead:
    """Begins to load the file at `path` at once. Reading, hashing and mapping it leave the interpreter to whatever
    the caller imports meanwhile: `host.loader` first, which this thread waits for, then the rest."""

    def __init__(self, path: str, *, wasi: Iterable[str] = ()) -> None:
        self._loaded: tuple[Artifact, Loader]
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._load, args=(path, wasi), name="host-ahead", daemon=True)
        self._thread.start()

    def loaded(self) -> tuple[Artifact, Loader]:
        """Waits for it. The loader has the component, and is for the host to be made with. Raises what loading
        raised."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._loaded

    def _load(self, path: str, wasi: Iterable[str]) -> None:
        try:
            artifact = admit(read_component(path))
            from host.loader import Loader  # noqa: PLC0415 - takes as long as reading and hashing does

            loader = Loader()
            loader.load(artifact, wasi=wasi)
            self._loaded = artifact, loader
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits
            self._failure = error
