"""Compiling happens in a child with limits, and the host goes on answering."""

from __future__ import annotations

import os
import threading

import pytest
from wasmtime import wat2wasm

from host import errors
from host.core.names import Digest
from host.sandbox import CompileLimits, Sandbox
from tests.sandbox.conftest import component_text


def _slow_to_compile(variables: int = 2_000, blocks: int = 20_000) -> bytes:
    """A third of a megabyte that takes eight seconds: one function whose many blocks each change one of many variables."""
    declared = " ".join(f"(local $v{i} i64)" for i in range(variables))
    steps = "".join(
        f"(if (i64.eqz (local.get $v{i % variables})) (then (local.set $v{(i * 7 + 1) % variables}"
        f" (i64.add (local.get $v{i * 3 % variables}) (i64.const 1)))))"
        for i in range(blocks)
    )
    again = "(br_if $again (i64.eqz (local.get $v0)))"
    return bytes(wat2wasm(component_text(extra=f"(func {declared} (loop $again {steps} {again}))")))


def test_a_component_that_explodes_is_stopped_by_its_cpu_time(places) -> None:
    sandbox = Sandbox(*places, compile_limits=CompileLimits(cpu_time_s=1))
    wasm = _slow_to_compile()
    with pytest.raises(errors.CompileLimitExceeded):
        sandbox.load(wasm, Digest.of(wasm))
    sandbox.close()


def test_a_component_that_explodes_is_stopped_by_wall_clock_time(places) -> None:
    sandbox = Sandbox(*places, compile_limits=CompileLimits(wall_time_s=0.2))
    wasm = _slow_to_compile()
    with pytest.raises(errors.CompileLimitExceeded):
        sandbox.load(wasm, Digest.of(wasm))
    sandbox.close()


def test_a_component_that_explodes_is_stopped_by_its_memory(places) -> None:
    sandbox = Sandbox(*places, compile_limits=CompileLimits(max_memory_bytes=48 << 20))
    wasm = _slow_to_compile()
    with pytest.raises(errors.CompileLimitExceeded):
        sandbox.load(wasm, Digest.of(wasm))
    sandbox.close()


def test_other_runs_go_on_while_something_compiles(places, new_call) -> None:
    sandbox = Sandbox(*places)
    echo = bytes(wat2wasm(component_text()))
    instances = sandbox.load(echo, Digest.of(echo)).link({})
    wasm = _slow_to_compile(variables=500, blocks=5_000)
    thread = threading.Thread(target=sandbox.load, args=(wasm, Digest.of(wasm)))
    thread.start()
    answered = 0
    while thread.is_alive() and answered < 20:
        assert instances.run("x", new_call()) == "x"
        answered += 1
    thread.join()
    sandbox.close()
    assert answered > 0


def test_bytes_that_wasmtime_refuses_are_an_error_with_its_reason(places) -> None:
    sandbox = Sandbox(*places)
    wasm = bytes(wat2wasm(component_text(extra="(func (result i32) (i64.const 1))")))
    with pytest.raises(errors.CompileError, match="wasmtime does not accept it") as caught:
        sandbox.load(wasm, Digest.of(wasm))
    sandbox.close()
    assert os.getcwd() not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b"(component)", "text", id="WebAssembly text, which the library would compile as well"),
        pytest.param(b"\0asm\x01\0\0\0", "core", id="a core module"),
        pytest.param(b"\0asm\x09\0\x01\0", "unknown version", id="a version to come"),
        pytest.param(b"\x7fELF" + bytes(60), "not a WebAssembly component", id="a program"),
    ],
)
def test_what_is_no_component_binary_never_reaches_the_compiler(sandbox, content: bytes, said: str) -> None:
    with pytest.raises(errors.NotAComponent, match=said):
        sandbox.load(content, Digest.of(content))
