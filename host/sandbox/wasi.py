"""An empty WASI: no files, no sockets, no environment, no arguments, no input. Output is kept, up to a cap. Random
numbers are the host's own.

Only for components that import `wasi:*`, as Rust builds do; components of `host build` do not.
"""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from wasmtime import WasiConfig
from wasmtime import _ffi as ffi

from host.core.wit import RANDOM_BYTES, RANDOM_U64, WASI_OWN, Signature
from host.errors import GuestTrap
from host.run import Run

MAX_RANDOM_BYTES: Final = 65_536
"""Of one call; as many as `crypto.getRandomValues` has (Web Cryptography, 10.1.1)."""
NO_FINALIZER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)()  # for callbacks whose data needs none

_open: dict[int, StandardStreams] = {}
_ids = itertools.count(1)


class StandardStreams:
    """The text that one run writes to stdout and stderr. wasmtime may call from a thread of its own, so a run is found
    by id."""

    def __init__(self, call: Run) -> None:
        self._room = call.limits.max_log_bytes
        self._text = bytearray()
        self._id = next(_ids)
        _open[self._id] = self

    def attach(self, config: WasiConfig) -> None:
        config.argv = []
        config.env = []
        for set_custom in (ffi.wasi_config_set_stdout_custom, ffi.wasi_config_set_stderr_custom):
            set_custom(config.ptr(), _write, self._id, NO_FINALIZER)

    def write(self, data: bytes) -> None:
        self._text += data[: max(0, self._room - len(self._text))]

    def clear(self) -> None:
        """For the next run."""
        self._text.clear()

    def text(self) -> str:
        return self._text.decode("utf-8", "replace")

    def close(self) -> None:
        _open.pop(self._id, None)


@ctypes.CFUNCTYPE(  # type: ignore[untyped-decorator]
    ctypes.c_ssize_t, ctypes.c_void_p, ctypes.POINTER(ctypes.c_ubyte), ctypes.c_size_t
)
def _write(stream: Any, data: Any, size: int) -> int:
    """Takes all output and keeps the part that fits: a guest cannot block or fail on it."""
    found = _open.get(stream or 0)
    if found is not None and size:
        found.write(ctypes.string_at(data, min(size, 1 << 20)))
    return size


def own_functions(imports: Iterable[str]) -> dict[str, Mapping[str, Callable[..., int | bytes]]]:
    """Interface -> function -> implementation, for those of `imports` that are in WASI_OWN."""
    return {
        name: {one: _IMPLEMENTATIONS[signature] for one, signature in functions.items()}
        for name in imports
        if (functions := WASI_OWN.get(name.partition("@")[0])) is not None
    }


def _random_bytes(run: Run, count: int) -> bytes:
    """`count` random bytes. Raises GuestTrap above MAX_RANDOM_BYTES: WASI has no way to give fewer, or an error."""
    del run
    if count > MAX_RANDOM_BYTES:
        raise GuestTrap(
            f"the guest asked for {count} random bytes at once", hint=f"one call has at most {MAX_RANDOM_BYTES}"
        )
    return os.urandom(count)


def _random_u64(run: Run) -> int:
    del run
    return int.from_bytes(os.urandom(8), "little")


_IMPLEMENTATIONS: Final[Mapping[Signature, Callable[..., int | bytes]]] = {
    RANDOM_BYTES: _random_bytes,
    RANDOM_U64: _random_u64,
}
