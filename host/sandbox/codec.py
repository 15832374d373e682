"""Values across the boundary: strings, booleans, and the one result type, straight between Python and wasmtime's C API.

The library's own conversion builds type objects for every call; the contract's types are known and checked when a
component is loaded, so here each host call costs a copy in and a copy out.
"""

from __future__ import annotations

import ctypes
from ctypes import byref
from typing import Any

from wasmtime import _ffi as ffi

from host.core.wit import Err, HostValue, Ok

NO_FINALIZER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)()  # for callbacks whose data needs none

_STRING = ffi.WASMTIME_COMPONENT_STRING.value
_BOOL = ffi.WASMTIME_COMPONENT_BOOL.value
_RESULT = ffi.WASMTIME_COMPONENT_RESULT.value


class NotAString(Exception):
    """The value that crossed was of another type than the contract's. Unreachable for a checked component."""


def take_string(value: Any, max_bytes: int) -> str | None:
    """The string in `value`, whose memory is given back; None when it is over `max_bytes` bytes of UTF-8."""
    if value.kind != _STRING:
        raise NotAString
    held = value.of.string
    try:
        if held.size > max_bytes:
            return None
        return ctypes.string_at(held.data, held.size).decode("utf-8", "replace") if held.size else ""
    finally:
        ffi.wasm_byte_vec_delete(byref(held))


def put_string(value: Any, text: str) -> None:
    """Make `value` the string `text`. What UTF-8 cannot hold (a lone surrogate) becomes `?`: never an exception."""
    encoded = text.encode("utf-8", "replace")
    value.kind = _STRING
    ffi.wasm_byte_vec_new(byref(value.of.string), len(encoded), encoded_pointer(encoded))


def encoded_pointer(encoded: bytes) -> Any:
    return ctypes.cast(ctypes.c_char_p(encoded), ctypes.POINTER(ctypes.c_ubyte))


def put(value: Any, given: HostValue) -> None:
    """Make `value` what a host function returned."""
    match given:
        case bool():
            value.kind = _BOOL
            value.of.boolean = given
        case Ok(text) | Err(text):
            inner = ffi.wasmtime_component_val_t()
            put_string(inner, text)
            value.kind = _RESULT
            value.of.result.is_ok = isinstance(given, Ok)
            value.of.result.val = ffi.wasmtime_component_val_new(byref(inner))
        case str():
            put_string(value, given)
        case None:
            pass
