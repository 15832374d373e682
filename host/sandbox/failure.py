"""Why a run failed: decided from the state of the run, in this order, and never from the text of an error.

1. the host stopped it (cancelled, deadline, CPU time, host calls, output), or a host function failed
2. it did not start: there is no address space for it, it imports a WASI that this wasmtime does not have, or it does
   not fit the limits
3. the guest said what ended it (its report, written to the log before it trapped)
4. it exited
5. its stack ran out: wasmtime traps in the prologue of a function, which has no offset in the wasm code
6. it trapped
"""

from __future__ import annotations

import ctypes
from typing import assert_never

from wasmtime import ExitTrap, WasmtimeError
from wasmtime import _ffi as ffi

from host.core.quantities import as_duration, as_size
from host.errors import (
    Busy,
    CallerTimeout,
    Cancelled,
    ContractError,
    CpuTimeExceeded,
    DeadlineExceeded,
    GuestException,
    GuestTrap,
    HostCallsExceeded,
    HostError,
    MemoryExceeded,
    OutputTooLarge,
    SandboxError,
    StackExhausted,
    UpstreamTimeout,
)
from host.run import GuestReport, Run, Stop
from host.sandbox.wasi import StandardStreams

_UNTOLD = (
    'it gave no reason: with "log": true in its manifest an exception is told; print, files, the clock and imports '
    "that come too late end a run like this, as running out of its {} MiB of memory does"
)
_NO_OFFSET = (1 << 64) - 1
_FRAMES_KEPT = 20  # by wasmtime, of any backtrace


class Trapped(Exception):
    """The guest did not return. `error` is wasmtime's, if there is one. `links` is set if there was no instance yet: it
    says whether there would be one without limits. `no_room` says that the address space was used up."""

    def __init__(self, error: WasmtimeError | None, *, links: bool | None = None, no_room: bool = False) -> None:
        self.error = error
        self.links = links
        self.no_room = no_room


def classify(trapped: Trapped, run: Run, streams: StandardStreams | None) -> BaseException:
    """The exception that the run's caller gets."""
    if run.stopped is not None:
        return stopped(run.stopped, run)
    if trapped.links is not None and not (trapped.error and _ran(trapped.error)):
        if trapped.no_room:
            return no_room()
        if not trapped.links:
            return ContractError("the component imports a WASI that this host's wasmtime does not have", subject="wasi")
        return MemoryExceeded(
            f"the component needs more memory, tables or instances than a run may have ({_mib(run)} MiB of memory)",
            hint="raise max_memory_bytes if it is meant to be that large",
        )
    if run.report is not None:
        return _reported(run.report, run)
    stderr = run.redactor.text(streams.text()) if streams is not None else ""
    if isinstance(trapped.error, ExitTrap):
        return GuestTrap(f"the guest exited with status {trapped.error.code}", stderr=stderr)
    if trapped.error is not None and _ran_out_of_stack(trapped.error):
        return StackExhausted("the guest recursed too deeply: its stack is used up")
    reason = None if stderr else _UNTOLD.format(_mib(run))
    return GuestTrap("the guest trapped", stderr=stderr, hint=reason)


def no_room() -> Busy:
    return Busy(
        "there is no address space left for another sandbox",
        hint="fewer runs at once, or more of `ulimit -v`: a sandbox takes 4 GiB of it",
    )


def stopped(why: Stop, run: Run) -> BaseException:
    """The exception that the caller of a run gets that the host stopped."""
    limits = run.limits
    match why:
        case Stop.FAULT:
            assert run.fault is not None
            if isinstance(run.fault, HostError) or not isinstance(run.fault, Exception):
                return run.fault
            return SandboxError(f"a host function failed: {type(run.fault).__name__}")
        case Stop.CANCELLED:
            return Cancelled("the run was cancelled")
        case Stop.DEADLINE:
            return _too_long(run)
        case Stop.CALLER:
            return CallerTimeout(
                f"the caller took no event for {limits.idle_timeout_s:g} s",
                hint=run.raising("idle_timeout", as_duration(limits.idle_timeout_s * 2)),
            )
        case Stop.CPU_TIME:
            return CpuTimeExceeded(
                f"the run used more than {limits.cpu_time_s:g} s of CPU time",
                hint=run.raising("cpu_time", as_duration(limits.cpu_time_s * 2)),
            )
        case Stop.HOST_CALLS:
            return HostCallsExceeded(f"the guest called the host more than {limits.max_host_calls} times")
        case Stop.OUTPUT:
            return OutputTooLarge(
                f"the guest put out more than {limits.max_output_bytes} bytes",
                hint=run.raising("max_output_size", as_size(limits.max_output_bytes * 2)),
            )
        case _:
            assert_never(why)


def _too_long(run: Run) -> DeadlineExceeded:
    """The error for a run that is over its time, by the party that took most of it."""
    limit, seconds = run.time_limit
    hint = run.raising(limit, as_duration(seconds * 2))
    match run.waited_for:
        case "upstream":
            said = f"the upstream's answer was not there in whole after {seconds:g} s, the time of the run"
            return UpstreamTimeout(said, limit=limit, waited_s=seconds, hint=hint)
        case "caller":
            return CallerTimeout(f"the caller had not taken the whole answer after {seconds:g} s", hint=hint)
        case "guest":
            return DeadlineExceeded(f"the run took longer than {seconds:g} s", hint=hint)


def _reported(report: GuestReport, run: Run) -> SandboxError:
    if report.exception == "MemoryError":
        return MemoryExceeded(
            f"the guest ran out of memory: it may have {_mib(run)} MiB",
            hint="raise max_memory_bytes if that is too little",
        )
    if report.exception == "RecursionError":
        return StackExhausted("the guest recursed too deeply")
    said = ": ".join(part for part in (report.exception, report.message) if part)
    return GuestException(f"the guest raised {said}", exception=report.exception, traceback=report.traceback)


def _mib(run: Run) -> int:
    return run.limits.max_memory_bytes >> 20


def _frames(error: WasmtimeError) -> list[int]:
    """The offset in its function of each frame of the guest's backtrace, innermost first."""
    frames = ffi.wasm_frame_vec_t()
    ffi.wasmtime_error_wasm_trace(error.ptr(), ctypes.byref(frames))
    try:
        return [ffi.wasm_frame_func_offset(frames.data[i]) for i in range(frames.size)]
    finally:
        ffi.wasm_frame_vec_delete(ctypes.byref(frames))


def _ran(error: WasmtimeError) -> bool:
    """Whether any code of the guest ran before `error`."""
    return bool(_frames(error))


def _ran_out_of_stack(error: WasmtimeError) -> bool:
    frames = _frames(error)
    return len(frames) == _FRAMES_KEPT and frames[0] == _NO_OFFSET
