"""An empty WASI: no files, no sockets, no environment, no arguments, no input. Output is kept, up to a cap.

Only for components that import `wasi:*`, as Rust builds do; components of `host build` do not.
"""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

from wasmtime import WasiConfig
from wasmtime import _ffi as ffi

from host.run import Run

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
