"""`wasi:io/poll` whose waits end with the run, for components that an operator lets import it.

wasmtime's own `block` and `poll` wait in native code, which no deadline and no cancellation interrupts. Here the host
waits in their place. It asks wasmtime whether a pollable is ready: a component of the host does, an instance of which
lies beside each guest, since only a component can call what is linked.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from ctypes import byref
from typing import Any, Final

from wasmtime import Engine, Store, wat2wasm
from wasmtime import _ffi as ffi
from wasmtime.component import Component, Linker

from host.errors import GuestTrap
from host.run import Run

BLOCK: Final = "[method]pollable.block"
POLL: Final = "poll"
LOOK_S: Final = 0.005  # how often a waiting run looks
_PATCHES: Final = 100  # of WASI 0.2: wasmtime has one of them
_RESOURCE = ffi.WASMTIME_COMPONENT_RESOURCE.value
_LIST = ffi.WASMTIME_COMPONENT_LIST.value
_U32 = ffi.WASMTIME_COMPONENT_U32.value

_ASKS = """
(component
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.ready" (func (param "self" (borrow $pollable)) (result bool)))))
  (alias export $poll "pollable" (type $type))
  (core func $ready (canon lower (func $poll "[method]pollable.ready")))
  (core func $drop (canon resource.drop $type))
  (core module $code
    (import "host" "ready" (func $ready (param i32) (result i32)))
    (import "host" "drop" (func $drop (param i32)))
    (func (export "ready") (param i32) (result i32)
      (call $ready (local.get 0))
      (call $drop (local.get 0))))
  (core instance $c (instantiate $code
    (with "host" (instance (export "ready" (func $ready)) (export "drop" (func $drop))))))
  (func (export "ready") (param "self" (borrow $type)) (result bool) (canon lift (core func $c "ready"))))
"""


class Asker:
    """The component that asks whether pollables are ready."""

    def __init__(self, engine: Engine) -> None:
        self._component = Component(engine, wat2wasm(_ASKS))
        self._ready = self._component.get_export_index("ready")

    def begin(self, store: Store, linker: Linker) -> Any:
        """Its function for the guest in `store`. Raises WasmtimeError where there is no room for an instance."""
        assert self._ready is not None
        function = linker.instantiate(store, self._component).get_func(store, self._ready)
        assert function is not None
        return function._func  # noqa: SLF001 - below the library's slow conversions


def linked_name(engine: Engine, callback: Any, finalizer: Any) -> str:
    """The name under which wasmtime links the interface, with its version: in its place alone can a function take the
    place of another, since the type of pollables is defined there."""
    linker = Linker(engine)
    linker.add_wasip2()
    for patch in range(_PATCHES):
        name = f"wasi:io/poll@0.2.{patch}"
        with linker.root() as root, root.add_instance(name) as instance:
            if error := add_function(instance, BLOCK, callback, finalizer):
                ffi.wasmtime_error_delete(error)  # it is defined
                return name
    raise AssertionError("this wasmtime links no wasi:io/poll")


def add_function(instance: Any, name: str, callback: Any, finalizer: Any) -> Any:
    """The library's error, if there is one, of adding a function to an instance of a linker."""
    encoded = name.encode()
    return ffi.wasmtime_component_linker_instance_add_func(
        instance.ptr(), ctypes.create_string_buffer(encoded), len(encoded), callback, None, finalizer
    )


def block(run: Run, ready: Any, context: Any, args: Any, results: Any) -> None:
    """Wait until the pollable in `args` is ready, or the run must end. Raises GuestTrap for what is no pollable."""
    del results
    _wait(run, ready, context, [args[0]])


def poll(run: Run, ready: Any, context: Any, args: Any, results: Any) -> None:
    """Wait until one of a list of pollables is ready, or the run must end; put the indexes of those that are. Raises
    GuestTrap for none, and for what is no pollable."""
    held = args[0].of.list
    if not held.size:
        raise GuestTrap("the guest waits for none of no pollables")
    found = _wait(run, ready, context, [held.data[at] for at in range(held.size)])
    values = (ffi.wasmtime_component_val_t * len(found))()
    for value, index in zip(values, found, strict=True):
        value.kind = _U32
        value.of.u32 = index
    results[0].kind = _LIST
    ffi.wasmtime_component_vallist_new(byref(results[0].of.list), len(found), values)


def _wait(run: Run, ready: Any, context: Any, pollables: Sequence[Any]) -> list[int]:
    try:
        while run.check() is None:
            found = []
            for index, pollable in enumerate(pollables):
                if run.check() is not None:
                    return []
                if _is_ready(run, ready, context, pollable):
                    found.append(index)
            if found:
                return found
            run.step_aside()
            time.sleep(max(0.0, min(LOOK_S, run.remaining())))
        return []
    finally:
        for pollable in pollables:  # the guest lent them for this call
            if error := ffi.wasmtime_component_resource_any_drop(context, pollable.of.resource):
                ffi.wasmtime_error_delete(error)


def _is_ready(run: Run, ready: Any, context: Any, pollable: Any) -> bool:
    arguments = (ffi.wasmtime_component_val_t * 1)()
    results = (ffi.wasmtime_component_val_t * 1)()
    arguments[0].kind = _RESOURCE
    arguments[0].of.resource = pollable.of.resource
    if error := ffi.wasmtime_component_func_call(byref(ready), context, arguments, 1, results, 1):
        ffi.wasmtime_error_delete(error)
        if run.check() is None:
            raise GuestTrap("the guest waits for what is no pollable")
        return False
    answer: bool = results[0].of.boolean
    return answer
