"""wasmtime's engines, as they are configured: see `lanes`. Features that no catalyst needs are turned off."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import threading
from pathlib import Path

from wasmtime import Config, Engine
from wasmtime import _ffi as ffi

from host.errors import Busy

GIB = 1 << 30

NARROW_SANDBOXES = 8  # slots of the first pool: a process may have many hosts
WIDE_SANDBOXES = (2_000, 1_000, 250)  # and of the second one, that is made when it is needed
UNPOOLED_SANDBOXES = 64  # without a pool
MAX_MEMORY_BYTES = GIB  # of one slot; Limits.max_memory_bytes may not exceed it
MAX_CORE_INSTANCES = 100  # of one component; a componentize-py build has about 50
MAX_TABLES = 8
MAX_TABLE_ELEMENTS = 20_000  # CPython's has 5,676
MEMORY_RESERVATION = 4 * GIB  # with the guard, lets compiled code leave out bounds checks
MEMORY_GUARD = 32 << 20
BESIDE_SANDBOX = 448 << 20  # of address space: 100,000 handles of streams, or one argument of 128 MiB and its copy
MAX_WASM_STACK = 1 << 20  # well below the 8 MiB of the threads that run guests

_OFF = (
    "wasm_threads", "wasm_memory64", "wasm_multi_memory", "wasm_gc", "wasm_function_references", "wasm_exceptions",
    "wasm_stack_switching", "wasm_custom_page_sizes", "wasm_wide_arithmetic", "shared_memory",
)  # fmt: skip


def engine_config(slots: int) -> Config:
    """With a pool of so many `slots`; without one for 0."""
    config = Config()
    config.epoch_interruption = True
    config.max_wasm_stack = MAX_WASM_STACK
    config.memory_reservation = MEMORY_RESERVATION
    config.memory_guard_size = MEMORY_GUARD
    config.memory_init_cow = True
    for feature in _OFF:
        setattr(config, feature, False)
    # The component model's async side, in the library's C bindings alone: unused here, and every call pays for it.
    ffi.wasmtime_config_concurrency_support_set(config.ptr(), False)
    ffi.wasmtime_config_wasm_component_model_async_set(config.ptr(), False)
    if slots:
        _use_pool(config, slots)
    return config


_TABLES = MAX_TABLES * MAX_TABLE_ELEMENTS * 16  # bytes of a slot
_SPARE = 8  # slots more than runs may have: whether a component links at all is tried beside its run


def _use_pool(config: Config, slots: int) -> None:
    """The pooling allocator: in the library's C bindings, not in its Python `Config`. A slot gives its pages back: to
    keep them would be to copy all of an image at the end of each run, where few of its pages were written."""
    slots += _SPARE
    pool = ffi.wasmtime_pooling_allocation_config_new()
    for name, value in {
        "total_component_instances": 2 * slots,  # `poll` has one beside each guest
        "total_core_instances": slots * MAX_CORE_INSTANCES,
        "total_memories": slots,
        "total_tables": slots * MAX_TABLES,
        "max_core_instances_per_component": MAX_CORE_INSTANCES,
        "max_memories_per_component": 1,
        "max_tables_per_component": MAX_TABLES,
        "max_memories_per_module": 1,
        "max_tables_per_module": MAX_TABLES,
        "table_elements": MAX_TABLE_ELEMENTS,
        "max_memory_size": MAX_MEMORY_BYTES,
        "max_unused_warm_slots": slots,
    }.items():
        getattr(ffi, f"wasmtime_pooling_allocation_config_{name}_set")(pool, value)
    ffi.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
    ffi.wasmtime_pooling_allocation_config_delete(pool)


def pool_fits(slots: int = NARROW_SANDBOXES) -> bool:
    """Whether the address space that a pool reserves can be had: not under a small `ulimit -v`. The library would
    abort the process, so this is checked first."""
    return _reservable((slots + _SPARE) * (MEMORY_RESERVATION + MEMORY_GUARD + _TABLES) + GIB)


def wide_slots() -> int:
    """How many slots fit into a second pool beside the first one."""
    return next((slots for slots in WIDE_SANDBOXES if pool_fits(NARROW_SANDBOXES + slots)), 0)


def has_room() -> bool:
    """Whether the address space of one more sandbox can be had, where there is no pool, and of what the library may
    need for its guest besides: where it cannot have that, it aborts the process."""
    return _reservable(MEMORY_RESERVATION + 2 * MEMORY_GUARD + BESIDE_SANDBOX)


def _reservable(wanted: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    no_reserve = 0x4000  # MAP_NORESERVE, Linux
    address = libc.mmap(None, wanted, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve, -1, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        return False
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    libc.munmap(address, wanted)
    return True


_making = threading.Lock()


def _free_making() -> None:
    """In a child of a fork: the thread that held the lock is not there."""
    global _making  # noqa: PLW0603 - there is one address space
    _making = threading.Lock()


os.register_at_fork(after_in_child=_free_making)


def new_engine(slots: int) -> Engine:
    """See `engine_config`. Raises Busy where the address space of its pool cannot be had any more: the library would
    abort the process."""
    with _making:  # another thread would take what is seen to be free
        if slots and not pool_fits(slots):
            raise Busy("there is no address space for more sandboxes", hint="more of `ulimit -v`")
        return Engine(engine_config(slots))


def fingerprint(*, pooling: bool) -> str:
    """Names everything that compiled code depends on: the installed library and this file's settings. Part of the key
    under which compiled components are cached, so that a change of either never meets old code."""
    library = ffi.filename.stat()
    settings = (
        library.st_size, library.st_mtime_ns, pooling, MAX_WASM_STACK, MEMORY_RESERVATION, MEMORY_GUARD,
        MAX_MEMORY_BYTES, _OFF, _cpu(),
    )  # fmt: skip
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:16]


def _cpu() -> str:
    """The processor's features, as native code may use them: a cache moved to another machine does not fit."""
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as info:
            return next((line for line in info if line.startswith(("flags", "Features"))), "")
    except OSError:
        return ""
