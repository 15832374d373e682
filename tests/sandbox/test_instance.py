from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from wasmtime import wat2wasm

from host import Host, errors
from host.core.names import Digest
from host.core.wit import IMPORTS, LOG, SECRETS, Err, Ok
from host.run import Run
from host.sandbox import Loaded, Sandbox
from tests.conftest import wat
from tests.sandbox.conftest import component_text


@pytest.fixture
def load(sandbox: Sandbox) -> Callable[..., Loaded]:
    def load(text: str) -> Loaded:
        wasm = bytes(wat2wasm(text))
        return sandbox.load(wasm, Digest.of(wasm))

    return load


def test_a_guest_gets_its_input_and_its_output_comes_back(load, new_call) -> None:
    echo = load(component_text()).link({})
    assert echo.run("grüße 🌍", new_call()) == "grüße 🌍"
    assert echo.run("", new_call()) == ""


def test_what_utf8_cannot_hold_is_replaced_and_raises_nothing(load, new_call) -> None:
    assert load(component_text()).link({}).run("a\ud800b", new_call()) == "a?b"


def test_every_run_has_a_memory_of_its_own(load, new_call) -> None:
    counts = component_text(
        body="(i32.store (i32.const 32) (i32.add (i32.load (i32.const 32)) (i32.const 1)))"
        "(if (i32.gt_u (i32.load (i32.const 32)) (i32.const 1)) (then unreachable))"
    )
    guest = load(counts).link({})
    for _ in range(20):
        assert guest.run("x", new_call()) == "x"


def test_output_over_its_limit_is_not_even_decoded(load, new_call) -> None:
    guest = load(component_text()).link({})
    assert guest.run("x" * 100, new_call(max_output_bytes=100)) == "x" * 100
    with pytest.raises(errors.OutputTooLarge):
        guest.run("x" * 101, new_call(max_output_bytes=100))


def test_memory_that_a_guest_begins_with_counts(load, new_call) -> None:
    guest = load(component_text()).link({})
    with pytest.raises(errors.MemoryExceeded):
        guest.run("x", new_call(max_memory_bytes=65_536))


def test_memory_that_a_guest_begins_with_counts_also_where_it_runs_code_at_its_start(load, new_call) -> None:
    guest = load(component_text(extra="(func $begin) (start $begin)")).link({})
    assert guest.run("x", new_call()) == "x"
    with pytest.raises(errors.MemoryExceeded):
        guest.run("x", new_call(max_memory_bytes=65_536))


def test_a_run_that_was_cancelled_before_it_began_does_not_run(load, new_call) -> None:
    run = new_call()
    run.cancel()
    with pytest.raises(errors.Cancelled):
        load(component_text()).link({}).run("x", run)


def test_a_loop_is_cancelled_from_another_thread_alone(load, new_call) -> None:
    spins = load(component_text(body="(loop $l (br $l))")).link({})
    echo = load(component_text()).link({})
    run, started = new_call(timeout_s=30), threading.Event()
    ended: list[BaseException] = []

    def work() -> None:
        started.set()
        try:
            spins.run("x", run)
        except errors.HostError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    assert echo.run("other", new_call()) == "other"
    run.cancel()
    thread.join(timeout=60)
    assert [type(error) for error in ended] == [errors.Cancelled]


# host functions


class Fault(BaseException):
    pass


def _logging_guest() -> str:
    return """
(component
  (import "catalyst:host/log@0.1.0" (instance $log (export "write" (func (param "level" string) (param "message" string)))))
  (core module $libc (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $libc (instantiate $libc))
  (core func $write (canon lower (func $log "write") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core module $m
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (import "libc" "memory" (memory 2))
    (data (i32.const 64) "info")
    (func (export "run") (param $at i32) (param $size i32) (result i32)
      (call $write (i32.const 64) (i32.const 4) (local.get $at) (local.get $size))
      (i32.store (i32.const 16) (local.get $at))
      (i32.store (i32.const 20) (local.get $size))
      (i32.const 16)))
  (core instance $i (instantiate $m
    (with "host" (instance (export "write" (func $write))))
    (with "libc" (instance $libc))))
  (func $run (param "input" string) (result string)
    (canon lift (core func $i "run") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (instance $out (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $out)))
"""


def test_a_host_function_is_called_with_the_run_that_called_it(load, new_call) -> None:
    seen: list[tuple[Run, str, str]] = []
    guest = load(_logging_guest()).link({LOG: {"write": lambda run, level, text: seen.append((run, level, text))}})
    first, second = new_call(), new_call()
    guest.run("one", first)
    guest.run("two", second)
    assert seen == [(first, "info", "one"), (second, "info", "two")]


@pytest.mark.parametrize(
    "fault", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), Fault(), errors.AuditError("full")], ids=repr
)
def test_what_a_host_function_raises_ends_the_run_and_reaches_its_caller(load, new_call, fault: BaseException) -> None:
    def write(run: Run, level: str, text: str) -> None:
        raise fault

    guest = load(_logging_guest()).link({LOG: {"write": write}})
    expected = errors.SandboxError if isinstance(fault, ValueError) else type(fault)
    with pytest.raises(expected):
        guest.run("x", new_call())
    assert load(component_text()).link({}).run("after", new_call()) == "after"


def test_a_host_function_may_start_a_run_of_its_own(load, new_call) -> None:
    seen: list[str] = []
    echo = load(component_text()).link({})

    def write(run: Run, level: str, text: str) -> None:
        seen.append(echo.run(text + "!", new_call()))

    guest = load(_logging_guest()).link({LOG: {"write": write}})
    assert guest.run("a", new_call()) == "a"
    assert seen == ["a!"]


def test_exceptions_of_parallel_runs_are_not_mixed_up(load, new_call) -> None:
    def write(run: Run, level: str, text: str) -> None:
        raise errors.AuditError(text)

    guest = load(_logging_guest()).link({LOG: {"write": write}})
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(50):
            said = f"{number}/{turn}"
            try:
                guest.run(said, new_call())
            except errors.AuditError as error:
                if error.message != said:
                    wrong.append(f"{said} got {error.message}")
            else:
                wrong.append(f"{said} got nothing")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_host_function_that_returns_what_cannot_be_encoded_gets_it_replaced(host: Host, new_call) -> None:
    wasm = wat("secret_printer")
    functions = {name: dict.fromkeys(members, lambda run, *given: "{}") for name, members in IMPORTS.items()}
    functions[LOG] = {"write": lambda run, level, text: None}
    loaded = host._loader.sandbox.load(wasm, Digest.of(wasm))
    for returned, shown in ((Ok("a\udfffb"), "a?b"), (Err("no"), "refused: no"), (Ok(""), "")):
        functions[SECRETS] = {"get": lambda run, name, returned=returned: returned}
        assert loaded.link({name: functions[name] for name in loaded.imports}).run("{}", new_call()) == shown


def test_a_guest_that_is_like_a_rust_build_runs_in_an_empty_wasi(host: Host) -> None:
    catalyst = host.load(wat("rust_like"))
    assert [name for name in catalyst.imports if name.startswith("wasi:")] == [
        "wasi:io/error@0.2.6",
        "wasi:io/streams@0.2.6",
        "wasi:cli/environment@0.2.6",
        "wasi:cli/exit@0.2.6",
        "wasi:cli/stderr@0.2.6",
    ]
    assert catalyst.run({}).data == {"environment": "empty"}
