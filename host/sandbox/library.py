"""Calls of the library that are over at once.

ctypes gives up the interpreter's lock for each call, and a thread that waits for it takes it. A run would then wait for
its turn a dozen times more. So these calls keep the lock, and are of functions that neither wait nor call back. Where
they copy or free bytes, they are for `SMALL` ones.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from wasmtime import _bindings
from wasmtime import _ffi as ffi

SMALL: Final = 1 << 20  # bytes, copied in a tenth of a millisecond
_keeping: Final = ctypes.PyDLL(str(ffi.filename))


def _at_once(name: str) -> Any:
    function, described = getattr(_keeping, name), getattr(_bindings, f"_{name}")
    function.restype, function.argtypes = described.restype, described.argtypes
    return function


byte_vec_new: Final = _at_once("wasm_byte_vec_new")
byte_vec_delete: Final = _at_once("wasm_byte_vec_delete")
val_new: Final = _at_once("wasmtime_component_val_new")
val_delete: Final = _at_once("wasmtime_component_val_delete")
epoch_deadline_callback: Final = _at_once("wasmtime_store_epoch_deadline_callback")
set_epoch_deadline: Final = _at_once("wasmtime_context_set_epoch_deadline")
limiter: Final = _at_once("wasmtime_store_limiter")
