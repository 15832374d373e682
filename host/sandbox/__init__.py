"""The sandbox: the only package that imports wasmtime.

`Sandbox` (one per host) has the compiled cache, and the lanes with their engines and the epoch ticker. `Sandbox.load`
turns the bytes of a component into `Loaded`, checked against the contract; `Loaded.link` returns `Instances`, which run
it. The package may import `run` and what lies below it. A new host function needs nothing here: its types go into
`core/wit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from wasmtime import WasmtimeError

from host.component.wasm import read_outline
from host.core.names import Digest
from host.core.wit import POLL
from host.errors import CompileError
from host.sandbox import compiler, engine
from host.sandbox.cache import Compiled, CompiledCache, cache_name, seal
from host.sandbox.compiler import CompileLimits, compile_component
from host.sandbox.instance import HostFunctions, Instances
from host.sandbox.lanes import Lanes
from host.sandbox.typecheck import check_contract, missing_imports
from host.sandbox.wasi import own_functions

__all__ = ["CompileLimits", "HostFunctions", "Instances", "Loaded", "Sandbox"]


class Sandbox:
    """`pooling=False` uses wasmtime's on-demand allocator; None uses the pool if its address space can be had."""

    def __init__(
        self,
        cache_dir: Path,
        state_dir: Path,
        *,
        compile_limits: CompileLimits | None = None,
        pooling: bool | None = None,
        cache_key: Callable[[], bytes | None] | None = None,
    ) -> None:
        """`cache_key` returns the key that authenticates compiled code, None for one in a file of `state_dir`."""
        self.pooling = engine.pool_fits() if pooling is None else pooling
        self.lanes = Lanes(pooling=self.pooling)
        self._cache = CompiledCache(cache_dir, state_dir, cache_key)
        self._fingerprint = engine.fingerprint(pooling=self.pooling)
        self._compile_limits = compile_limits or CompileLimits.configured()

    def load(self, wasm: bytes, digest: Digest, *, wasi: Iterable[str] = ()) -> Loaded:
        """The component in `wasm`, whose digest is `digest`, compiled (or found compiled) and within the contract.
        Raises ArtifactError."""
        if missing := missing_imports(read_outline(wasm).imports, wasi=wasi):
            raise missing
        name = cache_name(digest, self._fingerprint)
        compiled = self._cache.load(name, self.lanes.narrow)
        if compiled is None:
            with self._cache.locked(name):
                compiled = self._cache.load(name, self.lanes.narrow) or self._compile(wasm, name, wasi)
        return Loaded(self, compiled, check_contract(compiled.component, self.lanes.narrow, wasi=wasi))

    def protect(self, state_dir: Path, key: bytes) -> bool:
        """See `CompiledCache.protect`."""
        return self._cache.protect(state_dir, key)

    def _compile(self, wasm: bytes, name: str, wasi: Iterable[str]) -> Compiled:
        with compiler.memory_file("compiled") as held:
            compile_component(wasm, held, pooling=self.pooling, limits=self._compile_limits, wasi=wasi)
            seal(held)
            self._cache.store(name, held)
            try:
                return Compiled(self.lanes.narrow, held)
            except WasmtimeError:
                raise CompileError("the compiled component does not fit this engine") from None

    def close(self) -> None:
        self.lanes.close()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A component within the contract. `imports` are the interfaces that it imports."""

    sandbox: Sandbox
    compiled: Compiled
    imports: tuple[str, ...]

    def link(self, functions: HostFunctions, *, shared_by_key: bool = False) -> Instances:
        """`functions` has every interface of `imports` but WASI's. With `shared_by_key` the runs of one API key may
        use one sandbox, one after the other."""
        wasi = any(name.startswith("wasi:") for name in self.imports)
        waits = any(name.partition("@")[0] == POLL for name in self.imports)
        functions = {**functions, **own_functions(self.imports)}
        return Instances(
            self.sandbox.lanes,
            self.compiled,
            functions,
            wasi=wasi,
            waits=waits,
            pooled=self.sandbox.pooling,
            shared_by_key=shared_by_key,
        )
