"""One component, ready to run: linked once, instantiated afresh for every run, or for the runs of a key that share an
instance.

The only file that calls into wasmtime in a run. A guest reaches host functions through callbacks, which find
their run by thread: a run stays on one thread from its start to its end, and a store never leaves it.
"""

from __future__ import annotations

import ctypes
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from ctypes import byref
from typing import Any, TypeAlias

from wasmtime import Engine, Store, WasiConfig, WasmtimeError
from wasmtime import _ffi as ffi
from wasmtime.component import Component, Linker

from host.core.wit import RUN, Cut, Err, HostValue, Ok, Room, provided
from host.run import Run, RunStopped, Stop
from host.sandbox import failure, library, poll
from host.sandbox.cache import Compiled
from host.sandbox.engine import MAX_CORE_INSTANCES, MAX_TABLE_ELEMENTS, MAX_TABLES, has_room
from host.sandbox.lanes import Lanes, Taken, Whose
from host.sandbox.library import SMALL
from host.sandbox.wasi import NO_FINALIZER, StandardStreams

HostFunction: TypeAlias = Callable[..., HostValue]  # (call, *strings) -> value
HostFunctions: TypeAlias = Mapping[str, Mapping[str, HostFunction]]  # interface -> function -> implementation
Callbacks: TypeAlias = Mapping[str, Mapping[str, Any]]  # the same, as the library calls them

_MOST_RUNS = 1_000  # that share an instance: what a guest loses in each adds up
_MAX_CUT = 1 << 20  # of a text that is too long, as much is shown to its function
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


class Instances:
    """A linked component. It runs any number of times, on any number of threads at once."""

    def __init__(
        self,
        lanes: Lanes,
        compiled: Compiled,
        functions: HostFunctions,
        *,
        wasi: bool,
        waits: bool = False,
        pooled: bool = True,
        shared_by_key: bool = False,
    ) -> None:
        """`wasi`: the component imports some of WASI; `waits`: also `wasi:io/poll`. Without `pooled` each run looks for
        the address space that it may need. `shared_by_key`: the runs of an API key may share an instance, one after
        the other."""
        self._lanes = lanes
        self._compiled = compiled
        self._wasi = wasi
        self._waits = waits
        self._pooled = pooled
        self._shared = weakref.ref(self) if shared_by_key and lanes.keeps else None
        self._started = False  # whether an instance was ever made
        self._callbacks = {
            interface: _callbacks(interface, members) for interface, members in functions.items()
        }  # kept: the linkers only hold their addresses
        self._narrow = _Linked(lanes.narrow, compiled.component, self._callbacks, wasi=wasi, waits=waits)
        self._wide: _Linked | None = None
        self._lock = threading.Lock()

    def run(self, text: str, run: Run) -> str:
        """Run the guest on `text`. Returns its output, redacted. Raises SandboxError, or the exception of a host
        function. Nothing of the instance is left afterwards, unless the runs of the key share it; where one has
        failed, nothing is left either."""
        whose = Whose(self._shared, run.key) if self._shared is not None and run.key else None
        with self._lanes.taken(whose) as slot:
            return self._run_in(slot, text, run, shared=whose is not None)

    def _run_in(self, slot: Taken, text: str, run: Run, *, shared: bool) -> str:
        kept, slot.kept = slot.kept, None
        if isinstance(kept, _Instance):
            instance, run.meters.earlier_runs = kept, kept.runs
        else:
            instance = _Instance(self._narrow if slot.narrow else self._on_the_wide_lane(), run, wasi=self._wasi)
        outer = getattr(_current, "call", None)  # of a run whose host function started this one
        _current.call = run
        began = time.monotonic()
        run.begin_cpu_time()
        try:
            with self._lanes.ticker.ticking():
                if not instance.runs:
                    self._start(instance, run)
                answer = instance.call(text, run)
                if shared and slot.narrow and instance.runs < _MOST_RUNS:
                    slot.kept = instance
                return answer
        except failure.Trapped as trapped:
            raise failure.classify(trapped, run, instance.streams) from None
        finally:
            if slot.kept is None:
                instance.close()
            _ready.pop(run.id, None)
            _current.call = outer
            run.end_cpu_time()
            run.meters.sandbox_time_s = time.monotonic() - began - run.meters.upstream_time_s

    def _on_the_wide_lane(self) -> _Linked:
        """Raises Busy where there is no room for that lane."""
        with self._lock:
            if self._wide is None:
                try:
                    engine = self._lanes.wide
                    component = self._compiled.for_engine(engine)
                    self._wide = _Linked(engine, component, self._callbacks, wasi=self._wasi, waits=self._waits)
                except (OSError, WasmtimeError):
                    raise failure.no_room() from None
            return self._wide

    def _start(self, instance: _Instance, run: Run) -> None:
        """Raises Trapped, Busy."""
        if not self._pooled and not has_room():
            raise failure.no_room()
        linked = instance.linked
        try:
            instance.start(run)
        except WasmtimeError as error:
            used_up = self._started or not has_room()  # asked first: without a pool, other runs make room as they end
            links = self._links(linked)
            raise failure.Trapped(error, links=links, no_room=used_up and not (links and self._pooled)) from None
        self._started = True

    def _links(self, linked: _Linked) -> bool:
        """Whether there is an instance where nothing is limited but its time, which is none: a guest that would run
        at its start is stopped there, and linked. Asked after an instantiation failed."""
        started = False

        @_OnEpoch  # type: ignore[untyped-decorator]
        def stop(_context: Any, _data: Any, _delta: Any, _kind: Any) -> int:
            nonlocal started
            started = True
            return _trap()

        store = Store(linked.engine)
        try:
            if self._wasi:
                store.set_wasi(WasiConfig())
            ffi.wasmtime_store_epoch_deadline_callback(store.ptr(), stop, None, NO_FINALIZER)
            store.set_epoch_deadline(0)
            linked.linker.instantiate(store, linked.component)
        except WasmtimeError:
            return started
        finally:
            store.close()
        return True


class _Linked:
    """A component, linked for one engine."""

    def __init__(self, engine: Engine, component: Component, callbacks: Callbacks, *, wasi: bool, waits: bool) -> None:
        self.engine = engine
        self.component = component
        self.linker = Linker(engine)
        if wasi:
            self.linker.add_wasip2()
            self.linker.allow_shadowing = True  # what is of WASI in `callbacks` takes the place of wasmtime's
        for interface, members in callbacks.items():
            _define(self.linker, interface, members)
        self.asker = poll.Asker(engine) if waits else None
        if waits:
            name = poll.linked_name(engine, _block, NO_FINALIZER)
            _define(self.linker, name, {poll.BLOCK: _block, poll.POLL: _poll})
        run_index = component.get_export_index("run", component.get_export_index(RUN))
        assert run_index is not None
        self.run_index = run_index


class _Instance:
    """One instance in a store of its own."""

    def __init__(self, linked: _Linked, run: Run, *, wasi: bool) -> None:
        """`wasi`: it has standard streams."""
        self.linked = linked
        self.runs = 0
        self._store = Store(linked.engine)
        self.streams = StandardStreams(run) if wasi else None
        self._ready: Any = None
        self._function: Any = None

    def start(self, run: Run) -> None:
        """Instantiate it, within the limits of the run. A guest may run at its start. Raises WasmtimeError."""
        store, linked = self._store, self.linked
        memory = run.limits.max_memory_bytes
        library.limiter(store.ptr(), memory, MAX_TABLE_ELEMENTS, MAX_CORE_INSTANCES, MAX_TABLES * 4, 1)
        if self.streams is not None:
            config = WasiConfig()
            self.streams.attach(config)
            store.set_wasi(config)
        library.epoch_deadline_callback(store.ptr(), _on_epoch, None, NO_FINALIZER)
        library.set_epoch_deadline(store._context(), 1)  # noqa: SLF001 - as below
        if linked.asker is not None:
            self._ready = _ready[run.id] = linked.asker.begin(store, linked.linker)
        instance = linked.linker.instantiate(store, linked.component)
        function = instance.get_func(store, linked.run_index)
        assert function is not None
        self._function = function._func  # noqa: SLF001 - below the library's slow conversions

    def call(self, text: str, run: Run) -> str:
        """The answer of the guest. Raises Trapped."""
        if self.runs:
            library.set_epoch_deadline(self._store._context(), 1)  # noqa: SLF001 - as above
            if self._ready is not None:
                _ready[run.id] = self._ready
            if self.streams is not None:
                self.streams.clear()
        self.runs += 1
        return _call_run(self._function, self._store._context(), text, run)  # noqa: SLF001 - as above

    def close(self) -> None:
        self._store.close()
        if self.streams is not None:
            self.streams.close()


def _call_run(function: Any, context: Any, text: str, run: Run) -> str:
    arguments = (ffi.wasmtime_component_val_t * 1)()
    results = (ffi.wasmtime_component_val_t * 1)()
    _put_string(arguments[0], text)
    try:
        error = ffi.wasmtime_component_func_call(byref(function), context, arguments, 1, results, 1)
    finally:
        (library.val_delete if len(text) <= SMALL else ffi.wasmtime_component_val_delete)(byref(arguments[0]))
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


def _callbacks(interface: str, members: Mapping[str, HostFunction]) -> dict[str, Any]:
    """The C callbacks of an interface, by the names of its functions."""
    contract = provided(interface) or {}
    return {name: _callback(function, contract[name].rooms) for name, function in members.items()}


def _define(linker: Linker, interface: str, callbacks: Mapping[str, Any]) -> None:
    with linker.root() as root, root.add_instance(interface) as instance:
        for name, callback in callbacks.items():
            if error := poll.add_function(instance, name, callback, NO_FINALIZER):
                raise WasmtimeError._from_ptr(error)  # noqa: SLF001 - the library has no other way in


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
                if run.turn is not None and not run.turn.held:
                    run.turn.resume()
        except BaseException as error:  # noqa: BLE001 - an exception must not enter wasmtime: it would be lost, or another run's
            run.fail(error)
        return 0 if run.check() is None else _trap()

    return enter


_block, _poll = _wait_callback(poll.block), _wait_callback(poll.poll)


@_OnEpoch  # type: ignore[untyped-decorator]
def _on_epoch(_context: Any, _data: Any, delta: Any, kind: Any) -> int:
    """Called at each epoch: traps the guest on this thread if its run must end."""
    run: Run = _current.call
    try:
        stopped = run.check()
        if stopped is None and run.turn is not None:
            run.turn.share()
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
        (library.byte_vec_delete if size <= SMALL else ffi.wasm_byte_vec_delete)(byref(held))


def _put_string(value: Any, text: str) -> None:
    """Make `value` the string `text`. What UTF-8 cannot hold (a lone surrogate) becomes `?`: never an exception."""
    encoded = text.encode("utf-8", "replace")
    value.kind = _STRING
    size = len(encoded)
    new = library.byte_vec_new if size <= SMALL else ffi.wasm_byte_vec_new
    new(byref(value.of.string), size, _encoded_pointer(encoded))


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
            value.of.result.val = library.val_new(byref(inner))
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
