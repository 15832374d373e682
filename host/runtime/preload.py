"""Loads a component before there is a host, on a thread of its own: for a program that makes one run and ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

from host.core.waiting import start
from host.trust.artifact import Artifact, admit, read_component

if TYPE_CHECKING:
    from host.runtime.loader import Loader

T = TypeVar("T")


class Preload(Generic[T]):
    """Calls `load` at once, on a thread. Reading, hashing and mapping a component leave the interpreter free, for the
    imports of the caller: `host.runtime.loader` first, which this thread waits for, then the rest."""

    def __init__(self, load: Callable[[], T]) -> None:
        self._loaded: T
        self._failure: BaseException | None = None
        self._thread = start(self._begin, load, name="host-ahead")

    def loaded(self) -> T:
        """The result of `load`, once it is there. Raises its exception."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._loaded

    def _begin(self, load: Callable[[], T]) -> None:
        try:
            self._loaded = load()
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits
            self._failure = error


def load_file(path: str, *, wasi: Iterable[str] = ()) -> tuple[Artifact, Loader]:
    """The component in the file at `path`, and a loader that has loaded it, for the new host. Raises InputError,
    ArtifactError, CacheError."""
    artifact = admit(read_component(path))
    from host.runtime.loader import Loader  # noqa: PLC0415 - takes as long as reading and hashing does

    loader = Loader()
    loader.load(artifact, wasi=wasi)
    return artifact, loader
