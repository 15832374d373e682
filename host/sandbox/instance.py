"""One component, ready to run: linked once, instantiated afresh for every run.

The only file that calls into wasmtime while a guest runs. A guest reaches host functions through callbacks, which find
their run by thread: a run stays on one thread from its start to its end, and a store never leaves it.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import byref
from typing import Any, TypeAlias

from wasmtime import Engine, Store, WasiConfig, WasmtimeError
from wasmtime import _ffi as ffi
from wasmtime.component import Component, Linker

from host.core.waiting import start
from host.core.wit import RUN, Cut, Err, HostValue, Ok, Room, provided
from host.errors import StateError
from host.run import Run, RunStopped, Stop
from host.sandbox import failure, poll
from host.sandbox.engine import MAX_CORE_INSTANCES, MAX_TABLE_ELEMENTS, MAX_TABLES, has_room
from host.sandbox.wasi import NO_FINALIZER, StandardStreams

HostFunction: TypeAlias = Callable[..., HostValue]  # (call, *strings) -> value
HostFunctions: TypeAlias = Mapping[str, Mapping[str, HostFunction]]  # interface -> function -> implementation

TICK_S = 0.01
_MAX_CUT = 1 << 20  # of a text that is too long, as much is shown to its function
_LONGEST_END_S = 5.0  # of a run that is stuck outside its guest: its thread is left to the end of the process
_STRING = ffi.WASMTIME_COMPONENT_STRING.value
_BOOL = ffi.WASMTIME_COMPONENT_BOOL.value
_U32 = ffi.WASMTIME_COMPONENT_U32.value
_U64 = ffi.WASMTIME_COMPONENT_U64.value
_U8 = ffi.WASMTIME_COMPONENT_U8.value
_LIST = ffi.WASMTIME_COMPONENT_LIST.value
_RESULT = ffi.WASMTIME_COMPONENT_RESULT.value

_decode_utf8 = ctypes.pythonapi.PyUnicode_DecodeUTF8
_decode_utf8.restype = ctypes.py_object
_decode_utf8.argtypes = (ctypes.POINTER(ctypes.c_ubyte), ctypes.c_ssize_t, ctypes.c_char_p)

_current = threading.local()
_ready: dict[str, Any] = {}  # run -> the function that says whether a pollable is ready, of those that wait
_OnEpoch = ctypes.CFUNCTYPE(  # wasmtime_store_epoch_deadline_callback's
    ctypes.c_size_t,
    ctypes.POINTER(ffi.wasmtime_context_t),
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_uint64),
    ctypes.POINTER(ctypes.c_uint8),
)


class Ticker:
    """Advances the engine's epoch while anything runs: at each epoch a guest is asked whether it may go on. One daemon
    thread, which sleeps while nothing runs.

    A Python thread starves when others hold the interpreter, so ticks are no measure of time: a guest that is asked
    looks at the clock.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._wake = threading.Condition()
        self._running = 0
        self._asleep = False
        self._closed = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Inside, epochs pass. Raises StateError once it is closed: a guest that is never asked might never end."""
        with self._wake:
            if self._closed:
                raise StateError("the host is closed")
            if self._thread is None:
                self._thread = start(self._tick, name="host-epoch")
            elif self._asleep:
                self._wake.notify()
            self._running += 1
        try:
            yield
        finally:
            with self._wake:
                self._running -= 1
                if self._closed and self._running == 0:
                    self._wake.notify()

    def close(self) -> None:
        """Stop once nothing runs: until then guests have to be asked whether they may go on."""
        with self._wake:
            self._closed = True
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join(_LONGEST_END_S)

    def _tick(self) -> None:
        while True:
            with self._wake:
                while self._running == 0:
                    if self._closed:
                        return
                    self._asleep = True
                    self._wake.wait()
                    self._asleep = False
                self._wake.wait(TICK_S)
            self._engine.increment_epoch()


class Instances:
    """A linked component. It runs any number of times, on any number of threads at once."""

    def __init__(
        self,
        engine: Engine,
        component: Component,
        ticker: Ticker,
        functions: HostFunctions,
        *,
        wasi: bool,
        waits: bool = False,
        pooled: bool = True,
    ) -> None:
        """`wasi`: the component imports some of WASI; `waits`: also `wasi:io/poll`. Without `pooled` each run looks for
        the address space that it may need."""
        self._engine = engine
        self._component = component
        self._ticker = ticker
        self._wasi = wasi
        self._pooled = pooled
        self._linked = False  # whether an instance was ever made
        self._linker = Linker(engine)
        if wasi:
            self._linker.add_wasip2()
            self._linker.allow_shadowing = True  # what is of WASI in `functions` takes the place of wasmtime's
        self._callbacks = [
            _define(self._linker, interface, members) for interface, members in functions.items()
        ]  # kept: the linker only holds their addresses
        self._asker = poll.Asker(engine) if waits else None
        if waits:
            _define_waits(self._linker, poll.linked_name(engine, _block, NO_FINALIZER))
        interface_index = component.get_export_index(RUN)
        self._run_index = component.get_export_index("run", interface_index)

    def run(self, text: str, run: Run) -> str:
        """Run the guest on `text` in a fresh instance. Returns its output, redacted. Raises SandboxError, or the
        exception of a host function. Nothing of the instance is left afterwards."""
        outer = getattr(_current, "call", None)  # of a run whose host function started this one
        _current.call = run
        began = time.monotonic()
        run.begin_cpu_time()
        streams = StandardStreams(run) if self._wasi else None
        store = Store(self._engine)
        try:
            with self._ticker.ticking():
                return self._run(store, text, run, streams)
        except failure.Trapped as trapped:
            raise failure.classify(trapped, run, streams) from None
        finally:
            store.close()
            _ready.pop(run.id, None)
            _current.call = outer
            if streams is not None:
                streams.close()
            run.end_cpu_time()
            run.meters.sandbox_time_s = time.monotonic() - began - run.meters.upstream_time_s

    def _run(self, store: Store, text: str, run: Run, streams: StandardStreams | None) -> str:
        if not self._pooled and not has_room():
            raise failure.no_room()
        limits = run.limits
        store.set_limits(
            memory_size=limits.max_memory_bytes,
            table_elements=MAX_TABLE_ELEMENTS,
            instances=MAX_CORE_INSTANCES,
            tables=MAX_TABLES * 4,
            memories=1,
        )
        if streams is not None:
            config = WasiConfig()
            streams.attach(config)
            store.set_wasi(config)
        ffi.wasmtime_store_epoch_deadline_callback(store.ptr(), _on_epoch, None, NO_FINALIZER)
        store.set_epoch_deadline(1)
        try:
            if self._asker is not None:
                _ready[run.id] = self._asker.begin(store, self._linker)
            instance = self._linker.instantiate(store, self._component)
        except WasmtimeError as error:
            used_up = self._linked or not has_room()  # asked first: without a pool, other runs make room as they end
            links = self._links()
            raise failure.Trapped(error, links=links, no_room=used_up and not (links and self._pooled)) from None
        self._linked = True
        assert self._run_index is not None
        function = instance.get_func(store, self._run_index)
        assert function is not None
        return _call_run(function._func, store._context(), text, run)  # noqa: SLF001 - below the library's slow conversions

    def _links(self) -> bool:
        """Whether there is an instance where nothing is limited but its time, which is none: a guest that would run
        at its start is stopped there, and linked. Asked after an instantiation failed."""
        started = False

        @_OnEpoch  # type: ignore[untyped-decorator]
        def stop(_context: Any, _data: Any, _delta: Any, _kind: Any) -> int:
            nonlocal started
            started = True
            return _trap()

        store = Store(self._engine)
        try:
            if self._wasi:
                store.set_wasi(WasiConfig())
            ffi.wasmtime_store_epoch_deadline_callback(store.ptr(), stop, None, NO_FINALIZER)
            store.set_epoch_deadline(0)
            self._linker.instantiate(store, self._component)
        except WasmtimeError:
            return started
        finally:
            store.close()
        return True


def _call_run(function: Any, context: Any, text: str, run: Run) -> str:
    arguments = (ffi.wasmtime_component_val_t * 1)()
    results = (ffi.wasmtime_component_val_t * 1)()
    _put_string(arguments[0], text)
    try:
        error = ffi.wasmtime_component_func_call(byref(function), context, arguments, 1, results, 1)
    finally:
        ffi.wasmtime_component_val_delete(byref(arguments[0]))
    if error:
        raise failure.Trapped(WasmtimeError._from_ptr(error))  # noqa: SLF001 - the library has no other way in
    answer = _take_string(results[0], run.limits.max_output_bytes)
    if isinstance(answer, Cut):
        run.stop(Stop.OUTPUT)
        raise failure.Trapped(None)
    if run.check() is Stop.CANCELLED:
        raise failure.Trapped(None)
    try:
        return run.redacted(answer)
    except RunStopped:
        raise failure.Trapped(None) from None


def _define(linker: Linker, interface: str, members: Mapping[str, HostFunction]) -> list[Any]:
    callbacks = []
    contract = provided(interface) or {}
    with linker.root() as root, root.add_instance(interface) as instance:
        for name, function in members.items():
            callback = _callback(function, contract[name].rooms)
            if error := poll.add_function(instance, name, callback, NO_FINALIZER):
                raise WasmtimeError._from_ptr(error)  # noqa: SLF001 - the library has no other way in
            callbacks.append(callback)
    return callbacks


def _callback(function: HostFunction, rooms: Sequence[Room]) -> Any:
    """The C callback for one host function, whose arguments have these rooms."""

    def called(run: Run, _context: Any, args: Any, results: Any) -> None:
        limits, given = run.limits, []
        for i, (fixed, limit, tenths) in enumerate(rooms):
            given.append(_take(args[i], fixed + getattr(limits, limit) * tenths // 10))
        value = function(run, *given)
        if value is not None:
            _put(results[0], value)

    return _guarded(called)


def _wait_callback(function: Callable[..., None]) -> Any:
    """The C callback for a function of `poll`."""

    def called(run: Run, context: Any, args: Any, results: Any) -> None:
        function(run, _ready[run.id], context, args, results)

    return _guarded(called)


def _guarded(called: Callable[[Run, Any, Any, Any], None]) -> Any:
    """The C callback that counts a guest's call, and hands the run, the context, the arguments and the results to
    `called` while the run may go on. It catches every exception: the run is stopped, the exception kept for the run's
    caller, and the guest trapped."""

    @ffi.wasmtime_component_func_callback_t  # type: ignore[untyped-decorator]
    def enter(_data: Any, context: Any, _type: Any, args: Any, _nargs: int, results: Any, _nresults: int) -> int:
        run: Run = _current.call
        try:
            run.meters.host_calls += 1
            if run.meters.host_calls > run.limits.max_host_calls:
                run.stop(Stop.HOST_CALLS)
            elif run.check() is None:
                called(run, context, args, results)
        except BaseException as error:  # noqa: BLE001 - an exception must not enter wasmtime: it would be lost, or another run's
            run.fail(error)
        return 0 if run.check() is None else _trap()

    return enter


_block, _poll = _wait_callback(poll.block), _wait_callback(poll.poll)


def _define_waits(linker: Linker, interface: str) -> None:
    with linker.root() as root, root.add_instance(interface) as instance:
        for name, callback in ((poll.BLOCK, _block), (poll.POLL, _poll)):
            if error := poll.add_function(instance, name, callback, NO_FINALIZER):
                raise WasmtimeError._from_ptr(error)  # noqa: SLF001 - the library has no other way in


@_OnEpoch  # type: ignore[untyped-decorator]
def _on_epoch(_context: Any, _data: Any, delta: Any, kind: Any) -> int:
    """Called at each epoch: traps the guest on this thread if its run must end."""
    run: Run = _current.call
    try:
        stopped = run.check()
    except BaseException as error:  # noqa: BLE001 - a signal handler may raise here; it must not enter wasmtime
        run.fail(error)
        stopped = run.stopped
    if stopped is not None:
        return _trap()
    delta[0] = 1
    kind[0] = 0  # WASMTIME_UPDATE_DEADLINE_CONTINUE
    return 0


def _trap() -> int:
    return ctypes.cast(ffi.wasmtime_error_new(b"stopped by the host"), ctypes.c_void_p).value or 0


# Values across the boundary: strings, booleans, numbers, bytes and the one result type. The library's own conversion
# builds type objects for every call; the contract's types are known and checked when a component is loaded, so a host
# call costs a copy in and a copy out.


class _NotAString(Exception):
    """The value that crossed was of another type than the contract's. Unreachable for a checked component."""


def _take(value: Any, room: int) -> str | int:
    """The argument in `value`: a string, see `_take_string`, or a number."""
    if value.kind in (_U32, _U64):
        number: int = value.of.u32 if value.kind == _U32 else value.of.u64
        return number
    return _take_string(value, room)


def _take_string(value: Any, room: int) -> str:
    """The string in `value`, whose memory is given back; over `room` bytes of UTF-8 its beginning, as a Cut. Whatever
    encoding the guest's strings have, wasmtime hands them over as UTF-8."""
    if value.kind != _STRING:
        raise _NotAString
    held = value.of.string
    size = held.size
    try:  # decoded where it lies, so that a large one is copied once
        if size > room:
            return Cut.of(_decode_utf8(held.data, min(room, _MAX_CUT), b"replace"), size)
        text: str = _decode_utf8(held.data, size, b"replace") if size else ""
        return text
    finally:
        ffi.wasm_byte_vec_delete(byref(held))


def _put_string(value: Any, text: str) -> None:
    """Make `value` the string `text`. What UTF-8 cannot hold (a lone surrogate) becomes `?`: never an exception."""
    encoded = text.encode("utf-8", "replace")
    value.kind = _STRING
    ffi.wasm_byte_vec_new(byref(value.of.string), len(encoded), _encoded_pointer(encoded))


def _byte(number: int) -> bytes:
    value = ffi.wasmtime_component_val_t()
    value.kind = _U8
    value.of.u8 = number
    return bytes(value)


_BYTES = tuple(map(_byte, range(256)))  # as values of the library: each takes some 40 bytes


def _put_bytes(held: Any, data: bytes) -> None:
    values = b"".join([_BYTES[number] for number in data])
    pointer = ctypes.cast(ctypes.c_char_p(values), ctypes.POINTER(ffi.wasmtime_component_val_t))
    ffi.wasmtime_component_vallist_new(byref(held), len(data), pointer)


def _encoded_pointer(encoded: bytes) -> Any:
    return ctypes.cast(ctypes.c_char_p(encoded), ctypes.POINTER(ctypes.c_ubyte))


def _put(value: Any, given: HostValue) -> None:
    """Make `value` the result `given` of a host function."""
    match given:
        case bool():
            value.kind = _BOOL
            value.of.boolean = given
        case Ok(text) | Err(text):
            inner = ffi.wasmtime_component_val_t()
            _put_string(inner, text)
            value.kind = _RESULT
            value.of.result.is_ok = isinstance(given, Ok)
            value.of.result.val = ffi.wasmtime_component_val_new(byref(inner))
        case str():
            _put_string(value, given)
        case bytes():
            value.kind = _LIST
            _put_bytes(value.of.list, given)
        case int():
            value.kind = _U64
            value.of.u64 = given
        case None:
            pass
