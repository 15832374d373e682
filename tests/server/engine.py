"""One engine for all hosts of a test process, and the same code loaded into it once, whatever its manifest says."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from host.runtime.loader import Loader
from host.sandbox import CompileLimits, Loaded, Sandbox
from host.trust.artifact import Artifact
from tests.conftest import CACHE, without_manifest


class _Borrowed(Sandbox):
    """The lender's engine and caches. Closing it closes nothing."""

    def __init__(self, lender: Sandbox) -> None:
        vars(self).update(vars(lender))

    def close(self) -> None:
        pass


class _Lender:
    def __init__(self) -> None:
        self.loader = Loader(CACHE / "host", CACHE / "state")
        self._by_code: dict[object, Loaded] = {}
        self._by_artifact: dict[object, Loaded] = {}

    def load(self, artifact: Artifact, wasi: frozenset[str]) -> Loaded:
        found = self._by_artifact.get((artifact.digest, wasi))
        if found is None:
            code = hashlib.sha256(without_manifest(artifact.wasm)).digest(), wasi
            found = self._by_code.get(code) or self.loader.load(artifact, wasi=wasi)
            if artifact.manifest is not None:
                artifact.manifest.check_imports(found.imports)
            self._by_code[code] = self._by_artifact[artifact.digest, wasi] = found
        return found


_lender = functools.cache(_Lender)


class SharedLoader(Loader):
    """Stands where a host has its own. It takes the directories as that does, and uses those of the tests."""

    def __init__(
        self,
        cache_dir: str | Path | None = None,
        state_dir: str | Path | None = None,
        *,
        compile_limits: CompileLimits | None = None,
    ) -> None:
        del cache_dir, state_dir, compile_limits
        self.sandbox = _Borrowed(_lender().loader.sandbox)

    def close(self) -> None:
        self.sandbox.close()

    def load(self, artifact: Artifact, *, wasi: Iterable[str] = ()) -> Loaded:
        return replace(_lender().load(artifact, frozenset(wasi)), sandbox=self.sandbox)
