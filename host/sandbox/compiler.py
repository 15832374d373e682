"""Compiling a component, in a child process: it cannot be interrupted, and some inputs explode.

The child gets the bytes on its standard input, limits itself, and writes the compiled code to its standard output,
which is a file in memory that only this process and the child have.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from host.core import environment
from host.core.quantities import parse_duration, parse_size
from host.errors import CompileError, CompileLimitExceeded, ContractError, InputError, PolicyError

_REFUSED = 65  # EX_DATAERR of sysexits.h: wasmtime does not accept the bytes
_OTHER_CONTRACT = 76  # EX_PROTOCOL: it is not within the contract
_NO_MEMORY = 71  # EX_OSERR: the child met its memory limit in Python


_SUSPECT = (
    "a component that is this hard to compile is suspect; the limits are HOST_COMPILE_TIME, HOST_COMPILE_CPU_TIME and "
    "HOST_COMPILE_MEMORY"
)


@dataclass(frozen=True, slots=True)
class CompileLimits:
    """What compiling one component may take: processor time, time, and memory of the child process."""

    cpu_time_s: int = 60  # an 18 MB Python catalyst takes 6
    wall_time_s: float = 120.0
    max_memory_bytes: int = 4 << 30  # an 18 MB Python catalyst takes 1 GiB

    @classmethod
    def configured(cls) -> CompileLimits:
        """Those that the operator set in the environment, or the defaults. Raises InputError, which names the
        variable."""
        given: dict[str, float] = {}
        for name, variable, read in (
            ("cpu_time_s", "HOST_COMPILE_CPU_TIME", lambda text: max(1, round(parse_duration(text)))),
            ("wall_time_s", "HOST_COMPILE_TIME", parse_duration),
            ("max_memory_bytes", "HOST_COMPILE_MEMORY", parse_size),
        ):
            if (text := environment.optional(variable)) is not None:
                try:
                    given[name] = read(text)
                except PolicyError as error:
                    raise InputError(f"{variable}: {error.message}", field=variable, hint=error.hint) from None
        return cls(**given)  # type: ignore[arg-type]  # each has the type of its field


@contextmanager
def memory_file(name: str) -> Iterator[int]:
    """A file descriptor of an unnamed file in memory (where the system has none, of an unlinked temporary file)."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        import tempfile  # noqa: PLC0415 - for such systems alone

        with tempfile.TemporaryFile() as unlinked:
            fd = os.dup(unlinked.fileno())
    try:
        yield fd
    finally:
        os.close(fd)


def compile_component(
    wasm: bytes, output_fd: int, *, pooling: bool, limits: CompileLimits, wasi: Iterable[str] = ()
) -> None:
    """Write the compiled form of `wasm` to `output_fd`, if it is within the contract: the child checks that too, where
    its limits hold. `wasi` is for `check_contract`. Raises CompileError, CompileLimitExceeded, ContractError."""
    import subprocess  # noqa: PLC0415 - most components are found compiled

    script = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from host.sandbox.compiler import child; child()"
    argv = [
        sys.executable, "-I", "-c", script, json.dumps(sys.path),
        str(int(pooling)), str(limits.cpu_time_s), str(limits.max_memory_bytes), json.dumps([*wasi]),
    ]  # fmt: skip
    with memory_file("wasm") as source:
        _write_all(source, wasm)
        os.lseek(source, 0, os.SEEK_SET)
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter and module
                argv,
                stdin=source,
                stdout=output_fd,
                stderr=subprocess.PIPE,
                timeout=limits.wall_time_s,
                check=False,
                env=environment.for_children(),
            )
        except subprocess.TimeoutExpired:
            raise CompileLimitExceeded(
                f"compiling it took longer than {limits.wall_time_s:g} s",
                hint=_SUSPECT,
            ) from None
    if done.returncode == _REFUSED:
        raise CompileError("wasmtime does not accept it: " + _short(done.stderr))
    if done.returncode == _OTHER_CONTRACT:
        raise ContractError(**json.loads(done.stderr))
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise CompileLimitExceeded(
            f"compiling it took more than {limits.cpu_time_s} s of CPU time, or was killed", hint=_SUSPECT
        )
    if done.returncode in (_NO_MEMORY, -signal.SIGABRT, -signal.SIGSEGV):
        raise CompileLimitExceeded(
            f"compiling it took more than {limits.max_memory_bytes >> 20} MiB of memory", hint=_SUSPECT
        )
    if done.returncode != 0:
        raise CompileError(f"the compiler ended with status {done.returncode}")


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _short(stderr: bytes) -> str:
    """wasmtime's message, as one short line without control characters."""
    line = " ".join(stderr.decode("utf-8", "replace").split())
    return "".join(c for c in line if c.isprintable())[:300]


def child() -> None:
    """In the child process: compile standard input to standard output."""
    import resource  # noqa: PLC0415 - the child's own; there is none on some systems that a host may still import us on

    pooling, cpu_time_s, max_memory_bytes = (int(given) for given in sys.argv[2:5])
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_time_s, cpu_time_s + 1))
    resource.setrlimit(resource.RLIMIT_DATA, (max_memory_bytes, max_memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from wasmtime import WasmtimeError  # noqa: PLC0415 - after the limits
    from wasmtime.component import Component  # noqa: PLC0415 - after the limits

    from host.sandbox.engine import NARROW_SANDBOXES, new_engine  # noqa: PLC0415 - after the limits
    from host.sandbox.typecheck import check_contract  # noqa: PLC0415 - after the limits

    try:
        engine = new_engine(NARROW_SANDBOXES if pooling else 0)
        component = Component(engine, sys.stdin.buffer.read())
        check_contract(component, engine, wasi=json.loads(sys.argv[5]))
        compiled = component.serialize()
    except ContractError as error:
        sys.stderr.write(json.dumps({"message": error.message, "subject": error.subject, "hint": error.hint}))
        sys.stderr.flush()
        os._exit(_OTHER_CONTRACT)
    except WasmtimeError as error:
        sys.stderr.write(str(error))
        sys.stderr.flush()
        os._exit(_REFUSED)
    except MemoryError:
        os._exit(_NO_MEMORY)
    sys.stdout.buffer.write(compiled)
    sys.stdout.buffer.flush()
    os._exit(0)
